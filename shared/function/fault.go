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

// maxFaultDelay is how long a planted fault may hold a request: as long as a manifest lets one take.
const maxFaultDelay = 30 * time.Second

// faults are trouble that is planted in a revision, to see that what is to notice it does. They befall requests past
// Authenticated, at random; shares are from 0 to 1.
type faults struct {
	errors float64 // share that is answered 500
	slow   float64 // share that waits
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

// readShare reads a percentage over 0 and up to 100.
func readShare(text string) (share float64, ok bool) {
	number, ok := strings.CutSuffix(text, "%")
	percent, err := strconv.ParseFloat(number, 64)
	return percent / 100, ok && err == nil && percent > 0 && percent <= 100
}

// strike is what befalls one request: nothing, a delay, an error, or an error after a delay.
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
