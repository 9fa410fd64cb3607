package main

import "context"

const (
	moderate      = 400 // requests a second: a fifth of what saturates, so that neither side queues
	moderateConns = 8
)

// edge measures the latency that the edge adds to a function, and the share of the function's throughput that remains.
func (b *bench) edge(ctx context.Context) (figures []figure, err error) {
	err = b.withEdge(ctx, func(running map[string]*server) error {
		for _, kind := range []request{{Method: "GET", Path: "/2/tweets/" + tweetID}, post} {
			if err := b.empty(ctx); err != nil {
				return err
			}
			calm := func(name string) contestant {
				l := b.saturate(running[name], kind)
				l.Connections, l.Rate = moderateConns, moderate
				return l.median
			}
			rows, err := interleave(ctx, b.rounds, calm("edge"), calm("tweet"))
			if err != nil {
				return err
			}
			name := kind.Method + " tweet, edge"
			figures = append(figures, differenceAtMost(0.6).figure(name+" - direct, p50", "ms", rows[0], rows[1]))
			full := func(name string) contestant { return b.saturate(running[name], kind).throughput }
			if rows, err = interleave(ctx, b.rounds, full("edge"), full("tweet")); err != nil {
				return err
			}
			figures = append(figures, ratioAtLeast(0.5).figure(name+" / direct", "1/s", rows[0], rows[1]))
		}
		return nil
	}, "tweet")
	return figures, err
}

// withEdge runs do while servers of these names run behind an edge.
func (b *bench) withEdge(ctx context.Context, do func(running map[string]*server) error, names ...string) error {
	return b.withServers(ctx, func(running map[string]*server) error {
		if err := b.writeRoutes(b.routesTo(running)); err != nil {
			return err
		}
		return b.withServers(ctx, func(front map[string]*server) error {
			running["edge"] = front["edge"]
			return do(running)
		}, "edge")
	}, names...)
}
