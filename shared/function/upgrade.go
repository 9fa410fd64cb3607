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

// upgrades has the requests whose connections another protocol, such as WebSocket, may take over. http.Server's Shutdown neither waits for
// such connections nor closes them.
type upgrades struct {
	mu   sync.Mutex
	open map[*Exchange]context.CancelFunc
	over chan struct{} // nil until the drain; then closed when the last upgrade has ended
}

// Upgrade registers a request that may take over its connection. It returns the request to continue with, whose context ends when the drain
// has no more time for it, and a function to call at the end. While the process drains, the error is problem.Unavailable, so that the
// client tries again and reaches another process.
func (x *Exchange) Upgrade(r *http.Request) (*http.Request, func(), error) {
	if x.function == nil { // outside of a request
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

// refuse makes further calls of Upgrade fail.
func (u *upgrades) refuse() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = make(chan struct{})
	if len(u.open) == 0 {
		close(u.over)
	}
}

// wait returns when all upgrades have ended. When ctx ends, it cuts those that are left, returns how many, and waits for them only briefly.
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
