package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"

	"warble/shared/env"
	"warble/shared/store"
)

// settings are the addresses of the database and of the ingress, and more.
type settings struct {
	direct     *url.URL // of the database from this machine, as its owner; nil to leave the cluster's secrets unchanged
	podHost    string   // host:port of the database from pods
	poolerHost string   // host:port of the database from functions
	ingress    string   // host:port of the public ingress from this machine; if empty, it is read from the cluster
	sink       string   // URL to which relay posts events; if empty, that of its manifest

	communities [][2]string // to create: slug and name
}

// readSettings reads the settings from the environment, and the communities from the flags.
func readSettings(e *env.Reader, o *options) settings {
	s := settings{
		podHost:     e.String("DATABASE_POD_HOST", ""),
		ingress:     e.String("INGRESS_ADDRESS", ""),
		communities: o.communities,
	}
	s.poolerHost = e.String("DATABASE_POOLER_HOST", s.podHost)
	s.sink = e.String("K_SINK", "")
	if u, err := url.Parse(s.sink); s.sink != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		e.Reject("K_SINK", s.sink, "the URL of a broker's ingress, such as http://kafka-broker-ingress.knative-eventing.svc.cluster.local/warble/events")
	}
	text := e.String("DATABASE_DIRECT_URL", "")
	if text == "" {
		return s
	}
	direct, err := url.Parse(text)
	if err != nil || !strings.HasPrefix(direct.Scheme, "postgres") || len(direct.Path) < 2 {
		e.Reject("DATABASE_DIRECT_URL", "(not shown)", "the URL of the database's owner, such as postgres://owner:password@host:5432/warble")
		return s
	}
	s.direct = direct
	host := direct.Hostname()
	if ip := net.ParseIP(host); s.podHost == "" && (host == "" || host == "localhost" || ip != nil && ip.IsLoopback()) {
		e.Reject("DATABASE_POD_HOST", "", "host:port at which pods reach the database, because only this machine reaches the host of DATABASE_DIRECT_URL")
	}
	return s
}

// connect opens a connection to the database as its owner. The caller closes it.
func (s settings) connect(ctx context.Context) (*store.Conn, error) {
	conn, err := store.Connect(ctx, s.direct.String(), 0)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_DIRECT_URL: %w", err)
	}
	return conn, nil
}

// urlOf returns the URL of the database for a login, at host. If host is empty, it is the host of direct.
func (s settings) urlOf(login store.DatabaseLogin, host string) string {
	u := *s.direct
	u.User = url.UserPassword(login.Name, login.Password)
	return atHost(u, host)
}

// atHost returns u with another host, or unchanged if host is empty.
func atHost(u url.URL, host string) string {
	if host == "" {
		return u.String()
	}
	u.Host = host
	query := u.Query()
	query.Del("host") // a socket's folder, which would have precedence
	query.Del("port")
	u.RawQuery = query.Encode()
	return u.String()
}
