package main

import (
	"fmt"
	"hash/maphash"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"warble/shared/env"
	"warble/shared/problem"
)

// class is a kind of call with its own limit.
type class uint8

const (
	read class = iota
	write
	auth
	classes
)

var classNames = [classes]string{"read", "write", "auth"}

// classOf returns auth for a call that costs a password hash, read for a call that changes nothing, and write for the rest.
func classOf(r *http.Request) class {
	if strings.HasPrefix(r.URL.Path, "/auth/") && r.URL.Path != "/auth/validate" {
		return auth
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions || r.URL.Path == "/auth/validate" {
		return read
	}
	return write
}

// limit is how many calls one client may make in a window.
type limit struct {
	calls  int
	window time.Duration
}

type limits [classes]limit

// limitsFromEnv reads RATE_LIMIT_READ (900/15m), RATE_LIMIT_WRITE (300/15m) and RATE_LIMIT_AUTH (60/1m).
func limitsFromEnv(e *env.Reader) (l limits) {
	for class, fallback := range [classes]string{"900/15m", "300/15m", "60/1m"} {
		name := "RATE_LIMIT_" + strings.ToUpper(classNames[class])
		text := e.String(name, fallback)
		one, err := parseLimit(text)
		if err != nil || one == (limit{}) {
			e.Reject(name, text, "calls per window of whole seconds, such as "+fallback)
			continue
		}
		l[class] = one
	}
	return l
}

// parseLimit reads calls per window, such as 900/15m. An empty text gives the zero limit, which means no limit.
func parseLimit(text string) (limit, error) {
	if text == "" {
		return limit{}, nil
	}
	calls, window, _ := strings.Cut(text, "/")
	number, err := strconv.Atoi(calls)
	duration, windowErr := time.ParseDuration(window)
	if err != nil || windowErr != nil || number < 1 || duration < time.Second || duration%time.Second != 0 {
		return limit{}, fmt.Errorf("%q: expected calls per window of whole seconds, such as 100/1m", text)
	}
	return limit{number, duration}, nil
}

// limitKey says for whom a call is counted: a user if there is a token, otherwise an address.
type limitKey struct {
	class   class
	user    int64
	address netip.Addr
}

// count is how many calls were made in the window that began with the first of them.
type count struct {
	used int
	ends time.Time
}

const (
	shards = 64
	// perShard limits the memory that a flood of addresses can take: 64 x 4096 keys, about 40 MB. Above this number a new key
	// evicts an old one. So in such a flood the edge may forget calls, but it never refuses a client because of other clients'
	// calls.
	perShard = 4096
	// sweepLimit is how many counts an insertion into a full shard checks for an expired one.
	sweepLimit = 16
)

// limiter counts calls in fixed windows, in this process alone. It allows this replica's share of the limits, and its headers state
// that share.
type limiter struct {
	limits limits
	share  atomic.Pointer[share]
	now    func() time.Time
	seed   maphash.Seed
	shards [shards]struct {
		sync.Mutex
		counts map[limitKey]count
	}
}

// share is one replica's part of the limits.
type share struct {
	limits
	most, policies [classes][]string // the limits in the format of the headers, made once
}

func newLimiter(l limits, now func() time.Time) *limiter {
	m := &limiter{limits: l, now: now, seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].counts = make(map[limitKey]count)
	}
	m.divide(1)
	return m
}

// divide divides the limits by the number of replicas. Calls of the present window still count.
func (m *limiter) divide(replicas int) {
	s := &share{limits: m.limits}
	for c := range classes {
		l := &s.limits[c]
		l.calls = max(1, l.calls/replicas)
		s.most[c] = []string{strconv.Itoa(l.calls)}
		s.policies[c] = []string{`"` + classNames[c] + `";q=` + strconv.Itoa(l.calls) + `;w=` + strconv.Itoa(int(l.window/time.Second))}
	}
	m.share.Store(s)
}

// take counts one call and sets the answer's limit headers. If no call is left, it returns how long to wait. A call of the class
// auth counts for its address even with a token; otherwise each additional account would allow more password guesses.
func (m *limiter) take(header http.Header, c class, user int64, address netip.Addr) (wait time.Duration) {
	who := limitKey{class: c, user: user}
	if user == 0 || c == auth {
		who.user = 0
		who.address = address
		if address.Is6() {
			prefix, _ := address.Prefix(64) // one customer has at least a /64
			who.address = prefix.Addr()
		}
	}
	now, share := m.now(), m.share.Load()
	limit := share.limits[c]
	used, ends := m.count(who, now, limit)
	left := limit.calls - used
	if left < 0 {
		left, wait = 0, ends.Sub(now)
	}
	share.describe(header, c, left, ends, ends.Sub(now))
	return wait
}

// count adds one call. It stops counting at one above the limit.
func (m *limiter) count(who limitKey, now time.Time, limit limit) (used int, ends time.Time) {
	shard := &m.shards[maphash.Comparable(m.seed, who)%shards]
	shard.Lock()
	defer shard.Unlock()
	n, known := shard.counts[who]
	if !known && len(shard.counts) >= perShard {
		evict(shard.counts, now)
	}
	if !known || !now.Before(n.ends) {
		n = count{ends: now.Add(limit.window)}
	}
	n.used = min(n.used+1, limit.calls+1)
	shard.counts[who] = n
	return n.used, n.ends
}

// evict makes room for one key. It looks at up to sweepLimit keys and removes those that have expired. If none has, it removes
// the last one that it looked at.
func evict(counts map[limitKey]count, now time.Time) {
	visited, found := 0, false
	for who, n := range counts {
		visited++
		if !now.Before(n.ends) {
			delete(counts, who)
			found = true
		} else if visited >= sweepLimit && !found {
			delete(counts, who)
			return
		}
		if visited >= sweepLimit {
			return
		}
	}
}

// describe sets X's three headers, and the two of draft-ietf-httpapi-ratelimit-headers. Times are rounded up, so that the next
// window has begun when a client has waited as long as a header says.
func (s *share) describe(header http.Header, c class, left int, ends time.Time, rest time.Duration) {
	remaining := strconv.Itoa(left)
	header["X-Rate-Limit-Limit"] = s.most[c]
	header["X-Rate-Limit-Remaining"] = []string{remaining}
	header["X-Rate-Limit-Reset"] = []string{strconv.FormatInt(ends.Add(time.Second-1).Unix(), 10)}
	header["Ratelimit-Policy"] = s.policies[c]
	header["Ratelimit"] = []string{`"` + classNames[c] + `";r=` + remaining + `;t=` + strconv.Itoa(problem.Seconds(rest))}
}
