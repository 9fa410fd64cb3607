package function

import (
	"net/http"
	"path"
	"strings"

	"warble/shared/problem"
)

// unmatched is the route of a request that no pattern matches. Its path is never a label: anyone can make any number.
const unmatched = "unmatched"

// router is a ServeMux whose misses are problems.
type router struct {
	mux    *http.ServeMux // the routes, and "/" for the misses
	routes *http.ServeMux // the routes alone, to ask which methods a path takes

	revision []string // X-Revision of every answer; nil outside of Knative
}

// mux routes by pattern and names the route of each request.
func (f *Function) mux(routes Routes) http.Handler {
	m := &router{mux: http.NewServeMux(), routes: http.NewServeMux()}
	if f.revision != "" {
		m.revision = []string{f.revision}
	}
	for pattern, handler := range routes {
		handler = named(pattern, handler)
		m.mux.Handle(pattern, handler)
		m.routes.Handle(pattern, handler)
	}
	m.mux.HandleFunc("/", m.miss)
	return m
}

// named sets the exchange's route. It is done here rather than read from http.Request.Pattern afterwards, which is set
// on a copy of the request that the access line does not see.
func named(pattern string, handler http.Handler) http.Handler {
	_, route, _ := strings.Cut(pattern, " ")
	if route == "" {
		route = pattern
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Current(r.Context()).Route = route
		handler.ServeHTTP(w, r)
	})
}

// ServeHTTP never redirects: ServeMux would, to the clean form of a path that has dots or double slashes in it.
func (m *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.revision != nil {
		w.Header()["X-Revision"] = m.revision // who splits traffic sees by it what became of a request
	}
	if !CleanPath(r.URL.Path) {
		m.miss(w, r)
		return
	}
	m.mux.ServeHTTP(w, r)
}

// CleanPath reports whether p is in the form that ServeMux does not redirect: no dots, no double slashes. A trailing
// slash is clean.
func CleanPath(p string) bool {
	return p != "" && p[0] == '/' && path.Clean(p) == strings.TrimSuffix(p, "/") || p == "/"
}

// methods are those that a 405 can name.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// miss answers 405 where the path takes another method, and 404 otherwise.
func (m *router) miss(w http.ResponseWriter, r *http.Request) {
	var allow []string
	if CleanPath(r.URL.Path) {
		other := *r
		for _, other.Method = range methods {
			if _, pattern := m.routes.Handler(&other); pattern != "" {
				allow = append(allow, other.Method)
			}
		}
	}
	if len(allow) == 0 {
		Fail(w, r, problem.NotFound.Detail("no endpoint has the path %s", r.URL.Path))
		return
	}
	p := problem.WrongMethod.Detail("%s takes %s, not %s", r.URL.Path, strings.Join(allow, ", "), r.Method)
	p.Allow = strings.Join(allow, ", ")
	Fail(w, r, p)
}

// Pattern names the route of a request that has not been routed yet.
func (m *router) Pattern(r *http.Request) string {
	_, pattern := m.routes.Handler(r)
	if _, route, ok := strings.Cut(pattern, " "); ok {
		return route
	}
	return pattern
}

// patternOf names the resource of a request's trace span, for a handler that knows its patterns.
func patternOf(handler http.Handler) func(*http.Request) string {
	m, ok := handler.(interface{ Pattern(r *http.Request) string })
	return func(r *http.Request) string {
		if ok {
			if pattern := m.Pattern(r); pattern != "" {
				return pattern
			}
		}
		return unmatched
	}
}
