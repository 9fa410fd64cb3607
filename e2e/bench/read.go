package main

import (
	"context"
	"errors"
	"fmt"

	"warble/shared/store"
)

// read compares reads with a bare server that runs the same prepared statements over as many connections.
func (b *bench) read(ctx context.Context) (figures []figure, err error) {
	bare, err := b.rig.start(ctx, "read", "TWEETS_SQL="+store.TweetsSQL, "HOME_SQL="+store.CommunityTweetsSQL())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	err = b.withServers(ctx, func(running map[string]*server) error {
		if err := b.empty(ctx); err != nil {
			return err
		}
		if err := b.exec(ctx, "warble", fmt.Sprintf(`
			insert into tweets (author_id, community, text)
			select (1 + n %% %d)::bigint << 22, 'gophers', '%s'
			from generate_series(1, 100000) n`, few, text), `vacuum analyze tweets`); err != nil {
			return err
		}
		var home []request
		for n := range few { // the tokens are in the same order
			home = append(home, request{Method: "GET", Path: fmt.Sprintf("/2/users/%d/timelines/reverse_chronological?max_results=20", userID(n+1))})
		}
		for _, kind := range []struct {
			name, function string
			requests       []request
		}{
			{"GET /2/tweets/{id}", "tweet", []request{{Method: "GET", Path: "/2/tweets/" + tweetID}}},
			{"home timeline of 20", "timeline", home},
		} {
			rows, err := interleave(ctx, b.rounds,
				b.saturate(running[kind.function], kind.requests...).throughput,
				b.saturate(bare, kind.requests...).throughput)
			if err != nil {
				return err
			}
			figures = append(figures, ratioAtLeast(0.8).figure(kind.name+" / bare net/http + pgx", "1/s", rows[0], rows[1]))
		}
		return nil
	}, "tweet", "timeline")
	return figures, err
}

// likers is the greatest number of people who like something in a round. Each likes once, because a second like changes nothing.
const likers = 20_000

// like compares people who like one tweet at the same time with as many people who like different tweets. The count of a tweet is one row, so
// likes of one tweet wait for each other.
func (b *bench) like(ctx context.Context) (figures []figure, err error) {
	function, err := b.rig.start(ctx, "like", "FEATURES=likes")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, function.stop()) }()
	likes := func(different int) contestant {
		var requests []request
		for n := range likers {
			requests = append(requests, request{
				Method: "POST", Path: fmt.Sprintf("/2/users/%d/likes", userID(n+1)),
				Body: fmt.Sprintf(`{"tweet_id":"%d"}`, userID(1+n%different)),
			})
		}
		l := b.saturate(function, requests...)
		l.Distinct = likers
		return func(ctx context.Context) (float64, error) {
			if err := b.exec(ctx, "warble", fmt.Sprintf(
				`insert into tweets (id, author_id, community, text) select n::bigint << 22, n::bigint << 22, 'gophers', 'hello' from generate_series(2, %d) n`, saturating)); err != nil {
				return 0, err
			}
			return l.throughput(ctx)
		}
	}
	rows, err := interleave(ctx, b.rounds, b.fromEmpty(likes(1)), b.fromEmpty(likes(saturating)))
	if err != nil {
		return nil, err
	}
	return []figure{ratioAtLeast(0.3).figure(fmt.Sprintf("likes of one tweet / of %d", saturating), "1/s", rows[0], rows[1])}, nil
}
