// Package clocktest measures in a test how long something took, even if the machine is busy with other work.
package clocktest

import "time"

// tick is how long the probe sleeps each time. It is short, so that the probe is delayed as often as other work.
const tick = 2 * time.Millisecond

// Took runs do and returns how long it took, minus the machine's delay in this time. A probe measures the delay: it sleeps for a tick
// again and again, and adds up by how much it overslept. On an idle machine the result is the elapsed time, to a few percent, so a
// test notices if do is too slow. On a busy machine, the delay does not make the test fail.
func Took(do func()) time.Duration { return took(do, time.Sleep) }

func took(do func(), sleep func(time.Duration)) time.Duration {
	var late time.Duration
	began, done, probed := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(probed)
		for {
			select {
			case <-done:
				return
			default:
			}
			slept := time.Now()
			sleep(tick)
			late += time.Since(slept) - tick
		}
	}()
	took := func() time.Duration {
		defer close(done) // even if do ends the test
		do()
		return time.Since(began)
	}()
	<-probed
	return max(0, took-late)
}
