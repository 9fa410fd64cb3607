package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"warble/shared/apitest"
)

func TestThePageOfMailLoadsOnlyItsOwnFiles(t *testing.T) {
	t.Parallel()
	url := serveWeb(t)
	answer, page := apitest.Send(t, "GET", url+"/confirm", "", "Accept", browser)
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != "text/html; charset=utf-8" || answer.Header.Get("Content-Security-Policy") != "default-src 'self'; frame-ancestors 'none'" {
		t.Errorf("%s %v", answer.Status, answer.Header)
	}
	assets := regexp.MustCompile(`(?:src|href)="(/assets/[^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(assets) != 3 {
		t.Fatalf("the page loads %q: expected a stylesheet, a script and an icon", assets)
	}
	for _, asset := range assets {
		if answer, _ := apitest.Send(t, "GET", url+asset[1], ""); answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", asset[1], answer.Status)
		}
	}
	_, script := apitest.Send(t, "GET", url+"/assets/confirm.js", "")
	for _, path := range []string{"/auth/verify-email", "/auth/password-reset", "/auth/password-reset/confirm"} {
		if !strings.Contains(script, `"`+path+`"`) {
			t.Errorf("the page does not call %s", path)
		}
	}
}
