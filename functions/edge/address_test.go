package main

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warble/shared/function"
	"warble/shared/manifest"
)

func TestTrustedProxies(t *testing.T) {
	t.Parallel()
	e := variables(map[string]string{"TRUSTED_PROXIES": "10.1.2.3/8, 192.0.2.1,2001:db8::/32,, ::ffff:198.51.100.1"})
	var got []string
	for _, prefix := range prefixesFromEnv(e, "TRUSTED_PROXIES") {
		got = append(got, prefix.String())
	}
	if diff := cmp.Diff([]string{"10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "198.51.100.1/32"}, got); diff != "" || e.Err() != nil {
		t.Error(diff, e.Err())
	}
	for _, wrong := range []string{"10.0.0.0/33", "localhost", "10.0.0.1:80", "fe80::1%eth0", "::ffff:10.0.0.0/104"} {
		e := variables(map[string]string{"TRUSTED_PROXIES": wrong})
		prefixes := prefixesFromEnv(e, "TRUSTED_PROXIES")
		if err := e.Err(); err == nil || !strings.Contains(err.Error(), `TRUSTED_PROXIES is "`+wrong+`": expected networks`) || len(prefixes) != 0 {
			t.Errorf("%s: %v, %v", wrong, prefixes, err)
		}
	}
}

var trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("2001:db8:ffff::/48")}

func TestClientAddressIsTheRightMostHopThatIsNotTrusted(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, peer string
		forwarded  []string // one header each
		want       string
	}{
		{"no proxy", "203.0.113.9:1234", nil, "203.0.113.9"},
		{"a stranger is not believed", "203.0.113.9:1234", []string{"198.51.100.1"}, "203.0.113.9"},
		{"a stranger that names a trusted hop", "203.0.113.9:1234", []string{"198.51.100.1, 10.0.0.1"}, "203.0.113.9"},
		{"one trusted hop", "10.0.0.1:1234", []string{"198.51.100.1"}, "198.51.100.1"},
		{"two trusted hops", "10.0.0.1:1234", []string{"198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"what stands left is forged", "10.0.0.1:1234", []string{"192.0.2.66, 198.51.100.1, 10.0.0.2"}, "198.51.100.1"},
		{"a trusted address left of a stranger is forged", "10.0.0.1:1234", []string{"10.0.0.9, 198.51.100.1"}, "198.51.100.1"},
		{"several headers are one list", "10.0.0.1:1234", []string{"192.0.2.66", "198.51.100.1", "10.0.0.2"}, "198.51.100.1"},
		{"without spaces", "10.0.0.1:1234", []string{"192.0.2.66,198.51.100.1,10.0.0.2"}, "198.51.100.1"},
		{"a proxy's own request", "10.0.0.1:1234", nil, "10.0.0.1"},
		{"trusted all the way", "10.0.0.1:1234", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"garbage", "10.0.0.1:1234", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		{"garbage behind a trusted hop", "10.0.0.1:1234", []string{"198.51.100.1, _hidden, 10.0.0.2"}, "10.0.0.2"},
		{"garbage further left", "10.0.0.1:1234", []string{"<script>, 198.51.100.1"}, "198.51.100.1"},
		{"an empty entry", "10.0.0.1:1234", []string{"198.51.100.1, "}, "10.0.0.1"},
		{"an empty header", "10.0.0.1:1234", []string{""}, "10.0.0.1"},
		{"a leading zero, which some read as octal", "10.0.0.1:1234", []string{"198.051.100.1"}, "10.0.0.1"},
		{"a port", "10.0.0.1:1234", []string{"203.0.113.7:51234"}, "203.0.113.7"},
		{"a port behind a trusted hop with a port", "10.0.0.1:1234", []string{"192.0.2.66, 203.0.113.7:51234,10.0.0.2:80"}, "203.0.113.7"},
		{"brackets", "10.0.0.1:1234", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"brackets and a port", "10.0.0.1:1234", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"IPv4 in IPv6 with a port", "10.0.0.1:1234", []string{"[::ffff:198.51.100.1]:443"}, "198.51.100.1"},
		{"a zone in brackets", "10.0.0.1:1234", []string{"[fe80::7%eth0]:443, [fe80::2%eth0]"}, "fe80::7"},
		{"IPv4 in brackets", "10.0.0.1:1234", []string{"[198.51.100.1]"}, "10.0.0.1"},
		{"no port behind the colon", "10.0.0.1:1234", []string{"198.51.100.1:"}, "10.0.0.1"},
		{"a port that is none", "10.0.0.1:1234", []string{"198.51.100.1:99999"}, "10.0.0.1"},
		{"half a bracket", "10.0.0.1:1234", []string{"[2001:db8::1"}, "10.0.0.1"},
		{"IPv6", "[2001:db8::1]:1234", nil, "2001:db8::1"},
		{"IPv6 behind a trusted hop", "[2001:db8:ffff::1]:1234", []string{"2001:db8::7"}, "2001:db8::7"},
		{"IPv4 in IPv6 is IPv4", "[::ffff:10.0.0.1]:1234", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"a peer with a zone", "[fe80::1%eth0]:1234", []string{"2001:db8::7"}, "2001:db8::7"},
		{"a hop with a zone", "10.0.0.1:1234", []string{"2001:db8::7%eth0"}, "2001:db8::7"},
		{"a trusted hop with a zone", "10.0.0.1:1234", []string{"2001:db8::7, fe80::2%eth0"}, "2001:db8::7"},
		{"no address at all", "@", []string{"198.51.100.1"}, "invalid IP"},
	}
	for _, tt := range tests {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RemoteAddr = tt.peer
		for _, value := range tt.forwarded {
			r.Header.Add("X-Forwarded-For", value)
		}
		if got := clientAddress(r, trusted).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestTheManifestsTrustedProxiesLeaveTheClient sends requests along Knative's chain of proxies: the edge's peer is queue-proxy,
// before it comes the activator, and before that an ingress.
func TestTheManifestsTrustedProxiesLeaveTheClient(t *testing.T) {
	t.Parallel()
	service, err := manifest.Read("../../knative/500-edge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{}
	for _, v := range service.Container().Env {
		set[v.Name] = v.Value
	}
	e := variables(set)
	trusted := configFromEnv(e).trusted
	if err := e.Err(); err != nil {
		t.Fatal(err)
	}
	for _, behind := range []string{"", ", 10.88.0.5", ", 10.244.0.3, 10.244.1.9"} {
		for _, client := range []string{"203.0.113.7", "198.51.100.9", "2001:db8::1"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.RemoteAddr = "127.0.0.1:1234"
			r.Header.Set("X-Forwarded-For", "192.0.2.66, "+client+behind)
			if got := clientAddress(r, trusted).String(); got != client {
				t.Errorf("%s%s: %s", client, behind, got)
			}
		}
	}
}

// TestFunctionsLearnTheClientFromTheEdge goes through the edge to a function. The edge trusts its own peer, and the function sees
// the client behind that peer, whatever else the client claims.
func TestFunctionsLearnTheClientFromTheEdge(t *testing.T) {
	t.Parallel()
	url, _ := serveFunction(t, function.Routes{"GET /who": handlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(function.Client(r.Context()).String() + " " + r.Header.Get("X-Forwarded-For")))
	})})
	edge := start(t, config{trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, functionEntry{Name: "who", URL: url, Routes: []string{"/who"}})
	a := send(t, http.MethodGet, edge.url+"/who", "",
		"X-Forwarded-For", "192.0.2.66, 198.51.100.1", "Forwarded", "for=192.0.2.66",
		function.HeaderClient, "192.0.2.66", function.HeaderTime, "1", function.HeaderSignature, "00")
	if a.body != "198.51.100.1 198.51.100.1" {
		t.Errorf("%s %q", a.Status, a.body)
	}
}

func FuzzForwarded(f *testing.F) {
	for _, seed := range []string{"198.51.100.1", "192.0.2.66, 10.0.0.2", ",,", "::ffff:1.2.3.4", "fe80::1%eth0", "\x00", "1.2.3.4:80, [::1]:80", "[2001:db8::1], [fe80::1%a]:1"} {
		f.Add("10.0.0.1:1234", seed, "10.0.0.2")
	}
	f.Add("203.0.113.9:1234", "10.0.0.1", "")
	f.Fuzz(func(t *testing.T, peer, first, second string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.RemoteAddr = peer
		r.Header["X-Forwarded-For"] = []string{first, second}
		got := clientAddress(r, trusted)
		from, err := netip.ParseAddrPort(peer)
		switch {
		case err != nil:
			if got.IsValid() {
				t.Errorf("%s out of %q", got, peer)
			}
		case got.Zone() != "" || got.Is4In6():
			t.Errorf("%s is not in the form that limits and signatures have", got)
		case !within(from.Addr().Unmap().WithZone(""), trusted) && got != from.Addr().Unmap().WithZone(""):
			t.Errorf("%s talked %s into being %s", peer, first+","+second, got)
		}
	})
}

// FuzzHop checks that each parsed address has the form that limits and signatures use, and that parseHop reads it in every form
// that proxies write.
func FuzzHop(f *testing.F) {
	for _, seed := range []string{
		"198.51.100.1", "203.0.113.7:51234", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:443", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]:1", "fe80::1%eth0",
		"[fe80::1%a]b]", "1.2.3.4:", "[1.2.3.4]", "unknown", "_hidden", "", "[]", "[", ":80",
	} {
		f.Add(seed, uint16(443))
	}
	f.Fuzz(func(t *testing.T, hop string, port uint16) {
		address, ok := parseHop(hop)
		if !ok {
			return
		}
		if !address.IsValid() || address.Zone() != "" || address.Is4In6() {
			t.Fatalf("%q is read as %s", hop, address)
		}
		written := []string{address.String(), netip.AddrPortFrom(address, port).String()}
		if address.Is6() {
			written = append(written, "["+address.String()+"]")
		}
		for _, text := range written {
			if again, ok := parseHop(text); !ok || again != address {
				t.Errorf("%q is read as %s, and %q as %s", hop, address, text, again)
			}
		}
	})
}
