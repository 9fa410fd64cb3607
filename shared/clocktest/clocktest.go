// Package clocktest lets a test say how long something took on a machine that is busy with something else.
package clocktest

import "time"

// tick is short, for what it is woken late by is what everything else is.
const tick = 2 * time.Millisecond

// Took runs do and returns how long that took, less how late this machine was meanwhile: by a probe that goes to sleep for
// a tick over and over, and adds up what it slept longer. On a machine that has the time it is what a watch would say, to a
// few percent, so that a promise which is not kept is noticed; on one that is busy, the promise is not blamed for that.
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
		defer close(done) // also where do ends the test
		do()
		return time.Since(began)
	}()
	<-probed
	return max(0, took-late)
}
