//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// trigger subscribes the witness to every event.
const trigger = `{"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "metadata": {"name": "witness"}, "spec": {"broker": "events",
	"subscriber": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "witness"}, "uri": "/events"}}}`

// From a tweet to a subscriber, through the outbox, the relay and the broker; and once the broker was away.
func TestClusterDeliversEvents(t *testing.T) {
	cluster(t)
	const delivery = 90 * time.Second // the relay waits for up to a minute before it tries again
	w := inside(t)
	if _, err := kubectl(t.Context(), trigger, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := kubectl(context.Background(), "", "delete", "trigger/witness"); err != nil {
			t.Error(err)
		}
	})
	run(t, "wait", "--for=condition=Ready", "--timeout=60s", "trigger/witness")

	ada := register(t, "")
	id := ada.post("hello <b>\U0001f426</b>")
	if a := ada.do("DELETE", "/2/tweets/"+id, ""); a.status != 200 {
		t.Fatalf("delete: %d %s", a.status, a.body)
	}
	first := make(map[string]event.Event) // each may come twice
	within(t, "three events", delivery, func() bool {
		for _, e := range w.events(t, ada.id, id) {
			if _, again := first[e.Type()]; !again {
				first[e.Type()] = e
			}
		}
		return len(first) >= 3
	})
	for _, about := range []struct{ kind, subject string }{{"user.registered", ada.id}, {"tweet.posted", id}, {"tweet.deleted", id}} {
		kind := "dev.warble." + about.kind + ".v1"
		e := first[kind]
		got := []any{e.SpecVersion(), e.Source(), e.Subject(), e.DataContentType(), e.DataSchema(), e.Extensions()["partitionkey"]}
		want := []any{"1.0", "urn:warble:outbox", about.subject, "application/json", "https://warble.dev/schemas/" + kind + ".json", ada.id}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
		obeys(t, e)
	}
	var posted map[string]any
	if err := json.Unmarshal(first["dev.warble.tweet.posted.v1"].Data(), &posted); err != nil {
		t.Fatal(err)
	}
	delete(posted, "created_at") // the schema has its form
	if diff := cmp.Diff(map[string]any{"id": id, "author_id": ada.id, "community": nil, "text": "hello <b>\U0001f426</b>"}, posted); diff != "" {
		t.Error(diff)
	}

	scale := func(ctx context.Context, replicas int) error {
		_, err := kubectl(ctx, "", "--namespace=knative-eventing", "scale", "deployment/mt-broker-ingress", fmt.Sprintf("--replicas=%d", replicas))
		return err
	}
	t.Cleanup(func() {
		if err := scale(context.Background(), 1); err != nil {
			t.Error(err)
		}
	})
	if err := scale(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	within(t, "no broker", readyLimit, func() bool {
		return run(t, "--namespace=knative-eventing", "get", "pods", "--selector=eventing.knative.dev/brokerRole=ingress", "--output=name") == ""
	})
	late := ada.post("while the broker is away")
	within(t, "the relay's complaint", readyLimit, func() bool {
		return strings.Contains(run(t, "logs", "--selector=serving.knative.dev/service=relay", "--container=user-container", "--since=10s"), "broker-ingress")
	})
	if early := w.events(t, late); len(early) > 0 {
		t.Errorf("there is no broker, and yet: %v", early)
	}
	if err := scale(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	within(t, "the late event", delivery, func() bool { return len(w.events(t, late)) > 0 })
	obeys(t, w.events(t, late)[0])
	t.Logf("delivered %s after the broker's return", time.Since(back).Round(time.Second))
}

// obeys checks an event's data against the schema that it names.
func obeys(t *testing.T, e event.Event) {
	t.Helper()
	file, err := os.Open("../functions/relay/schemas/" + e.Type() + ".json")
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close() //nolint:errcheck // it is only read
	document, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource(e.DataSchema(), document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(e.DataSchema())
	if err != nil {
		t.Fatal(err)
	}
	data, err := jsonschema.UnmarshalJSON(strings.NewReader(string(e.Data())))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(data); err != nil {
		t.Errorf("%s: %v", e.Data(), err)
	}
}
