package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"warble/shared/experiment"
)

// guest measures the CPU time of the edge for a request to a guest, and compares it with a request to a function. Both Services are
// in an experiment: the guest's visitors send the edge's cookie, and the function's users send their token. A second edge has only the
// function and its experiment, which shows what a guest costs the requests to functions.
func (b *bench) guest(ctx context.Context) (figures []figure, err error) {
	if err := b.empty(ctx); err != nil {
		return nil, err
	}
	err = b.withServers(ctx, func(running map[string]*server) error {
		to := b.routesTo(running)
		to.Functions = append(to.Functions, route{Name: "shop", URL: "http://" + running["hello"].address, Routes: []string{"/shop"}, Guest: &struct{}{}})
		visitors := bothArms("shop", running["hello"])
		visitors.Identity = experiment.Identity{Kind: experiment.ByVisitor, Cookie: visitorCookie}
		to.Experiments = []experiment.Rules{bothArms("tweet", running["tweet"]), visitors}
		only := b.routesTo(running)
		only.Experiments = to.Experiments[:1]
		onlyFile := b.path("routes-only.json")
		if err := errors.Join(b.writeRoutes(to), only.write(onlyFile)); err != nil {
			return err
		}
		return b.withServers(ctx, func(front map[string]*server) (err error) {
			edge := front["edge"]
			second, err := b.rig.start(ctx, "edge", "ROUTES_FILE="+onlyFile)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, second.stop()) }()
			pages := make([]request, few)
			for i := range pages {
				cookie, err := newVisitor(ctx, edge)
				if err != nil {
					return err
				}
				pages[i] = request{Method: "GET", Path: "/shop", Cookie: cookie}
			}
			shop := &side{servers: []*server{edge}, load: b.saturate(edge, pages...)}
			get := request{Method: "GET", Path: "/2/tweets/" + tweetID}
			tweet := &side{servers: []*server{edge}, load: b.saturate(edge, get)}
			alone := &side{servers: []*server{second}, load: b.saturate(second, get)}
			if _, err := interleave(ctx, b.rounds, shop.measure, tweet.measure, alone.measure); err != nil {
				return err
			}
			figures = append(figures, ratioAtMost(1).figure("guest / function, CPU of the edge", "ms", shop.cpu, tweet.cpu),
				ratioAtMost(1.03).figure("function beside a guest / alone, CPU of the edge", "ms", tweet.cpu, alone.cpu))
			return nil
		}, "edge")
	}, "tweet", "hello")
	return figures, err
}

const visitorCookie = "shop_visitor"

// bothArms returns the rules of an experiment that includes everybody. Both arms of the Service are the same process.
func bothArms(service string, s *server) experiment.Rules {
	arm := func(name string) experiment.Side {
		return experiment.Side{Host: s.address, Revision: service + "-" + name}
	}
	return experiment.Rules{
		Name: service, Generation: 1, Services: []string{service}, Exposure: []string{service}, Unit: experiment.User, Salt: service,
		Layer: experiment.Layer{Name: service, To: experiment.Slots}, Open: experiment.Open{Control: experiment.Slots / 2, Treatment: experiment.Slots / 2},
		Reach: map[string]experiment.Reach{service: {Control: arm("control"), Treatment: arm("treatment")}},
	}
}

// newVisitor visits the shop without a cookie, and returns the cookie that the edge sets.
func newVisitor(ctx context.Context, edge *server) (cookie string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+edge.address+"/shop", http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	for _, c := range answer.Cookies() {
		if c.Name == visitorCookie && answer.StatusCode == http.StatusOK {
			return c.Name + "=" + c.Value, nil
		}
	}
	return "", fmt.Errorf("the first visit to the shop: %s without the cookie %s", answer.Status, visitorCookie)
}
