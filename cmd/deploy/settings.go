package main

import (
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
}

func readSettings(e *env.Reader) settings {
	s := settings{
		podHost: e.String("DATABASE_POD_HOST", ""),
		ingress: e.String("INGRESS_ADDRESS", ""),
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

// logIn is the URL of a login as this machine would use it.
func (s settings) logIn(login store.DatabaseLogin) string { return as(s.direct, login, "") }

// as is the URL of a database for another login, and at another host unless that is empty.
func as(direct *url.URL, login store.DatabaseLogin, host string) string {
	u := *direct
	u.User = url.UserPassword(login.Name, login.Password)
	return at(u, host)
}

func at(u url.URL, host string) string {
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
