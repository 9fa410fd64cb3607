//go:build e2e

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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

// A tweet's event reaches a subscriber through the outbox, the relay and the broker, even after the broker was down.
func TestClusterDeliversEvents(t *testing.T) {
	cluster(t)
	const delivery = 3 * time.Minute // the relay waits for up to a minute before it tries again
	w := inside(t)
	if _, err := kubectl(t.Context(), trigger, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := kubectl(context.Background(), "", "delete", "trigger/witness"); err != nil {
			t.Error(err)
		}
	})
	run(t, "wait", "--for=condition=Ready", "--timeout=150s", "trigger/witness")

	env, err := serviceOf(t, "like").variables()
	if err != nil {
		t.Fatal(err)
	}
	patch(t, "like", change{"replace", envPath, set(env, "FEATURES", "likes")}) // the feature is off in the manifests
	untilReady(t, "like")
	ada, bob := register(t, ""), register(t, "")
	within(t, "likes", readyLimit, bob.likes)
	id := ada.post("hello <b>\U0001f426</b>")
	do := func(u *user, method, path, body string) string {
		t.Helper()
		a := u.do(method, path, body)
		if a.status != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
		}
		return a.body
	}
	do(bob, "POST", bob.path("/likes"), object("tweet_id", id))
	do(bob, "DELETE", bob.path("/likes/"+id), "")
	_, rest, _ := strings.Cut(do(bob, "POST", bob.path("/retweets"), object("tweet_id", id)), `"rest_id":"`)
	retweet, _, _ := strings.Cut(rest, `"`)
	do(ada, "DELETE", "/2/tweets/"+id, "")

	first := make(map[string]event.Event) // by type and user; each may come twice
	const all = 7
	within(t, "seven events", delivery, func() bool {
		for _, e := range w.events(t, ada.id, bob.id) {
			key := fmt.Sprint(e.Type(), " of ", e.Extensions()["partitionkey"])
			if _, again := first[key]; !again {
				first[key] = e
			}
		}
		return len(first) >= all
	})
	of := func(u *user, kind string) event.Event { return first["dev.warble."+kind+".v1 of "+u.id] }
	like := of(bob, "tweet.liked").Subject() // only the event has the like's id
	for _, about := range [all]struct {
		user          *user
		kind, subject string
	}{
		{ada, "user.registered", ada.id}, {ada, "tweet.posted", id}, {ada, "tweet.deleted", id}, {bob, "user.registered", bob.id},
		{bob, "tweet.liked", like}, {bob, "tweet.unliked", like}, {bob, "tweet.retweeted", retweet},
	} {
		e, kind := of(about.user, about.kind), "dev.warble."+about.kind+".v1"
		got := []any{e.SpecVersion(), e.Source(), e.Type(), e.Subject(), e.DataContentType(), e.DataSchema()}
		want := []any{"1.0", "urn:warble:outbox", kind, about.subject, "application/json", "https://warble.dev/schemas/" + kind + ".json"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s of %s: %s", kind, about.user.id, diff)
			continue
		}
		obeys(t, e)
	}
	for _, about := range []struct {
		e    event.Event
		want map[string]any
	}{
		{of(ada, "tweet.posted"), map[string]any{"id": id, "author_id": ada.id, "community": nil, "text": "hello <b>\U0001f426</b>"}},
		{of(bob, "tweet.retweeted"), map[string]any{"id": retweet, "user_id": bob.id, "tweet_id": id, "author_id": ada.id}},
		{of(bob, "tweet.liked"), map[string]any{"id": like, "user_id": bob.id, "tweet_id": id, "author_id": ada.id}},
	} {
		var data map[string]any
		if err := json.Unmarshal(about.e.Data(), &data); err != nil {
			t.Fatal(err)
		}
		delete(data, "created_at") // the schema checks its form
		if diff := cmp.Diff(about.want, data); diff != "" {
			t.Error(about.e.Type(), diff)
		}
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

// obeys checks an event's data against the schema that the event names.
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
