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

// The page and its files. There is no build step: browsers get these files.
//
//go:embed assets
var files embed.FS

// New returns the routes of web. It needs no parameters, because the page is an ordinary client of the public API.
func New() function.Routes {
	return function.Routes{
		"GET /{$}":           http.HandlerFunc(home),
		"GET /confirm":       http.HandlerFunc(confirm),
		"GET /assets/{file}": http.HandlerFunc(asset),
	}
}

// setSecurityHeaders allows the page to load and call only its own origin, and no page may frame it. Browsers must check on each
// load whether the page has changed, so that a page does not use the script of another release for long.
func setSecurityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
}

// home serves the page to browsers, and a list of links in JSON to all other clients.
func home(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		serve(w, r, "index.html")
		return
	}
	setSecurityHeaders(w.Header())
	links.ServeHTTP(w, r)
}

var links = function.JSON(func(context.Context, struct{}) (homeLinks, error) {
	return homeLinks{"Warble", map[string]string{
		"contract": "/openapi.yaml", "documentation": "/docs", "register": "/auth/register", "login": "/auth/login", "communities": "/communities", "me": "/2/users/me", "tweets": "/2/tweets",
	}}, nil
}, function.Tagged())

// homeLinks lists where clients can go from here.
type homeLinks struct {
	Name  string            `json:"name"`
	Links map[string]string `json:"links"`
}

// asset serves a file that the page loads.
func asset(w http.ResponseWriter, r *http.Request) { serve(w, r, r.PathValue("file")) }

// mediaTypes has the media types by extension. Those of package mime depend on the machine.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

func serve(w http.ResponseWriter, r *http.Request, name string) {
	text, err := files.ReadFile("assets/" + name)
	if err != nil { // also if the name contains a slash
		function.Fail(w, r, problem.NotFound.Detail("there is no file %s", name))
		return
	}
	setSecurityHeaders(w.Header())
	if function.NotModified(w, r, text) {
		return
	}
	w.Header().Set("Content-Type", mediaTypes[path.Ext(name)])
	_, _ = w.Write(text) // if this fails, the client has left
}
