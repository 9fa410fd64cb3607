package manifest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/manifest"
)

func tweet(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../../knative/500-tweet.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMistakesAreNamed(t *testing.T) {
	t.Parallel()
	good := tweet(t)
	if _, err := manifest.Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ old, new, says string }{
		"unknown member":   {"containerConcurrency: 100", "containerConcurency: 100", `unknown field "containerConcurency"`},
		"another's image":  {"functions/tweet", "functions/tweets", "image: expected ko://warble/functions/tweet"},
		"port":             {"containerPort: 8080", "containerPort: 8008", "one containerPort, 8080"},
		"root":             {"runAsNonRoot: true", "runAsNonRoot: false", "securityContext"},
		"public":           {"visibility: cluster-local", "visibility: public", "cluster-local on every function but the edge"},
		"no routes":        {"warble.dev/routes", "warble.dev/rotes", "metadata.annotations: expected warble.dev/routes"},
		"relative route":   {"      /2/tweets\n", "      2/tweets\n", "not 2/tweets"},
		"malformed route":  {"      /2/tweets/{id}\n", "      /2/tweets/{id\n", "patterns of net/http, not /2/tweets/{id"},
		"no label":         {"        warble.dev/service: tweet\n", "", "template.metadata.labels: expected warble.dev/service: tweet"},
		"another's label":  {"warble.dev/service: tweet", "warble.dev/service: tweets", "template.metadata.labels: expected warble.dev/service: tweet"},
		"experiments":      {"  annotations:\n", "  annotations:\n    warble.dev/experiments: user\n", `warble.dev/experiments: expected none, request or no such annotation, not "user"`},
		"no experiments":   {"  annotations:\n", "  annotations:\n    warble.dev/experiments: \"\"\n", "warble.dev/experiments: expected none, request"},
		"unmounted":        {"        - name: keys\n          configMap", "        - name: other\n          configMap", "volumeMounts.keys"},
		"value and source": {"- name: DATABASE_URL\n", "- name: DATABASE_URL\n              value: x\n", "env.DATABASE_URL"},
		"no container":     {"        - image: ko://warble/functions/tweet\n", "        - image: x\n        - image: ko://warble/functions/tweet\n", "expected one container"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := strings.Replace(good, tt.old, tt.new, 1)
			if bad == good {
				t.Fatalf("%q is not in the manifest", tt.old)
			}
			if _, err := manifest.Parse([]byte(bad)); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %q", err, tt.says)
			}
		})
	}
}

func TestAPathHasOneFunction(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(folder, "500-"+name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("tweet", tweet(t))
	write("other", strings.NewReplacer("name: tweet", "name: other", "service: tweet", "service: other", "functions/tweet", "functions/other").Replace(tweet(t)))
	_, err := manifest.ReadAll(folder)
	if err == nil || !strings.Contains(err.Error(), "claims /2/tweets/{id}, which belongs to other") {
		t.Error(err)
	}
	write("other", strings.NewReplacer("name: tweet", "name: other", "service: tweet", "service: other", "functions/tweet", "functions/other",
		"/2/tweets\n", "/3/tweets\n", "/2/tweets/{id}", "/2/{kind}/newest").Replace(tweet(t)))
	_, err = manifest.ReadAll(folder)
	if err == nil || !strings.Contains(err.Error(), "500-tweet.yaml: warble.dev/routes claims /2/tweets/{id}, but some of its requests also match /2/{kind}/newest of other") {
		t.Error(err)
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	services, err := manifest.ReadAll("../../knative")
	if err != nil {
		t.Fatal(err)
	}
	routes := make(map[string][]string)
	for _, s := range services {
		routes[s.Name()] = s.Routes()
	}
	if diff := cmp.Diff([]string{"/2/tweets", "/2/tweets/{id}"}, routes["tweet"]); diff != "" {
		t.Error(diff)
	}
	if routes["edge"] != nil {
		t.Errorf("the edge routes to itself: %v", routes["edge"])
	}
}

func TestAFunctionMayLimitItsExperiments(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"none", "request"} {
		text := strings.Replace(tweet(t), "  annotations:\n", "  annotations:\n    warble.dev/experiments: "+value+"\n", 1)
		if _, err := manifest.Parse([]byte(text)); err != nil {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// FuzzParse checks that a manifest is refused with a reason, or has everything that its readers rely on.
func FuzzParse(f *testing.F) {
	f.Add([]byte(tweet(f)))
	for _, seed := range []string{"", "{}", "metadata: {name: 7}", "a: &a [*a]", "\xff", "---\n---"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := manifest.Parse(text)
		if err != nil {
			if err.Error() == "" {
				t.Errorf("%q is refused without a word", text)
			}
			return
		}
		if s.Name() == "" || !strings.HasSuffix(s.Container().Image, "/"+s.Name()) {
			t.Errorf("%q is %q of %q", text, s.Name(), s.Container().Image)
		}
		for _, route := range s.Routes() {
			if !strings.HasPrefix(route, "/") {
				t.Errorf("%q claims %q", text, route)
			}
		}
	})
}
