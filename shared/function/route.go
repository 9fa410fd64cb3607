package function

import (
	"net/http"
	"path"
	"strings"

	"warble/shared/problem"
)

// unmatched is the route of a request that no pattern matches. The path must not become a label, because anyone can send any number of
// paths.
const unmatched = "unmatched"

// router is a ServeMux that answers with a problem if no route matches.
type router struct {
	mux    *http.ServeMux // the routes, and "/" for everything else
	routes *http.ServeMux // only the routes, to find the methods of a path

	revision []string // X-Revision of every answer; nil outside of Knative
}

// mux returns a handler that routes requests by pattern, and sets Exchange.Route.
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

// named sets the exchange's route. http.Request.Pattern cannot be used afterwards, because it is set on a copy of the request that
// the access line does not see.
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

// ServeHTTP never redirects. ServeMux would redirect a path with dots or double slashes to its clean form.
func (m *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.revision != nil {
		w.Header()["X-Revision"] = m.revision // shows where a traffic split has sent the request
	}
	if !CleanPath(r.URL.Path) {
		m.miss(w, r)
		return
	}
	m.mux.ServeHTTP(w, r)
}

// CleanPath reports whether ServeMux would serve p without a redirect: p has no dots and no double slashes. It may have a trailing slash.
func CleanPath(p string) bool {
	return p != "" && p[0] == '/' && path.Clean(p) == strings.TrimSuffix(p, "/") || p == "/"
}

// methods are the methods that a 405 can list.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// miss answers 405 if the path takes other methods, and otherwise 404.
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

// Pattern returns the route of a request that has not been routed yet.
func (m *router) Pattern(r *http.Request) string {
	_, pattern := m.routes.Handler(r)
	if _, route, ok := strings.Cut(pattern, " "); ok {
		return route
	}
	return pattern
}

// patternOf returns a function that names a request's trace span: by the handler's pattern if the handler has patterns, else "unmatched".
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
