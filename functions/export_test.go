package functions_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"warble/shared/apitest"
	"warble/shared/store/pgtest"
	"warble/shared/wire"
)

// TestALargeExportPassesTheEdge to a slow client, although the export takes much longer than UPSTREAM_TIMEOUT.
func TestALargeExportPassesTheEdge(t *testing.T) {
	t.Parallel()
	const (
		timeout = 100 * time.Millisecond
		tweets  = 100_000 // 30 MB: more than all buffers on the way
	)
	database := pgtest.New(t)
	local, err := apitest.StartLocal(t.Context(), "DATABASE_URL="+database.URL(pgtest.Owner))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := local.Stop(); err != nil {
			t.Errorf("local run: %v\n%s", err, local.Log())
		}
	})
	a := &api{contract: loadContract(t), t: t, url: local.URL}
	ada := decode[wire.Session](a, a.call(201, "", "POST /auth/register", a.operation("POST /auth/register").example()))
	if err := pgtest.Exec(t.Context(), database.URL(pgtest.Owner),
		`insert into tweets (author_id, text) select $1::bigint, repeat('a confession ', 18) || n from generate_series(1, $2::int) n`, ada.Data.ID, tweets); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, local.Edge(t, "UPSTREAM_TIMEOUT="+timeout.String())+"/auth/export", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+ada.Token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	time.Sleep(10 * timeout) // makes the client slow; nothing is awaited
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s, %d bytes, %v\n%s", answer.Status, len(text), err, local.Log())
	}
	var export struct{ Tweets []json.RawMessage }
	if err := json.Unmarshal(text, &export); err != nil || len(export.Tweets) != tweets {
		t.Errorf("%d tweets of %d bytes, %v: want %d", len(export.Tweets), len(text), err, tweets)
	}
}
