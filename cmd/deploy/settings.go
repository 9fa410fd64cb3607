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

// settings say where the database and the ingress are.
type settings struct {
	direct     *url.URL // of its owner, as this machine reaches it; nil where the cluster's secrets are to stay as they are
	podHost    string   // host:port that pods reach it at
	poolerHost string   // host:port that the functions reach it at
	ingress    string   // host:port of the public ingress from this machine; where empty, the cluster is asked
	sink       string   // where relay posts events; where empty, its manifest says

	communities [][2]string // that the database is to have: slug and name
}

// readSettings reads them from the environment, and the communities from the flags.
func readSettings(e *env.Reader, o *options) settings {
	s := settings{
		podHost:     e.String("DATABASE_POD_HOST", ""),
		ingress:     e.String("INGRESS_ADDRESS", ""),
		communities: o.communities,
	}
	s.poolerHost = e.String("DATABASE_POOLER_HOST", s.podHost)
	s.sink = e.String("K_SINK", "")
	if u, err := url.Parse(s.sink); s.sink != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		e.Reject("K_SINK", s.sink, "the URL of a broker's ingress, as http://kafka-broker-ingress.knative-eventing.svc.cluster.local/warble/events")
	}
	text := e.String("DATABASE_DIRECT_URL", "")
	if text == "" {
		return s
	}
	direct, err := url.Parse(text)
	if err != nil || !strings.HasPrefix(direct.Scheme, "postgres") || len(direct.Path) < 2 {
		e.Reject("DATABASE_DIRECT_URL", "(not shown)", "the URL of the database's owner, as postgres://owner:password@host:5432/warble")
		return s
	}
	s.direct = direct
	host := direct.Hostname()
	if ip := net.ParseIP(host); s.podHost == "" && (host == "" || host == "localhost" || ip != nil && ip.IsLoopback()) {
		e.Reject("DATABASE_POD_HOST", "", "host:port at which pods reach the database, for DATABASE_DIRECT_URL names one that only this machine does")
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

// urlOf is the URL of the database for a login, at the host that direct names or at another.
func (s settings) urlOf(login store.DatabaseLogin, host string) string {
	u := *s.direct
	u.User = url.UserPassword(login.Name, login.Password)
	return atHost(u, host)
}

// atHost returns u at another host. With an empty one, it returns u as it is.
func atHost(u url.URL, host string) string {
	if host == "" {
		return u.String()
	}
	u.Host = host
	query := u.Query()
	query.Del("host") // of a socket's folder, which has precedence
	query.Del("port")
	u.RawQuery = query.Encode()
	return u.String()
}
