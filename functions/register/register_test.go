package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"warble/shared/apitest"
	"warble/shared/clocktest"
	"warble/shared/function"
	"warble/shared/password"
	"warble/shared/password/policy"
	"warble/shared/problem"
	"warble/shared/store"
	"warble/shared/store/pgtest"
	"warble/shared/token"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// fixture is the function over HTTP, with its own database.
type fixture struct {
	testing.TB
	url       string
	data      pgtest.Database
	db        *store.DB
	passwords *password.Hasher
	tokens    *token.Verifier
}

func start(t testing.TB, settings ...string) *fixture {
	t.Helper()
	issuer, tokens := apitest.Keys(t, t.TempDir())
	f := function.NewTest(t.Output(), settings...)
	w := &fixture{TB: t, data: pgtest.New(t), tokens: tokens, passwords: password.FromEnv(f.Env, f.Telemetry)}
	w.db = w.data.Open(t, pgtest.Auth)
	routes := New(w.db, issuer, w.passwords, policy.FromEnv(f.Env), f.Telemetry.AuthMetrics())
	server := httptest.NewServer(f.Handler(routes, w.db, issuer))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// answer is an answer with its decoded body.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (a answer) text(member string) string { s, _ := a.body[member].(string); return s }

func (a answer) user() map[string]any { u, _ := a.body["data"].(map[string]any); return u }

// fields returns the members that a problem names.
func (a answer) fields() string {
	var names []string
	list, _ := a.body["errors"].([]any)
	for _, item := range list {
		item, _ := item.(map[string]any)
		name, _ := item["field"].(string)
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func (f *fixture) post(body []byte) answer {
	f.Helper()
	response, text := apitest.Send(f, http.MethodPost, f.url+"/auth/register", string(body), "Content-Type", "application/json; charset=utf-8")
	a := answer{status: response.StatusCode, header: response.Header}
	if err := json.Unmarshal([]byte(text), &a.body); err != nil {
		f.Fatalf("%s: %v", response.Status, err)
	}
	if cache := a.header.Get("Cache-Control"); cache != "no-store" {
		f.Errorf("Cache-Control %q", cache)
	}
	return a
}

// register sends a valid request with some members changed; nil leaves a member out.
func (f *fixture) register(changes map[string]any) answer {
	f.Helper()
	members := map[string]any{
		"name": "Ada Lovelace", "email": "ada@example.com", "password": "a quiet otter juggles", "username": "ada", "community": "gophers",
	}
	for name, value := range changes {
		members[name] = value
		if value == nil {
			delete(members, name)
		}
	}
	body, err := json.Marshal(members)
	if err != nil {
		f.Fatal(err)
	}
	return f.post(body)
}

func TestRegister(t *testing.T) {
	t.Parallel()
	f := start(t)
	a := f.register(nil)
	if a.status != http.StatusCreated || len(a.body) != 4 {
		t.Fatalf("%d %v", a.status, a.body)
	}
	claims, err := f.tokens.Verify(a.text("token"))
	if err != nil {
		t.Fatal(err)
	}
	id, created := a.user()["id"], a.user()["created_at"]
	want := map[string]any{"id": id, "name": "Ada Lovelace", "username": "ada", "created_at": created}
	if diff := cmp.Diff(want, a.user()); diff != "" {
		t.Error(diff)
	}
	if text, _ := created.(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`).MatchString(text) {
		t.Errorf("created_at %v", created)
	}
	if claims.Username != "ada" || claims.Community != "gophers" || claims.UserID == 0 {
		t.Errorf("claims %+v", claims)
	}
	if expires, err := time.Parse(time.RFC3339, a.text("expires_at")); err != nil || !expires.Equal(claims.ExpiresAt) {
		t.Errorf("expires_at %q, want %v", a.text("expires_at"), claims.ExpiresAt)
	}

	// The password works for a login, and the refresh token for a refresh.
	attempt, err := f.db.BeginLogin(t.Context(), "ADA@example.com", store.Client{Network: "somewhere"})
	if err != nil {
		t.Fatal(err)
	}
	if match, _, err := f.passwords.Compare(t.Context(), "a quiet otter juggles", attempt.PasswordHash); err != nil || !match {
		t.Errorf("match %v, error %v", match, err)
	}
	hash, err := token.HashRefresh(a.text("refresh_token"))
	if err != nil {
		t.Fatal(err)
	}
	_, next := token.NewRefresh()
	if renewed, err := f.db.RotateRefresh(t.Context(), store.Client{}, hash, next); err != nil || renewed.User.ID != claims.UserID {
		t.Errorf("user %+v, error %v", renewed.User, err)
	}
	const event = `do $$ begin assert (
		select count(*) = 1 and bool_and(o.data ->> 'id' = u.id::text)
		from outbox o join users u on u.id = o.user_id
		where o.type = 'dev.warble.user.registered.v1' and u.username = 'ada'), 'no event'; end $$`
	if err := pgtest.Exec(t.Context(), f.data.URL(pgtest.Owner), event); err != nil {
		t.Error(err)
	}
}

// TestAnEmailAddressHasOneAccount, however many requests register it at the same time.
func TestAnEmailAddressHasOneAccount(t *testing.T) {
	t.Parallel()
	const many = 100
	f := start(t, "PASSWORD_QUEUE="+strconv.Itoa(many))
	statuses := make(chan int)
	for n := range many {
		email := "ada@example.com"
		if n%2 == 0 {
			email = "ADA@example.com"
		}
		go func() {
			statuses <- f.post([]byte(`{"name":"Ada","email":"` + email + `","username":"ada` + strconv.Itoa(n) + `","password":"a quiet otter juggles"}`)).status
		}()
	}
	counts := map[int]int{}
	for range many {
		counts[<-statuses]++
	}
	if diff := cmp.Diff(map[int]int{http.StatusCreated: 1, http.StatusConflict: many - 1}, counts); diff != "" {
		t.Error(diff)
	}
}

func TestOptionalMembers(t *testing.T) {
	t.Parallel()
	f := start(t)
	seen := map[string]bool{}
	for n, name := range []string{"Zoë Ågren-Übermäßig", "Zoë Ågren-Übermäßig", "Zoë Ågren-Übermäßig", "李小龙", "李小龙", "🦉", "x"} {
		a := f.register(map[string]any{
			"name": "  " + name + " ", "username": nil, "community": nil, "email": "user" + string(rune('a'+n)) + "@example.com",
		})
		if a.status != http.StatusCreated {
			t.Fatalf("%s: %d %v", name, a.status, a.body)
		}
		username, _ := a.user()["username"].(string)
		if !regexp.MustCompile(`^[A-Za-z0-9_]{1,15}$`).MatchString(username) || seen[username] || a.user()["name"] != name {
			t.Errorf("%s: user %v", name, a.user())
		}
		seen[username] = true
		if claims, err := f.tokens.Verify(a.text("token")); err != nil || claims.Community != "" {
			t.Errorf("claims %+v, error %v", claims, err)
		}
	}
	if !seen["ZoeAgrenUbermai"] || !seen["user"] || !seen["x"] {
		t.Errorf("usernames %v", seen)
	}
}

func TestATakenAddressOrUsernameIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t)
	if a := f.register(nil); a.status != http.StatusCreated {
		t.Fatalf("%d %v", a.status, a.body)
	}
	for field, changes := range map[string]map[string]any{
		"email":    {"email": "ADA@Example.com", "username": "other"},
		"username": {"email": "other@example.com", "username": "ADA"},
	} {
		if a := f.register(changes); a.status != http.StatusConflict || a.fields() != field {
			t.Errorf("%s: %d %v", field, a.status, a.body)
		}
	}
	statuses := make(chan int)
	for range 6 {
		go func() {
			statuses <- f.register(map[string]any{"email": "grace@example.com", "name": "Grace", "username": nil}).status
		}()
	}
	counts := map[int]int{}
	for range 6 {
		counts[<-statuses]++
	}
	if diff := cmp.Diff(map[int]int{http.StatusCreated: 1, http.StatusConflict: 5}, counts); diff != "" {
		t.Errorf("one address at once: %s", diff)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	f := start(t)
	long := strings.Repeat("x", 200)
	for name, c := range map[string]struct {
		changes map[string]any
		fields  string
	}{
		"nothing":               {map[string]any{"name": nil, "email": nil, "password": nil}, "name email password"},
		"blank name":            {map[string]any{"name": " \t "}, "name"},
		"name of 51":            {map[string]any{"name": strings.Repeat("é", 51)}, "name"},
		"NUL in the name":       {map[string]any{"name": "a\x00b"}, "name"},
		"bidi override":         {map[string]any{"name": "a\u202eb"}, "name"},
		"isolate":               {map[string]any{"name": "a\u2067b"}, "name"},
		"mark of direction":     {map[string]any{"name": "a\u200fb"}, "name"},
		"tab in the name":       {map[string]any{"name": "a\tb"}, "name"},
		"zero width space":      {map[string]any{"name": "\u200b"}, "name"},
		"Hangul filler":         {map[string]any{"name": "\u3164"}, "name"},
		"blank Braille":         {map[string]any{"name": "\u2800"}, "name"},
		"variation selector":    {map[string]any{"name": "\ufe0f"}, "name"},
		"name is a number":      {map[string]any{"name": 7}, "name"},
		"no @":                  {map[string]any{"email": "ada.example.com"}, "email"},
		"two @":                 {map[string]any{"email": "a@b@example.com"}, "email"},
		"no dot":                {map[string]any{"email": "ada@localhost"}, "email"},
		"empty label":           {map[string]any{"email": "ada@example..com"}, "email"},
		"display name":          {map[string]any{"email": "Ada <ada@example.com>"}, "email"},
		"line break":            {map[string]any{"email": "ada@example.com\n"}, "email"},
		"not ASCII":             {map[string]any{"email": "ädä@example.com"}, "email"},
		"email of 255":          {map[string]any{"email": "a@" + strings.Repeat(long[:49]+".", 5) + "com"}, "email"},
		"username of 16":        {map[string]any{"username": long[:16]}, "username"},
		"username with a dash":  {map[string]any{"username": "a-b"}, "username"},
		"password of 7":         {map[string]any{"password": "vT9#qLx"}, "password"},
		"password of 129":       {map[string]any{"password": "vT9#qLx2" + long[:121]}, "password"},
		"short after NFKC":      {map[string]any{"password": "q\u0308u\u0308z\u0308\u00efo\u0308"}, "password"},
		"common password":       {map[string]any{"password": "password123"}, "password"},
		"password with name":    {map[string]any{"password": "xk!Lovelace?93"}, "password"},
		"password with email":   {map[string]any{"password": "ada@example.com"}, "password"},
		"password with address": {map[string]any{"email": "countess@example.com", "password": "zq7-COUNTESS-8x"}, "password"},
		"password with handle":  {map[string]any{"username": "enchantress", "password": "zq7enchantress8x"}, "password"},
		"unknown community":     {map[string]any{"community": "nobodies"}, "community"},
		"NUL in the community":  {map[string]any{"community": "a\x00"}, "community"},
		"unknown member":        {map[string]any{"admin": true}, "admin"},
		"several at once":       {map[string]any{"username": "a-b", "password": "x"}, "username password"},
	} {
		if a := f.register(c.changes); a.status != http.StatusUnprocessableEntity || a.fields() != c.fields {
			t.Errorf("%s: %d, fields %q, want %q", name, a.status, a.fields(), c.fields)
		}
	}
	if err := pgtest.Exec(t.Context(), f.data.URL(pgtest.Owner),
		`do $$ begin assert not exists (select from users) and not exists (select from outbox), 'something is left'; end $$`); err != nil {
		t.Error(err)
	}
}

// Go folds what clients ask for, and PostgreSQL what is stored: see store.Fold. Both give the same for each email address and username
// that a registration accepts.
func TestGoAndPostgreSQLFoldAlike(t *testing.T) {
	t.Parallel()
	r := &registration{policy: policy.FromEnv(function.NewTest(io.Discard).Env)}
	var given, folded, hashes []string
	// accepts adds to given what a registration accepts as an email address or as a username. It returns how much that is.
	accepts := func(email, username string) (accepted int) {
		t.Helper()
		// The password is missing, so validate returns a problem, which names each member that is wrong.
		wrong := problem.From(r.validate(&request{Name: "Ada", Email: email, Username: username})).Errors
		for field, text := range map[string]string{"email": email, "username": username} {
			if slices.ContainsFunc(wrong, func(i problem.Item) bool { return i.Field == field }) {
				continue
			}
			hash := sha256.Sum256([]byte(store.Fold(text)))
			given, folded, hashes = append(given, text), append(folded, store.Fold(text)), append(hashes, hex.EncodeToString(hash[:]))
			accepted++
		}
		return accepted
	}
	// Turkish i in both cases, KELVIN SIGN, sharp s in both cases, ANGSTROM SIGN, full width A in both cases, three sigmas, long s, a ligature,
	// a digraph, and a dot above.
	special := []rune("\u0130\u0131\u212a\u00df\u1e9e\u212b\uff21\uff41\u03a3\u03c3\u03c2\u017f\ufb01\u01c5\u0307")
	for _, c := range special {
		if accepts("ada"+string(c)+"@example.com", "ada"+string(c))+accepts("ada@ex"+string(c)+"ample.com", string(c)+"ada") != 0 {
			t.Errorf("%q is accepted: PostgreSQL may fold it in another way", c)
		}
	}
	for c := range rune(utf8.MaxRune + 1) {
		if c < 0x250 || unicode.SimpleFold(c) != c || unicode.ToLower(c) != c {
			accepts(string(c)+"@example.com", "A"+string(c)+"Z")
			accepts("a@e"+string(c)+"E.com", string(c))
		}
	}
	letters := append([]rune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-+'{}"), special[0], special[2])
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same texts each time
	text := func(most int) string {
		var made strings.Builder
		for range 1 + random.IntN(most) {
			made.WriteRune(letters[random.IntN(len(letters))])
		}
		return made.String()
	}
	for range 10_000 {
		accepts(text(12)+"@"+text(4)+"."+text(3), text(5))
	}
	if len(given) < 1000 {
		t.Fatalf("only %d texts are accepted: it proves nothing", len(given))
	}
	different, err := pgtest.Column(t.Context(), pgtest.New(t).URL(pgtest.Owner), `
		select given
		from unnest($1::text[], $2::text[], $3::text[]) as t(given, folded, hash)
		where lower(given) <> folded or lower(given collate "C") <> folded
			or encode(username_hash(given), 'hex') <> hash or encode(address_hash(given), 'hex') <> hash`,
		given, folded, hashes)
	if err != nil || len(different) > 0 {
		t.Errorf("%v: %d of %d texts are folded in two ways: %q", err, len(different), len(given), different[:min(len(different), 10)])
	}
}

func FuzzBody(f *testing.F) {
	w := start(f)
	for _, seed := range []string{
		`{"name":"Ada","email":"ada@example.com","password":"a quiet otter juggles"}`,
		`{"name":"\u202e","email":"a@b.c","password":"\ud800ﷺ"}`, `{"name":"A\u0000"}`, `{"community":"\u0000"}`, `{}`, `[]`, `nul`, "\xff",
		`{"name":"Ǆ","email":"x@y.zz","password":"p@$$w0rd1!|p@$$w0rd1!|","username":"x","community":"gophers"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w := *w
		w.TB = t
		if a := w.post(body); a.status >= http.StatusInternalServerError {
			t.Errorf("%q: %d %v", body, a.status, a.body)
		}
	})
}

// FuzzPassword tests what happens to a password before hashing, because hashing takes most of the time of FuzzBody.
func FuzzPassword(f *testing.F) {
	r := &registration{policy: policy.FromEnv(function.NewTest(io.Discard).Env)}
	for _, seed := range []string{"password", "p@$$w0rd1!|", "qwertyuiop", "\xff\xfeaaaaaa", strings.Repeat("é", 64), "aaaaaaaa\u0308"} {
		f.Add(seed, "Ada Lovelace")
	}
	f.Fuzz(func(t *testing.T, password, name string) {
		took := clocktest.Took(func() { _ = r.validate(&request{Name: name, Email: "ada@example.com", Password: password}) })
		if took > time.Minute { // the first one reads the dictionaries, which takes long on a busy machine
			t.Errorf("%q took %v", password, took)
		}
	})
}
