//go:build infra

package observability_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/telemetry/telemetrytest"
)

// TestATraceGoesFromTheRequestToTheEvent through five processes and PostgreSQL. Each span has the parent, names and tags
// that Datadog shows. Each access line has the ids of its span. No trace contains texts of users, or anything with which somebody
// could sign in.
func TestATraceGoesFromTheRequestToTheEvent(t *testing.T) {
	t.Parallel()
	const (
		trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
		text          = "nobody but its readers reads this"
		event         = "dev.warble.tweet.posted.v1"
	)
	low, err := strconv.ParseUint(trace[16:], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	caller, err := strconv.ParseUint(parent, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	carol, err := register("carol")
	if err != nil {
		t.Fatal(err)
	}
	arm, err := carol.variant()
	if err != nil {
		t.Fatal(err)
	}
	id, err := carol.post(text, "Traceparent", "00-"+trace+"-"+parent+"-01", "X-Request-Id", "traced")
	if err != nil {
		t.Fatal(err)
	}
	const unkept = "0af7651916cd43dd9448eb211c80319c"
	quiet, err := carol.post("not followed", "Traceparent", "00-"+unkept+"-"+parent+"-00")
	if err != nil {
		t.Fatal(err)
	}

	const whole = 8 // the statement of the tweet, of her activity today, and of her exposure
	var spans []telemetrytest.Span
	var bodies [][]byte
	eventually(t, func() string {
		if spans, bodies, err = warble.agent.Trace(low); err != nil {
			t.Fatal(err)
		}
		if len(spans) < whole {
			return fmt.Sprintf("%d spans, want %d", len(spans), whole)
		}
		return ""
	})
	at := make(map[string]telemetrytest.Span) // by service, operation and side
	for _, s := range spans {
		at[s.Service+" "+s.Name+" "+s.Meta["span.kind"]] = s
		if s.Error != 0 || s.Meta["env"] != "test" && s.ParentID == 0 {
			t.Errorf("error %d, env %q: %+v", s.Error, s.Meta["env"], s)
		}
	}
	in, out, function := at["edge http.request server"], at["edge http.request client"], at["tweet http.request server"]
	var sql, day, exposed, send, posted telemetrytest.Span
	for _, s := range spans {
		switch {
		case s.Name == "pgx.query" && strings.Contains(s.Resource, "insert into tweets"):
			sql = s
		case s.Name == "pgx.query" && strings.Contains(s.Resource, "insert into exposures"):
			exposed = s
		case s.Name == "pgx.query":
			day = s
		case s.Name == "message.send":
			send = s
		case s.Meta["span.kind"] == "client" && s.SpanID != out.SpanID:
			posted = s
		}
	}
	if stray, _, _ := warble.agent.Trace(0x9448eb211c80319c); len(stray) > 0 {
		t.Errorf("a trace that is not kept has spans: %+v", stray)
	}
	if len(spans) != whole {
		t.Errorf("%d spans, want %d: %+v", len(spans), whole, spans)
	}
	for name, link := range map[string]struct{ got, want uint64 }{
		"edge, in":                {in.ParentID, caller},
		"edge, out":               {out.ParentID, in.SpanID},
		"function":                {function.ParentID, out.SpanID},
		"statement":               {sql.ParentID, function.SpanID},
		"the day's statement":     {day.ParentID, function.SpanID},
		"the exposure":            {exposed.ParentID, function.SpanID},
		"event":                   {send.ParentID, function.SpanID},
		"request with that event": {posted.ParentID, send.SpanID},
	} {
		if link.got != link.want || link.got == 0 {
			t.Errorf("%s: parent %d, want %d", name, link.got, link.want)
		}
	}
	names := []string{in.Resource, function.Resource, send.Service, send.Resource, send.Meta["span.kind"], sql.Meta["db.system"]}
	if diff := cmp.Diff([]string{"POST /2/tweets", "POST /2/tweets", "relay", event, "producer", "postgresql"}, names); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(sql.Resource, "$9") {
		t.Errorf("the statement's resource is %q, without the place of the text", sql.Resource)
	}
	for service, s := range map[string]telemetrytest.Span{"edge": in, "relay": send} {
		if s.Meta["version"] != service+"-local" || s.Meta["env"] != "test" {
			t.Errorf("%s is version %q in env %q", service, s.Meta["version"], s.Meta["env"])
		}
	}
	// The revision of her arm; Datadog compares the arms by it.
	if version := function.Meta["version"]; !strings.HasPrefix(version, "likes-demo-tweet-"+arm+"-") || function.Meta["env"] != "test" {
		t.Errorf("she is in %s, and tweet is version %q in env %q", arm, version, function.Meta["env"])
	}
	for _, secret := range []string{text, carol.token, carol.token[strings.LastIndex(carol.token, ".")+1:], password, carol.email} {
		if slices.ContainsFunc(bodies, func(body []byte) bool { return bytes.Contains(body, []byte(secret)) }) {
			t.Errorf("the agent was told %q", secret)
		}
	}

	for service, s := range map[string]telemetrytest.Span{"edge": in, "tweet": function} {
		line := lineOf(t, service, "traced")
		got := []any{line["dd.trace_id"], line["dd.span_id"], line["dd.env"], line["dd.version"], line["service"], line["http.status_code"]}
		want := []any{trace, strconv.FormatUint(s.SpanID, 10), "test", s.Meta["version"], service, 201.0}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", service, diff)
		}
	}
	eventually(t, func() string {
		if warble.subscriber.about(quiet) == nil {
			return "the other event"
		}
		return ""
	})
	if e := warble.subscriber.about(quiet); e.Extensions()["traceparent"] != nil {
		t.Errorf("the event of a trace that is not kept carries %v", e.Extensions()["traceparent"])
	}
	e := warble.subscriber.about(id)
	if want := fmt.Sprintf("00-%s-%016x-01", trace, function.SpanID); e == nil || e.Type() != event || e.Extensions()["traceparent"] != want {
		t.Errorf("the event is %v, want it to carry %s", e, want)
	}
}

// lineOf returns a function's access line for a request.
func lineOf(t *testing.T, function, requestID string) (fields map[string]any) {
	t.Helper()
	eventually(t, func() string {
		for line := range strings.Lines(warble.Log()) {
			_, text, found := strings.Cut(line, "|")
			if !found || !strings.Contains(text, `"service":"`+function+`"`) || !strings.Contains(text, `"http.request_id":"`+requestID+`"`) {
				continue
			}
			if err := json.Unmarshal([]byte(text), &fields); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			return ""
		}
		return "no line of " + function
	})
	return fields
}
