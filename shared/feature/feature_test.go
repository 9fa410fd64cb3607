package feature_test

import (
	"testing"

	"warble/shared/env"
	"warble/shared/feature"
)

func TestFeaturesAreReadFromTheEnvironment(t *testing.T) {
	t.Parallel()
	for value, tt := range map[string]struct {
		want    feature.Set
		mistake string
	}{
		"":        {},
		" , ":     {},
		"likes":   {want: feature.Set{Likes: true}},
		" likes,": {want: feature.Set{Likes: true}},
		"Likes":   {mistake: `FEATURES is "Likes": expected names separated by commas; the only name is likes`},
		"likes,x": {want: feature.Set{Likes: true}, mistake: `FEATURES is "x": expected names separated by commas; the only name is likes`},
	} {
		e := env.New(func(name string) (string, bool) { return value, name == "FEATURES" })
		if got := feature.FromEnv(e).ForRequest(t.Context()); got != tt.want {
			t.Errorf("%q: %+v, want %+v", value, got, tt.want)
		}
		mistake := ""
		if err := e.Err(); err != nil {
			mistake = err.Error()
		}
		if mistake != tt.mistake {
			t.Errorf("%q: %q, want %q", value, mistake, tt.mistake)
		}
	}
}
