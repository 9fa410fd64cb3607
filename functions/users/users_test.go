package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/function"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/telemetry"
	"warble/shared/token"
	"warble/shared/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func newAPI(t testing.TB) *apitest.API {
	t.Helper()
	return apitest.New(t, func(db *store.DB, tokens *token.Verifier, _ *telemetry.Telemetry) function.Routes {
		return New(db, tokens)
	})
}

func TestOneUser(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, by := api.User("Ada", "gophers"), api.User("by", "")
	api.SQL(`update users set name = 'Ada <3' where id = $1`, ada.ID)
	want := `{"data":{"id":"` + wire.ID(ada.ID) + `","name":"Ada <3","username":"Ada","created_at":"2026-01-01T00:00:00.000Z"}}` + "\n"
	tests := map[string]apitest.User{
		"/2/users/me":              ada,
		ada.Path(""):               by,
		"/2/users/by/username/Ada": by,
		"/2/users/by/username/aDA": by,
		"/2/users/me?user.fields=description,created_at&expansions=pinned_tweet_id&tweet.fields=lang": ada,
	}
	for path, caller := range tests {
		answer := caller.Do("GET", path, "")
		if answer.Status != http.StatusOK || answer.Body != want {
			t.Errorf("%s: %d %s, want %s", path, answer.Status, answer.Body, want)
		}
		if again := caller.Do("GET", path, "", "If-None-Match", answer.Header.Get("ETag")); again.Status != http.StatusNotModified {
			t.Errorf("%s once more: %d", path, again.Status)
		}
	}
}

func TestSeveralUsers(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	ada, bob := api.User("Ada", ""), api.User("bob", "")
	id := func(u apitest.User) string { return wire.ID(u.ID) }
	tests := map[string][2][]string{ // found and missing users, in the requested order
		"/2/users?ids=" + id(bob) + ",17," + id(ada):           {{"bob", "Ada"}, {"17"}},
		"/2/users?ids=" + id(ada) + "," + id(ada):              {{"Ada"}, nil},
		"/2/users?ids=9999999999999999999":                     {nil, {"9999999999999999999"}},
		"/2/users/by?usernames=ada,nobody,BOB":                 {{"Ada", "bob"}, {"nobody"}},
		"/2/users/by?usernames=bob&user.fields=url,created_at": {{"bob"}, nil},
	}
	for path, want := range tests {
		answer := apitest.Get[wire.Lookup[wire.User]](ada, path)
		var got [2][]string
		for _, u := range answer.Data {
			got[0] = append(got[0], u.Username)
		}
		for _, e := range answer.Errors {
			got[1] = append(got[1], e.Value)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	if got := ada.Do("GET", "/2/users/by?usernames=nobody", "").Body; !strings.HasPrefix(got, `{"data":[],"errors":[{"value":"nobody","detail":"Could not find user with usernames: [nobody].","title":"Not Found Error","resource_type":"user","parameter":"usernames","resource_id":"nobody",`) {
		t.Error(got)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	ada := newAPI(t).User("ada", "")
	tests := map[string]int{
		"/2/users":        http.StatusBadRequest,
		"/2/users?ids=me": http.StatusBadRequest,
		"/2/users?ids=1" + strings.Repeat(",1", 150): http.StatusOK, // one name several times
		"/2/users/by":                                   http.StatusBadRequest,
		"/2/users/by?usernames=":                        http.StatusBadRequest,
		"/2/users/by?usernames=a%20b":                   http.StatusBadRequest,
		"/2/users/by?usernames=sixteen_letters_":        http.StatusBadRequest,
		"/2/users/by/username/sixteen_letters_":         http.StatusBadRequest,
		"/2/users/by/username/" + url.PathEscape("adä"): http.StatusBadRequest,
		"/2/users/by/username/nobody":                   http.StatusNotFound,
		"/2/users/by/username/":                         http.StatusNotFound,
		"/2/users/17":                                   http.StatusNotFound,
		"/2/users/9999999999999999999":                  http.StatusNotFound,
		"/2/users/00000000000000000017":                 http.StatusBadRequest,
		"/2/users/you":                                  http.StatusBadRequest,
		"/2/users/me?user.fields=hat":                   http.StatusBadRequest,
		"/2/users/me?expansions=hat":                    http.StatusBadRequest,
		"/2/users/me?%zz":                               http.StatusBadRequest,
	}
	for path, want := range tests {
		if answer := ada.Do("GET", path, ""); answer.Status != want {
			t.Errorf("%.60s: %d %s, want %d", path, answer.Status, answer.Body, want)
		}
	}
}

func TestCommunitiesNeedNoToken(t *testing.T) {
	t.Parallel()
	api := newAPI(t)
	got := apitest.Get[wire.List[community]](api.Stranger(), "/communities")
	var slugs []string
	for _, c := range got.Data {
		slugs = append(slugs, c.Slug)
	}
	if diff := cmp.Diff(pgtest.Communities, slugs); diff != "" || got.Meta.ResultCount != len(slugs) {
		t.Errorf("%+v %s", got.Meta, diff)
	}
}

func TestNeedsToken(t *testing.T) {
	t.Parallel()
	newAPI(t).NeedsToken("GET /2/users/me", "GET /2/users/1", "GET /2/users?ids=1", "GET /2/users/by?usernames=a", "GET /2/users/by/username/a")
}

func FuzzUsers(f *testing.F) {
	for _, seed := range []string{"ids=1,2", "usernames=ada,BOB", "ids=&usernames=", "usernames=%00", "ids=9999999999999999999", "user.fields=name"} {
		f.Add(seed)
	}
	ada := newAPI(f).User("ada", "")
	f.Fuzz(func(t *testing.T, text string) {
		for _, path := range []string{
			"/2/users?" + text, "/2/users/by?" + text, "/2/users/me?" + text, "/2/users/" + url.PathEscape(text), "/2/users/by/username/" + url.PathEscape(text),
		} {
			if _, err := url.Parse(path); err == nil {
				ada.In(t).Do("GET", path, "") // newAPI fails the test on a 500
			}
		}
	})
}
