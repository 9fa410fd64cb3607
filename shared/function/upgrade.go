package function

import (
	"context"
	"net/http"
	"sync"
	"time"

	"warble/shared/problem"
)

// cutLimit is how long a drain waits for connections that it has cut.
const cutLimit = time.Second

// upgrades are the requests whose connections another protocol may take over, as that of a WebSocket. http.Server's Shutdown neither
// waits for such connections nor closes them.
type upgrades struct {
	mu   sync.Mutex
	open map[*Exchange]context.CancelFunc
	over chan struct{} // closed when the last has ended; nil while new ones are taken
}

// Upgrade is called with a request that may take over its connection. It returns the request to go on with, whose context ends when the
// drain has no more time for it, and a function to call at its end. While the process drains it is problem.Unavailable: the client's
// next attempt meets another process.
func (x *Exchange) Upgrade(r *http.Request) (*http.Request, func(), error) {
	if x.function == nil { // an Exchange of no request
		return r, func() {}, nil
	}
	u := &x.function.upgrades
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over != nil {
		return r, func() {}, problem.Unavailable.Detail("this process is about to end: try again").After(problem.DefaultRetryAfter)
	}
	ctx, cancel := context.WithCancel(r.Context())
	if u.open == nil {
		u.open = make(map[*Exchange]context.CancelFunc)
	}
	u.open[x] = cancel
	return r.WithContext(ctx), func() { u.end(x) }, nil
}

func (u *upgrades) end(x *Exchange) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open[x]()
	delete(u.open, x)
	if u.over != nil && len(u.open) == 0 {
		close(u.over)
	}
}

// refuse takes no more.
func (u *upgrades) refuse() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = make(chan struct{})
	if len(u.open) == 0 {
		close(u.over)
	}
}

// wait returns when all have ended, at the latest soon after the end of ctx: then it cuts those that are left, and says how many.
func (u *upgrades) wait(ctx context.Context) (cut int) {
	select {
	case <-u.over:
		return 0
	case <-ctx.Done():
	}
	u.mu.Lock()
	cut = len(u.open)
	for _, cancel := range u.open {
		cancel()
	}
	u.mu.Unlock()
	select {
	case <-u.over:
	case <-time.After(cutLimit):
	}
	return cut
}
