package main

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"warble/shared/apitest"
	"warble/shared/function"
)

// serveWeb serves the function over HTTP and returns its URL.
func serveWeb(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(function.NewTest(io.Discard).Handler(New()))
	t.Cleanup(server.Close)
	return server.URL
}

const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// TestFirstPageIsSmall: a browser loads at most 100 kB before any action, and no loaded file loads more.
func TestFirstPageIsSmall(t *testing.T) {
	t.Parallel()
	url := serveWeb(t)
	_, page := apitest.Send(t, "GET", url+"/", "", "Accept", browser)
	size := len(page)
	assets := regexp.MustCompile(`(?:src|href)="(/assets/[^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(assets) != 3 {
		t.Fatalf("the page loads %q: expected a stylesheet, a script and an icon", assets)
	}
	for _, asset := range assets {
		answer, text := apitest.Send(t, "GET", url+asset[1], "")
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", asset[1], answer.Status)
		}
		if more := regexp.MustCompile(`@import|\burl\(|\bimport\b.*from`).FindString(text); more != "" {
			t.Errorf("%s loads more: %s", asset[1], more)
		}
		size += len(text)
	}
	const most = 100_000
	if size > most {
		t.Errorf("the first page has %d bytes: expected at most %d", size, most)
	}
}

func TestBrowsersGetThePageAndOthersLinks(t *testing.T) {
	t.Parallel()
	url := serveWeb(t)
	answer, page := apitest.Send(t, "GET", url+"/", "", "Accept", browser)
	if kind := answer.Header.Get("Content-Type"); kind != "text/html; charset=utf-8" || !strings.Contains(page, "<title>Warble playground</title>") {
		t.Errorf("%s: %.100s", kind, page)
	}
	if policy := answer.Header.Get("Content-Security-Policy"); policy != "default-src 'self'; frame-ancestors 'none'" {
		t.Errorf("Content-Security-Policy: %s", policy)
	}
	for _, accept := range []string{"", "*/*", "application/json"} {
		answer, text := apitest.Send(t, "GET", url+"/", "", "Accept", accept)
		var links homeLinks
		if err := json.Unmarshal([]byte(text), &links); err != nil || links.Links["contract"] != "/openapi.yaml" || answer.Header.Get("Vary") != "Accept" {
			t.Errorf("Accept %q: %v %s %v", accept, err, text, answer.Header)
		}
	}
	if answer, _ := apitest.Send(t, "GET", url+"/nothing", "", "Accept", browser); answer.StatusCode != http.StatusNotFound {
		t.Errorf("a path that nothing has: %s, want 404", answer.Status)
	}
}

func TestFilesHaveTheirTypesAndTags(t *testing.T) {
	t.Parallel()
	url := serveWeb(t)
	entries, err := fs.ReadDir(files, "assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		answer, _ := apitest.Send(t, "GET", url+"/assets/"+entry.Name(), "")
		tag := answer.Header.Get("ETag")
		if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") == "" || answer.Header.Get("X-Content-Type-Options") != "nosniff" || tag == "" {
			t.Errorf("%s: %s %v", entry.Name(), answer.Status, answer.Header)
		}
		if again, text := apitest.Send(t, "GET", url+"/assets/"+entry.Name(), "", "If-None-Match", tag); again.StatusCode != http.StatusNotModified || text != "" {
			t.Errorf("%s with its tag: %s %q", entry.Name(), again.Status, text)
		}
	}
	for _, name := range []string{"nothing.js", "..", "%2e%2e%2fweb.go", "sub%2fapp.js"} {
		if answer, _ := apitest.Send(t, "GET", url+"/assets/"+name, ""); answer.StatusCode != http.StatusNotFound {
			t.Errorf("/assets/%s: %s, want 404", name, answer.Status)
		}
	}
}
