package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"warble/functions"
	"warble/shared/problem"
)

func TestTheContractIsServed(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	a := send(t, http.MethodGet, edge.url+"/openapi.yaml", "")
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != "application/yaml" || a.body != string(functions.OpenAPI) {
		t.Errorf("%s %v %.80s", a.Status, a.Header, a.body)
	}
	if head := send(t, http.MethodHead, edge.url+"/openapi.yaml", ""); head.StatusCode != http.StatusOK || head.body != "" {
		t.Errorf("HEAD: %s %q", head.Status, head.body)
	}
	if line := edge.log.line(t, a.Header.Get("X-Request-Id")); line["http.route"] != "/openapi.yaml" {
		t.Errorf("log line %v", line)
	}
}

// TestTheDocumentationComesFromTheBinary checks that every file of the page is served by the edge itself.
func TestTheDocumentationComesFromTheBinary(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	loaded := regexp.MustCompile(`<(?:script|link)[^>]* (?:src|href)="([^"]*)"`)
	outside := regexp.MustCompile(`(?i)(?:https?:)?//[a-z0-9-]+\.[a-z]`)
	for _, path := range []string{"/docs", "/docs/"} {
		page := send(t, http.MethodGet, edge.url+path, "")
		if page.StatusCode != http.StatusOK || !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") || !strings.HasPrefix(page.Header.Get("Content-Security-Policy"), "default-src 'self'; ") {
			t.Fatalf("%s: %s %v %.80s", path, page.Status, page.Header, page.body)
		}
		if url := outside.FindString(page.body); url != "" {
			t.Errorf("%s holds the outside URL %s", path, url)
		}
		if strings.Contains(page.body, "<script>") || strings.Contains(page.body, "style=") {
			t.Errorf("%s has a script or a style that its policy forbids", path)
		}
		assets := loaded.FindAllStringSubmatch(page.body, -1)
		if len(assets) < 4 {
			t.Errorf("%s loads %q", path, assets)
		}
		for _, asset := range assets {
			if !strings.HasPrefix(asset[1], "/docs/") {
				t.Errorf("%s loads %s", path, asset[1])
			}
			for _, encoding := range []string{"", "gzip", "zstd", "gzip, deflate, br, zstd"} {
				a := send(t, http.MethodGet, edge.url+asset[1], "", "Accept-Encoding", encoding)
				if got := a.Header.Get("Content-Encoding"); a.StatusCode != http.StatusOK || len(a.body) < 100 || got != "" && got != "gzip" {
					t.Errorf("%s as %q: %s, %d bytes, Content-Encoding %q", asset[1], encoding, a.Status, len(a.body), got)
				}
			}
		}
	}
}

func TestTheContractGoesToNoValidator(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	for _, want := range []string{`url: "/openapi.yaml"`, "validatorUrl: null"} {
		if script := send(t, http.MethodGet, edge.url+"/docs/init.js", ""); !strings.Contains(script.body, want) {
			t.Errorf("no %q in\n%s", want, script.body)
		}
	}
}

func TestOwnPathsTakeOnlyReads(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	for _, path := range []string{"/openapi.yaml", "/docs", "/docs/", "/docs/swagger-ui.css"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "BREW"} {
			a := send(t, method, edge.url+path, "")
			wantProblem(t, a, problem.WrongMethod)
			if allow := a.Header.Get("Allow"); allow != "GET, HEAD" {
				t.Errorf("%s %s: Allow %q", method, path, allow)
			}
		}
	}
	for _, path := range []string{"/docs/index.html", "/docs/nothing", "/docs/swagger-ui.css/", "/docs//", "/docs/../docs", "//docs", "/x/../openapi.yaml", "/openapi.yaml/", "/docs%2Fswagger-ui.css"} {
		wantProblem(t, send(t, http.MethodGet, edge.url+path, ""), problem.NotFound)
	}
}

// TestTheDocumentationHasStrictETags checks that ETags have quotes and are compared correctly, and that q=0 means no.
func TestTheDocumentationHasStrictETags(t *testing.T) {
	t.Parallel()
	edge := start(t, config{})
	const file = "/docs/swagger-ui.css"
	tags := map[string]string{}
	for accepted, want := range map[string]string{
		"gzip": "gzip", "GZIP;q=0.5": "gzip", "br, *": "gzip", "br;q=1, gzip; q=0.001": "gzip",
		"": "", "gzip;q=0": "", "gzip;q=0.000, *": "", "*;q=0": "", "br": "", "xgzip": "", "gzip;q=x": "",
	} {
		a := send(t, http.MethodGet, edge.url+file, "", "Accept-Encoding", accepted)
		if got := a.Header.Get("Content-Encoding"); a.StatusCode != http.StatusOK || got != want {
			t.Errorf("Accept-Encoding: %s: %s %q, want %q", accepted, a.Status, got, want)
		}
		tag := a.Header.Get("ETag")
		if !regexp.MustCompile(`^"[0-9A-Za-z]+"$`).MatchString(tag) {
			t.Errorf("ETag: %s", tag)
		}
		tags[want] = tag
	}
	if tags[""] == tags["gzip"] {
		t.Errorf("one tag for two forms: %v", tags)
	}
	for _, held := range []string{tags["gzip"], "W/" + tags["gzip"], `"other", ` + tags["gzip"], "*"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := send(t, method, edge.url+file, "", "Accept-Encoding", "gzip", "If-None-Match", held)
			if a.StatusCode != http.StatusNotModified || a.body != "" || a.Header.Get("ETag") != tags["gzip"] {
				t.Errorf("%s with If-None-Match: %s: %s, %d bytes, %v", method, held, a.Status, len(a.body), a.Header)
			}
		}
	}
	if a := send(t, http.MethodGet, edge.url+file, "", "Accept-Encoding", "gzip", "If-None-Match", strings.Trim(tags["gzip"], `"`)); a.StatusCode != http.StatusOK {
		t.Errorf("a tag without quotes: %s", a.Status)
	}
	if a := send(t, http.MethodHead, edge.url+file, ""); a.StatusCode != http.StatusOK || a.Header.Get("ETag") != tags[""] {
		t.Errorf("HEAD: %s %v", a.Status, a.Header)
	}
}
