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

// The page of the contract, which has no script of its own in it, so that its policy can forbid those.
//
//go:embed docs
var docs embed.FS

// own is what the edge answers itself. Its patterns are plain paths.
type own struct {
	mux   *http.ServeMux
	paths map[string]bool
}

func (o own) handle(path, pattern string, handler http.Handler) {
	o.mux.Handle(pattern, handler)
	o.paths[path] = true
}

// Handler returns the handler of a request, and its pattern; "" where it is not for the edge itself. The mux is asked for its own
// paths alone, because for any other it looks for the methods that would match, which takes longer than to find a function.
func (o own) Handler(r *http.Request) (handler http.Handler, pattern string) {
	if !o.paths[r.URL.Path] {
		return nil, ""
	}
	return o.mux.Handler(r)
}

// ownRoutes is the contract, and Swagger UI from the binary to read it with.
func ownRoutes(contract []byte) own {
	mux := own{http.NewServeMux(), make(map[string]bool)}
	mux.handle("/openapi.yaml", "/openapi.yaml", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(contract) // the client may be gone, and there is nobody else to tell
	}))
	for path, kind := range map[string]string{"/docs": "text/html", "/docs/{$}": "text/html", "/docs/docs.css": "text/css", "/docs/init.js": "text/javascript"} {
		name := "docs/index.html"
		if kind != "text/html" {
			name = path[1:]
		}
		text, err := docs.ReadFile(name)
		if err != nil {
			panic(err) // it is in the binary
		}
		mux.handle(strings.TrimSuffix(path, "{$}"), path, closed(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind+"; charset=utf-8")
			_, _ = w.Write(text) // the client may be gone
		})))
	}
	// Each file by its name: for any other path below /docs/ the file server has redirects and a 404 of its own.
	files, err := fs.ReadDir(static.FS, ".")
	if err != nil {
		panic(err) // they are in the binary
	}
	ui := closed(byTheLetter(v5emb.New("Warble", "/openapi.yaml", "/docs/")))
	for _, file := range files {
		path := "/docs/" + strings.TrimSuffix(file.Name(), ".gz")
		mux.handle(path, path, ui)
	}
	return mux
}

// closed lets the page load what is the edge's own, and the pictures in Swagger UI's style, and nobody frame it.
func closed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// byTheLetter corrects what the file server takes lightly: its tags have no quotes, it compares them by itself, and it looks
// at no quality in Accept-Encoding.
func byTheLetter(files http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.Clone(r.Context())
		asked.Header.Del("If-None-Match")
		asked.Header.Del("Accept-Encoding")
		if acceptsGzip(r) {
			asked.Header.Set("Accept-Encoding", "gzip")
		}
		t := &tagging{ResponseWriter: w, r: r}
		files.ServeHTTP(t, asked)
		if !t.begun { // a HEAD
			t.WriteHeader(http.StatusOK)
		}
	})
}

// acceptsGzip reads Accept-Encoding (RFC 9110, section 12.5.3). A quality that cannot be read is 0.
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

// tagging is an answer whose ETag gets its quotes, and which is a 304 where the client has it.
type tagging struct {
	http.ResponseWriter

	r     *http.Request
	begun bool
	had   bool // by the client
}

func (t *tagging) WriteHeader(status int) {
	header := t.Header()
	if tag := header.Get("ETag"); tag != "" && !t.begun {
		tag = strconv.Quote(tag) // of letters and digits
		header.Set("ETag", tag)
		if t.had = status == http.StatusOK && function.HasTag(t.r, tag); t.had {
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
	if t.had {
		return len(text), nil
	}
	return t.ResponseWriter.Write(text)
}
