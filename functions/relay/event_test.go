package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/blues/jsonata-go"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"warble/shared/experiment"
	"warble/shared/idempotency"
	"warble/shared/manifest"
	"warble/shared/store"
	"warble/shared/store/pgtest"
)

// The events of the real writers fit their schemas completely, in all members.
func TestEveryEventFitsItsSchema(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	auth, api := f.Open(t, pgtest.Auth), f.Open(t, pgtest.API)
	body := store.Body{Status: 201}
	began := time.Now().Add(-time.Second)

	account := store.NewAccount{Email: "ada@example.org", Username: "ada", Name: "Ada \"🐦\"", Community: "gophers", RefreshHash: []byte("1"), Traceparent: trace}
	opened, err := auth.CreateAccount(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	ada := opened.User
	opened, err = auth.CreateAccount(t.Context(), store.NewAccount{Email: "bob@example.org", Username: "bob", Name: "Bob", RefreshHash: []byte("2")})
	if err != nil {
		t.Fatal(err)
	}
	bob := opened.User
	post := func(u store.User, text string) int64 {
		t.Helper()
		answer, err := api.CreateTweet(t.Context(), store.NewTweet{AuthorID: u.ID, Community: u.Community, Text: text, Traceparent: trace}, idempotency.Key{}, body)
		if err != nil {
			t.Fatal(err)
		}
		return int64(number(t, string(answer.Body)))
	}
	tweet, other := post(ada, "hello <b>🐦</b>\u2028"), post(bob, "x")
	retweet := func() {
		t.Helper()
		if _, err := api.Retweet(t.Context(), store.NewRetweet{UserID: bob.ID, TweetID: tweet, Traceparent: trace}, idempotency.Key{}, body); err != nil {
			t.Fatal(err)
		}
	}
	retweet()
	if err := api.UndoRetweet(t.Context(), store.Author{ID: bob.ID}, tweet); err != nil {
		t.Fatal(err)
	}
	retweet()
	if _, err := api.Like(t.Context(), store.NewLike{UserID: bob.ID, TweetID: tweet, Traceparent: trace}, idempotency.Key{}, body); err != nil {
		t.Fatal(err)
	}
	if err := api.UndoLike(t.Context(), store.Author{ID: bob.ID}, tweet); err != nil {
		t.Fatal(err)
	}
	if err := api.DeleteTweet(t.Context(), other, store.Author{ID: bob.ID}); err != nil {
		t.Fatal(err)
	}

	opened, err = auth.CreateAccount(t.Context(), store.NewAccount{Email: "carol@example.org", Username: "carol", Name: "Carol", RefreshHash: []byte("3")})
	if err != nil {
		t.Fatal(err)
	}
	if err := auth.DeleteAccount(t.Context(), store.Author{ID: opened.User.ID}); err != nil {
		t.Fatal(err)
	}

	ops := f.Open(t, pgtest.Ops)
	if err := ops.StartExperiment(t.Context(), experiment.Start{Name: "likes", Salt: "s", PlannedUnits: 1, At: began}); err != nil {
		t.Fatal(err)
	}
	if err := ops.Transition(t.Context(), "likes", experiment.Transition{ID: "concluded", Phase: experiment.Concluded, Conclusion: experiment.WasStopped, Percent: 10, At: began, Actor: "ada", Reason: "x"}); err != nil {
		t.Fatal(err)
	}

	run(t, f.relay())
	eventually(t, "empty", func() bool { return f.isTrue(empty) })
	arrived := make(map[string]int)
	for _, e := range f.taken {
		arrived[e.Type()]++
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
		schema, members := schemaOf(t, e.Type())
		data, err := jsonschema.UnmarshalJSON(strings.NewReader(string(e.Data())))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(data); err != nil {
			t.Errorf("%s: %v", e.Data(), err)
		}
		said := data.(map[string]any)
		if diff := cmp.Diff(members, slices.Sorted(maps.Keys(said))); diff != "" {
			t.Errorf("%s: members that its schema does not describe, or the other way round: %s", e.Type(), diff)
		}
		if e.DataSchema() != schemas+e.Type()+".json" || e.DataContentType() != "application/json" || e.Source() != "urn:warble:outbox" || e.Subject() != said["id"] {
			t.Errorf("attributes: %s", e)
		}
		if e.Time().Before(began) || e.Time().After(time.Now()) {
			t.Errorf("time %s is not the transaction's", e.Time())
		}
		user := strconv.FormatInt(bob.ID, 10)
		if e.Subject() == strconv.FormatInt(tweet, 10) || e.Subject() == strconv.FormatInt(ada.ID, 10) {
			user = strconv.FormatInt(ada.ID, 10)
		}
		carols := e.Subject() == strconv.FormatInt(opened.User.ID, 10)
		if carols {
			user = e.Subject()
		}
		if e.Subject() == "likes" {
			user = "1"
		}
		if e.Type() == "dev.warble.mail.requested.v1" { // belongs to no user: the number of the request takes the user's place
			if e.Extensions()["partitionkey"] != e.Subject() {
				t.Errorf("partitionkey of %s", e)
			}
			continue
		}
		if e.Extensions()["partitionkey"] != user {
			t.Errorf("partitionkey of %s", e)
		}
		if e.Subject() == "likes" && (e.Extensions()["phase"] != "Concluded" || e.Extensions()["conclusion"] != "stopped") {
			t.Errorf("%s: want its phase and conclusion as attributes", e)
		}
		if kept, had := e.Extensions()["traceparent"], e.Subject() != "likes" && !carols && e.Subject() != strconv.FormatInt(bob.ID, 10) && e.Type() != "dev.warble.tweet.deleted.v1" && e.Type() != "dev.warble.tweet.unliked.v1"; had && kept != trace || !had && kept != nil {
			t.Errorf("traceparent %v of %s", kept, e)
		}
	}
	if diff := cmp.Diff(map[string]int{
		"dev.warble.user.registered.v1": 3, "dev.warble.user.deleted.v1": 1, "dev.warble.tweet.posted.v1": 2, "dev.warble.tweet.retweeted.v1": 2, "dev.warble.tweet.deleted.v1": 2,
		"dev.warble.tweet.liked.v1": 1, "dev.warble.tweet.unliked.v1": 1, "dev.warble.experiment.transitioned.v1": 1, "dev.warble.mail.requested.v1": 3,
	}, arrived); diff != "" {
		t.Error(diff)
	}
	for _, e := range f.taken {
		if e.Subject() == strconv.FormatInt(tweet, 10) && !strings.Contains(string(e.Data()), `"hello <b>🐦</b>`) {
			t.Errorf("text in %s", e.Data())
		}
	}
}

// schemaOf compiles the schema of a type, and returns the members that the schema describes.
func schemaOf(t *testing.T, name string) (*jsonschema.Schema, []string) {
	t.Helper()
	file, err := os.Open(filepath.Join("schemas", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	document, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	id := schemas + name + ".json"
	if got := document.(map[string]any)["$id"]; got != id {
		t.Errorf("$id %s, want %s", got, id)
	}
	if err := compiler.AddResource(id, document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(id)
	if err != nil {
		t.Fatal(err)
	}
	return schema, slices.Sorted(maps.Keys(document.(map[string]any)["properties"].(map[string]any)))
}

// The types are in SQL texts in shared/store. This test reads these texts to find a type without a schema.
func TestEveryTypeOfEventHasASchema(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../shared/store/*.go")
	if err != nil {
		t.Fatal(err)
	}
	written := make(map[string]bool)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`'(dev\.warble\.[a-z.]+\.v[0-9]+)'`).FindAllSubmatch(text, -1) {
			written[string(found[1])] = true
		}
	}
	described := make(map[string]bool)
	schemas, err := filepath.Glob("schemas/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range schemas {
		described[strings.TrimSuffix(filepath.Base(file), ".json")] = true
	}
	if diff := cmp.Diff(written, described); diff != "" || len(written) == 0 {
		t.Error(diff)
	}
}

// The relay's sink is the broker, and the example subscribes to a type that exists.
func TestTheManifestsFitTheCode(t *testing.T) {
	t.Parallel()
	service, err := manifest.Read("../../knative/500-relay.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var broker, trigger struct {
		Kind     string
		Metadata manifest.Metadata
		Spec     struct {
			Broker string
			Filter struct{ Attributes map[string]string }
		}
	}
	for file, into := range map[string]any{"600-broker.yaml": &broker, "examples/trigger.yaml": &trigger} {
		text, err := os.ReadFile(filepath.Join("../../knative", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	var sink string
	for _, variable := range service.Container().Env {
		if variable.Name == "K_SINK" {
			sink = variable.Value
		}
	}
	if place := "/" + broker.Metadata.Namespace + "/" + broker.Metadata.Name; broker.Kind != "Broker" || !strings.HasSuffix(sink, place) {
		t.Errorf("K_SINK is %s: expected it to end in %s", sink, place)
	}
	if trigger.Kind != "Trigger" || trigger.Spec.Broker != broker.Metadata.Name || trigger.Metadata.Namespace != broker.Metadata.Namespace {
		t.Errorf("the trigger asks %s in %s", trigger.Spec.Broker, trigger.Metadata.Namespace)
	}
	schemaOf(t, trigger.Spec.Filter.Attributes["type"])
	if service.Routes() != nil || service.Spec.Template.Metadata.Annotations["autoscaling.knative.dev/min-scale"] != "1" {
		t.Error("nothing would keep the relay there")
	}
}

// The example for Slack filters by attributes that the relay sets, and makes a body that Slack accepts.
func TestTheExampleForSlackFits(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../knative/examples/slack.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := strings.Split(string(text), "\n---\n")
	if len(documents) != 3 {
		t.Fatalf("%d documents", len(documents))
	}
	var trigger struct {
		Metadata manifest.Metadata
		Spec     struct {
			Broker     string
			Filter     struct{ Attributes map[string]string }
			Subscriber struct {
				Ref struct{ APIVersion, Kind, Name string }
			}
		}
	}
	var transform struct {
		APIVersion, Kind string
		Metadata         manifest.Metadata
		Spec             struct {
			Jsonata struct{ Expression string }
			Sink    struct{ URI string }
			Reply   struct{ Discard bool }
		}
	}
	for i, into := range []any{&trigger, &transform} {
		if err := yaml.Unmarshal([]byte(documents[i]), into); err != nil {
			t.Fatal(err)
		}
	}
	if ref := trigger.Spec.Subscriber.Ref; ref.Kind != transform.Kind || ref.APIVersion != transform.APIVersion || ref.Name != transform.Metadata.Name || trigger.Spec.Broker != "events" {
		t.Errorf("the trigger sends %s of the broker %s: expected the EventTransform", ref, trigger.Spec.Broker)
	}

	data := `{"id": "likes", "transition": "concluded", "phase": "Concluded", "conclusion": "rolled back", "step": 0, "percent": 0, "at": "2026-11-24T10:00:00Z", "actor": "ada", "reason": "it is worse"}`
	e, err := cloudEvent(store.Event{ID: 7, UserID: 1, Type: "dev.warble.experiment.transitioned.v1", Data: []byte(data), CreatedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	structured, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var attributes map[string]any // and data: the input of a JSONata expression in Knative
	if err := json.Unmarshal(structured, &attributes); err != nil {
		t.Fatal(err)
	}
	for name, want := range trigger.Spec.Filter.Attributes {
		if attributes[name] != want {
			t.Errorf("the trigger wants %s to be %q: the event of an end has %v", name, want, attributes[name])
		}
	}
	expression, err := jsonata.Compile(transform.Spec.Jsonata.Expression)
	if err != nil {
		t.Fatal(err)
	}
	body, err := expression.Eval(attributes)
	if err != nil {
		t.Fatal(err)
	}
	// Knative posts the whole result as application/json. With an attribute such as specversion the result would be an event
	// instead.
	want := map[string]any{"text": "The experiment likes was rolled back by ada: it is worse"}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("what Slack gets: %s", diff)
	}
}

// TestSchemasRefuse is needed because a schema that accepts anything would pass the tests above.
func TestSchemasRefuse(t *testing.T) {
	t.Parallel()
	schema, _ := schemaOf(t, "dev.warble.tweet.posted.v1")
	good := map[string]any{"id": "1", "author_id": "2", "community": nil, "text": "x", "created_at": "2026-11-24T10:00:00.123+00:00"}
	if err := schema.Validate(good); err != nil {
		t.Fatal(err)
	}
	for member, bad := range map[string]any{"id": json.Number("1"), "author_id": "", "community": "Not A Slug", "text": "", "created_at": "yesterday"} {
		wrong := maps.Clone(good)
		wrong[member] = bad
		if schema.Validate(wrong) == nil {
			t.Errorf("%s may be %v", member, bad)
		}
		delete(wrong, member)
		if schema.Validate(wrong) == nil {
			t.Errorf("%s may be missing", member)
		}
	}
}
