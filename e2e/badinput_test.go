//go:build e2e

package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// strange are values with which decoders often have problems.
var strange = []string{
	"", "0", "-1", "1", "1.5", "1e3", "9223372036854775807", "9223372036854775808", "99999999999999999999", "null", "{id}",
	"é", "\u202e", "\x00", "\xff\xfe", "%", "%00", "../..", "a b", "a/b", "1,2", ",", "*", "' or 1=1 --", "2026-13-45T99:99:99Z",
	"0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999+14:00", "AAAAAAAAAAAA", "AH__________", strings.Repeat("9", 4000),
}

var parameters = []string{
	"ids", "usernames", "max_results", "pagination_token", "since_id", "until_id", "start_time", "end_time", "exclude", "tweet.fields", "expansions",
}

var badBodies = []string{
	"", " ", "null", "true", "1", `"x"`, "[]", "{}", "{", "}", `{"text":}`, `{"text":null}`, `{"text":1}`, `{"text":[]}`, `{"text":{}}`, `{"text":""}`,
	`{"text":"a","text":2}`, `{"Text":"a"}`, `{"text":"a"} {"text":"b"}`, `{"text":"\ud800"}`, "{\"text\":\"\xff\"}", `{"text":"\u0000"}`, "{\"text\":\"\u202e\"}",
	`{"tweet_id":null}`, `{"tweet_id":7}`, `{"tweet_id":"x"}`, `{"tweet_id":"99999999999999999999"}`, `{"__proto__":{"a":1}}`,
	`{"name":"\u0000","email":"\u0000","password":"\u0000"}`, `{"name":"a","email":"@","password":"` + password + `"}`, `{"refresh_token":"\u0000"}`,
	`{"name":"a","email":"a@b.c","password":"` + strings.Repeat("a", 60000) + `"}`, strings.Repeat("[", 60000), strings.Repeat(`{"a":`, 10000),
	`{"text":"` + strings.Repeat("a", 60000) + `"}`, `{"text":"` + strings.Repeat("a", 70000) + `"}`,
}

// Every request gets a readable answer, whatever the client sends.
func TestBadInput(t *testing.T) {
	t.Parallel()
	for _, e := range endpoints {
		t.Run(e.name(), func(t *testing.T) {
			t.Parallel()
			ada := register(t, "")
			route, query, _ := strings.Cut(e.route+e.query, "?")
			send := func(method, path, body string, headers ...string) {
				t.Helper()
				a, err := ada.try(method, path, body, headers...)
				for range 5 {
					if err != nil || !outOfTime(a) {
						break
					}
					a, err = ada.try(method, path, body, headers...)
				}
				if err != nil {
					t.Errorf("%s %.200q %.200q: %v", method, path, body, err)
					return
				}
				if a.status >= 500 || a.status >= 400 && method != http.MethodHead && problemOf(a) != "" {
					t.Errorf("%s %.200q %.200q: %d %s: %s", method, path, body, a.status, a.body, problemOf(a))
				}
			}
			path, good := e.about(ada, "1")
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "X"} {
				if method != e.method {
					send(method, path, "")
				}
			}
			for _, value := range strange {
				if at := strings.Index(route, "{"); at >= 0 {
					end := at + strings.Index(route[at:], "}") + 1
					send(e.method, strings.ReplaceAll(route[:at]+url.PathEscape(value)+route[end:], "{source_tweet_id}", url.PathEscape(value))+"?"+query, good)
				}
				if e.method != http.MethodGet || e.noDatabase {
					continue
				}
				for _, name := range parameters {
					one, _ := e.about(ada, "1")
					separator := "?"
					if strings.Contains(one, "?") {
						separator = "&"
					}
					send(e.method, one+separator+name+"="+url.QueryEscape(value), "")
				}
			}
			if e.body == "" {
				return
			}
			for _, body := range badBodies {
				send(e.method, path, body, "Content-Type", "application/json")
			}
			for _, kind := range []string{"", "text/plain", "application/json; charset=utf-16", "application/x-www-form-urlencoded", "/", strings.Repeat("a", 5000)} {
				send(e.method, path, good, "Content-Type", kind)
			}
			send(e.method, path, good, "Content-Encoding", "gzip")
			send(e.method, path, good, "Idempotency-Key", strings.Repeat("k", 300))
		})
	}
}

// Bytes that are not HTTP soon get an answer or a closed connection. The client waits, and does not close its side
// unless cut is set.
func TestBadHTTP(t *testing.T) {
	processes(t) // an ingress would answer many of these requests itself
	t.Parallel()
	const post = "POST /2/tweets HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	for name, tt := range map[string]struct {
		request string
		want    int // 0 if the connection may be closed instead
		cut     bool
	}{
		"nothing":                     {"", 0, false},
		"not HTTP":                    {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 0, false},
		"no host":                     {"GET /communities HTTP/1.1\r\n\r\n", 400, false},
		"two hosts":                   {"GET /communities HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, false},
		"method with a space":         {"GE T /communities HTTP/1.1\r\nHost: x\r\n\r\n", 400, false},
		"version 9":                   {"GET /communities HTTP/9.0\r\nHost: x\r\n\r\n", 505, false},
		"header without a colon":      {"GET /communities HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n", 400, false},
		"header with NUL":             {"GET /communities HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400, false},
		"1 MB of header":              {"GET /communities HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", 0, false},
		"bare path":                   {"GET communities HTTP/1.1\r\nHost: x\r\n\r\n", 400, false},
		"path out of the root":        {"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404, false},
		"escaped path out":            {"GET /2/%2e%2e/communities HTTP/1.1\r\nHost: x\r\n\r\n", 404, false},
		"double slash":                {"GET //communities HTTP/1.1\r\nHost: x\r\n\r\n", 404, false},
		"absolute URL":                {"GET http://other.example/communities HTTP/1.1\r\nHost: x\r\n\r\n", 200, false},
		"CONNECT":                     {"CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n", 404, false},
		"OPTIONS *":                   {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 0, false},
		"upgrade":                     {"GET /communities HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200, false},
		"length that is none":         {post + "Content-Length: x\r\n\r\n", 400, false},
		"negative length":             {post + "Content-Length: -1\r\n\r\n", 400, false},
		"two lengths":                 {post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, false},
		"10 GB announced":             {post + "Content-Length: 10000000000\r\n\r\n{}", 413, false},
		"body cut short":              {post + "Content-Length: 100\r\n\r\n{}", 400, true},
		"no chunk":                    {post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, false},
		"transfer encoding unheard":   {post + "Transfer-Encoding: br\r\n\r\n{}", 501, false},
		"expectation unheard of":      {post + "Expect: the unexpected\r\nContent-Length: 2\r\n\r\n{}", 417, false},
		"length and chunks, smuggled": {post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n", 401, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := raw(tt.request, tt.cut)
			if err != nil || tt.want != 0 && a.status != tt.want {
				t.Errorf("%d %v, want %d", a.status, err, tt.want)
			}
			if tt.cut && (problemOf(a) != "" || !strings.Contains(a.body, "/malformed-request")) { // net/http has read the headers, so the edge answers
				t.Errorf("%s: %s", a.body, problemOf(a))
			}
		})
	}
}

// raw sends bytes, and returns the first answer. Its status is 0 if the connection was closed without an answer.
func raw(request string, cut bool) (answer, error) {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(warble.url, "http://"), patience)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close() //nolint:errcheck // the answer has come
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer{}, err
	}
	_, _ = io.WriteString(conn, request) // the other side need not read all of it
	if cut {
		_ = conn.(*net.TCPConn).CloseWrite() // an error means that it has answered already
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // as conn returns it
		return answer{}, fmt.Errorf("a hang: %w", err)
	}
	if err != nil {
		return answer{}, nil
	}
	defer response.Body.Close()          //nolint:errcheck // the answer has come
	text, _ := io.ReadAll(response.Body) // the other side may close the connection early, because it has not read the request
	return answer{status: response.StatusCode, header: response.Header, body: string(text)}, nil
}
