package main

import (
	"context"
	"embed"
	"net/http"
	"path"
	"strings"

	"warble/shared/function"
	"warble/shared/problem"
)

// The page, and what it loads. No file is built: what is here is what a browser gets.
//
//go:embed assets
var files embed.FS

// New returns the routes of web. It needs nothing: the page is a client of the public API, as any other.
func New() function.Routes {
	return function.Routes{
		"GET /{$}":           http.HandlerFunc(home),
		"GET /confirm":       http.HandlerFunc(confirm),
		"GET /assets/{file}": http.HandlerFunc(asset),
	}
}

// secure lets the page load and call its own origin alone, and nobody frame it. A browser asks each time whether the page
// has changed, so that a page never runs with the script of another release for long.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
}

// home is the page for a browser, and links for everyone else.
func home(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		serve(w, r, "index.html")
		return
	}
	secure(w.Header())
	links.ServeHTTP(w, r)
}

var links = function.JSON(func(context.Context, struct{}) (linked, error) {
	return linked{"Warble", map[string]string{
		"contract": "/openapi.yaml", "documentation": "/docs", "register": "/auth/register", "login": "/auth/login", "communities": "/communities", "me": "/2/users/me", "tweets": "/2/tweets",
	}}, nil
}, function.Tagged())

// linked is where to go from here.
type linked struct {
	Name  string            `json:"name"`
	Links map[string]string `json:"links"`
}

// asset is a file that the page loads.
func asset(w http.ResponseWriter, r *http.Request) { serve(w, r, r.PathValue("file")) }

// kinds are the media types by extension. Those of package mime depend on the machine.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

func serve(w http.ResponseWriter, r *http.Request, name string) {
	text, err := files.ReadFile("assets/" + name)
	if err != nil { // a name with a slash in it, too
		function.Fail(w, r, problem.NotFound.Detail("the page has no file %s", name))
		return
	}
	secure(w.Header())
	if function.NotModified(w, r, text) {
		return
	}
	w.Header().Set("Content-Type", kinds[path.Ext(name)])
	_, _ = w.Write(text) // the client may be gone, and there is nobody else to tell
}
