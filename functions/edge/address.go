package main

import (
	"net/http"
	"net/netip"
	"strings"

	"warble/shared/env"
)

// prefixesFromEnv reads networks ("10.0.0.0/8") and single addresses.
func prefixesFromEnv(e *env.Reader, name string) (prefixes []netip.Prefix) {
	for _, entry := range e.List(name) {
		if address, err := netip.ParseAddr(entry); err == nil && address.Zone() == "" {
			address = address.Unmap()
			prefixes = append(prefixes, netip.PrefixFrom(address, address.BitLen()))
		} else if prefix, err := netip.ParsePrefix(entry); err == nil && !prefix.Addr().Is4In6() { // a 4in6 prefix would contain no unmapped address
			prefixes = append(prefixes, prefix.Masked())
		} else {
			e.Reject(name, entry, "networks such as 10.0.0.0/8, or addresses, separated by commas")
		}
	}
	return prefixes
}

// clientAddress returns the right-most hop that is not trusted. Anybody may have written the hops of X-Forwarded-For to its left.
func clientAddress(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	client := peer.Addr().Unmap().WithZone("") // a zone names an interface of this machine, and no prefix contains one
	if !within(client, trusted) {
		return client
	}
	hops := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	for hops != "" {
		var hop string
		if i := strings.LastIndexByte(hops, ','); i >= 0 {
			hops, hop = hops[:i], hops[i+1:]
		} else {
			hops, hop = "", hops
		}
		address, ok := parseHop(strings.TrimSpace(hop))
		if !ok {
			return client // the last address that a trusted hop confirms
		}
		if client = address; !within(client, trusted) {
			return client
		}
	}
	return client
}

// parseHop reads one hop of X-Forwarded-For: an address. Some proxies write it in brackets, or with a port.
func parseHop(hop string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(hop)
	if inner, bracketed := strings.CutPrefix(hop, "["); err != nil && bracketed && strings.HasSuffix(inner, "]") {
		address, err = netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if address.Is4() {
			return netip.Addr{}, false
		}
	} else if err != nil {
		var withPort netip.AddrPort
		withPort, err = netip.ParseAddrPort(hop)
		address = withPort.Addr()
	}
	return address.Unmap().WithZone(""), err == nil
}

func within(address netip.Addr, prefixes []netip.Prefix) bool {
	for _, prefix := range prefixes {
		if prefix.Contains(address) {
			return true
		}
	}
	return false
}
