package main

import (
	"embed"
	"io/fs"
	"net/http"
	"strconv"
	"strings"

	"github.com/swaggest/swgui/v5/static"
	"github.com/swaggest/swgui/v5emb"

	"warble/shared/function"
)

// The page of the contract. It has no inline script, so that its policy can forbid inline scripts.
//
//go:embed docs
var docs embed.FS

// own has the paths that the edge answers itself. Its patterns are plain paths.
type own struct {
	mux   *http.ServeMux
	paths map[string]bool
}

func (o own) handle(path, pattern string, handler http.Handler) {
	o.mux.Handle(pattern, handler)
	o.paths[path] = true
}

// Handler returns the handler of a request, and its pattern; "" if the path is not the edge's own. It asks the mux only for the
// edge's own paths: for any other path the mux searches for methods that would match, which takes longer than finding a function.
func (o own) Handler(r *http.Request) (handler http.Handler, pattern string) {
	if !o.paths[r.URL.Path] {
		return nil, ""
	}
	return o.mux.Handler(r)
}

// ownRoutes serves the contract, and a Swagger UI from this binary to read it.
func ownRoutes(contract []byte) own {
	mux := own{http.NewServeMux(), make(map[string]bool)}
	mux.handle("/openapi.yaml", "/openapi.yaml", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(contract) // if this fails, the client has left
	}))
	for path, kind := range map[string]string{"/docs": "text/html", "/docs/{$}": "text/html", "/docs/docs.css": "text/css", "/docs/init.js": "text/javascript"} {
		name := "docs/index.html"
		if kind != "text/html" {
			name = path[1:]
		}
		text, err := docs.ReadFile(name)
		if err != nil {
			panic(err) // the file is in the binary
		}
		mux.handle(strings.TrimSuffix(path, "{$}"), path, withContentPolicy(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			_, _ = w.Write(text) // if this fails, the client has left
		})))
	}
	// Each file is registered by name, because the file server would answer any other path below /docs/ with its own redirects and
	// 404.
	files, err := fs.ReadDir(static.FS, ".")
	if err != nil {
		panic(err) // the files are in the binary
	}
	ui := withContentPolicy(withStrictCaching(v5emb.New("Warble", "/openapi.yaml", "/docs/")))
	for _, file := range files {
		path := "/docs/" + strings.TrimSuffix(file.Name(), ".gz")
		mux.handle(path, path, ui)
	}
	return mux
}

// withContentPolicy allows the page to load only the edge's own files, and the images in Swagger UI's styles. No page may frame it.
func withContentPolicy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// withStrictCaching corrects three mistakes of the file server: its ETags have no quotes, it compares ETags wrongly, and it ignores
// the weights (q=) in Accept-Encoding.
func withStrictCaching(files http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.Clone(r.Context())
		asked.Header.Del("If-None-Match")
		asked.Header.Del("Accept-Encoding")
		if acceptsGzip(r) {
			asked.Header.Set("Accept-Encoding", "gzip")
		}
		t := &tagging{ResponseWriter: w, r: r}
		files.ServeHTTP(t, asked)
		if !t.begun { // the request was a HEAD
			t.WriteHeader(http.StatusOK)
		}
	})
}

// acceptsGzip reads Accept-Encoding (RFC 9110, section 12.5.3). It takes an unreadable quality as 0.
func acceptsGzip(r *http.Request) bool {
	others := false
	for part := range strings.SplitSeq(strings.Join(r.Header["Accept-Encoding"], ","), ",") {
		coding, parameter, weighted := strings.Cut(strings.ToLower(part), ";")
		quality := 1.0
		if weighted {
			quality, _ = strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(parameter), "q="), 64)
		}
		switch strings.TrimSpace(coding) {
		case "gzip":
			return quality > 0
		case "*":
			others = quality > 0
		}
	}
	return others
}

// tagging adds quotes to an answer's ETag. It answers 304 if the client already has that version.
type tagging struct {
	http.ResponseWriter

	r           *http.Request
	begun       bool
	notModified bool // the client already has this version
}

func (t *tagging) WriteHeader(status int) {
	header := t.Header()
	if tag := header.Get("ETag"); tag != "" && !t.begun {
		tag = strconv.Quote(tag) // needs no escaping: letters and digits
		header.Set("ETag", tag)
		if t.notModified = status == http.StatusOK && function.HasTag(t.r, tag); t.notModified {
			status = http.StatusNotModified
			header.Del("Content-Length")
			header.Del("Content-Encoding")
		}
	}
	t.begun = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tagging) Write(text []byte) (int, error) {
	if !t.begun {
		t.WriteHeader(http.StatusOK)
	}
	if t.notModified {
		return len(text), nil
	}
	return t.ResponseWriter.Write(text)
}
