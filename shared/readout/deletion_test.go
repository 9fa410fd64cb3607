package readout_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"warble/shared/experiment"
	"warble/shared/readout"
	"warble/shared/readout/readouttest"
	"warble/shared/store/pgtest"
)

// The experiment has ended. After the deletion of all accounts only their texts are gone.
func TestDeletedAccountsChangeNoFigure(t *testing.T) {
	t.Parallel()
	w := readouttest.New(t, func(s *experiment.Spec) {
		s.Metrics.Secondary = []string{"retweets_per_user", "likes_per_user", "active_days", "returning_share", "feedback_score"}
	})
	w.People(300)
	w.Exposed()
	w.Tweets(5, 2)
	w.Traffic(50, 1, 1)
	w.Feedback("a private opinion")
	w.Exec(`insert into tweets (id, author_id, text, retweet_of)
		select id_at(e.first_at) + 5000, e.user_id, '', (select min(id) from tweets where author_id <> e.user_id) from exposures e`)
	w.Exec(`insert into likes (id, user_id, tweet_id) select id_at(e.first_at) + 6000, e.user_id, (select min(id) from tweets) from exposures e`)
	w.Exec(`insert into activity (user_id, day) select user_id, first_at::date + n from exposures, generate_series(0, ((user_id >> 22) % 5)::int) n`)
	at := begin.Add(20 * day)
	before := w.Read(at)
	if len(before.Quotes) == 0 {
		t.Fatal("nobody said anything: expected quotes before the deletion")
	}
	w.Exec(`with gone as (update users set deleted_at = now() returning id)
		insert into deletions (user_id, requested_at) select id, now() - interval '1 hour' from gone`)
	if err := w.Open(t, pgtest.Ops).FinishDeletions(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := w.Read(at)
	if len(after.Quotes) != 0 {
		t.Errorf("%d quotes of deleted accounts", len(after.Quotes))
	}
	if diff := cmp.Diff(before, after, cmpopts.IgnoreFields(readout.Report{}, "Quotes"), cmpopts.EquateNaNs()); diff != "" {
		t.Errorf("before (-) and after the deletion of everybody (+):\n%s", diff)
	}
}
