//go:build e2e

package e2e_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"testing"
)

// Behind the cluster's ingress, the edge sees the real addresses of two clients, and not the addresses that they claim. Rate limits
// and counts of failed logins use that address.
func TestClusterTellsClientsApart(t *testing.T) {
	cluster(t)
	w := inside(t)
	w.route(t, "/witness")
	stranger := &user{t: t}
	within(t, "the witness's route", readyLimit, func() bool { return stranger.do("GET", "/witness", "").status == http.StatusOK })
	outside := stranger.do("GET", "/witness", "").body
	if _, err := netip.ParseAddr(outside); err != nil {
		t.Fatalf("the edge took this process for %q: %v", outside, err)
	}
	for _, forged := range []string{"192.0.2.66", "192.0.2.66:51234", "[2001:db8::66]:443", "192.0.2.66, 10.0.0.1"} {
		if a := stranger.do("GET", "/witness", "", "X-Forwarded-For", forged); a.status != http.StatusOK || a.body != outside {
			t.Errorf("X-Forwarded-For: %s made %s of %s: %d", forged, a.body, outside, a.status)
		}
	}
	ingress := run(t, "get", "kingress", "edge", "--output=jsonpath={.status.publicLoadBalancer.ingress[0].domainInternal}")
	if ingress == "" {
		t.Fatal("the edge's ingress names no address inside of the cluster")
	}
	from := "http://" + ingress + "/witness"
	got := decode[fetched](t, ask(t, w.host, "/fetch?host="+url.QueryEscape(warble.host)+"&url="+url.QueryEscape(from)), http.StatusOK)
	if _, err := netip.ParseAddr(got.Body); err != nil || got.Status != http.StatusOK || got.Body == outside {
		t.Errorf("a pod of the cluster is %q to the edge, and this process is %q: expected two addresses (%d, %v)", got.Body, outside, got.Status, err)
	}
}
