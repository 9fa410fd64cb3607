package function

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"warble/shared/env"
	"warble/shared/problem"
)

// maxFaultDelay is the longest delay of a planted fault: as long as the manifests let a request take.
const maxFaultDelay = 30 * time.Second

// faults are planted in a revision to test that they are noticed. They hit random requests that have passed Authenticated. Shares
// are from 0 to 1.
type faults struct {
	errors float64 // share of requests that are answered 500
	slow   float64 // share of requests that wait
	delay  time.Duration
}

// readFaults reads FAULTS: error=5%,slow=300ms@10%, or one of them.
func readFaults(e *env.Reader) (f faults) {
	for _, entry := range e.List("FAULTS") {
		name, value, _ := strings.Cut(entry, "=")
		ok := false
		switch name {
		case "error":
			f.errors, ok = readShare(value)
		case "slow":
			delay, share, _ := strings.Cut(value, "@")
			var err error
			f.delay, err = time.ParseDuration(delay)
			f.slow, ok = readShare(share)
			ok = ok && err == nil && f.delay > 0 && f.delay <= maxFaultDelay
		}
		if !ok {
			e.Reject("FAULTS", entry, "error=5%,slow=300ms@10%, with shares up to 100% and a delay up to "+maxFaultDelay.String())
		}
	}
	return f
}

// readShare reads a percentage above 0 and up to 100 as a share.
func readShare(text string) (share float64, ok bool) {
	number, ok := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(number, 64)
	return percent / 100, ok && err == nil && percent > 0 && percent <= 100
}

// strike lets one request pass, or gives it a delay, an error, or both.
func (f faults) strike(ctx context.Context) error {
	if f == (faults{}) {
		return nil
	}
	if rand.Float64() < f.slow { //nolint:gosec // nobody gains by guessing it
		select {
		case <-time.After(f.delay):
		case <-ctx.Done():
		}
	}
	if rand.Float64() < f.errors { //nolint:gosec // as above
		return problem.Internal.Because(errors.New("planted by FAULTS"))
	}
	return nil
}
