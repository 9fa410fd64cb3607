package idempotency_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"warble/shared/idempotency"
	"warble/shared/problem"
)

func TestOneRequestRunsAndAllGetItsAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, onceRunsOneAndAnswersAll)
}

func onceRunsOneAndAnswersAll(t *testing.T) {
	once := idempotency.NewOnce()
	first, other := idempotency.Key{Key: "k", Fingerprint: []byte("f")}, idempotency.Key{Key: "k", Fingerprint: []byte("other")}
	var runs, replayed atomic.Int32
	release := make(chan struct{})
	started := make(chan struct{})
	var all sync.WaitGroup
	do := func(context.Context, idempotency.Key) (idempotency.Answer, error) {
		runs.Add(1)
		close(started)
		<-release
		return idempotency.Answer{Status: 201, Body: []byte("x")}, nil
	}
	all.Go(func() {
		if _, err := once.Do(t.Context(), first, do); err != nil {
			t.Error(err)
		}
	})
	<-started
	if _, err := once.Do(t.Context(), other, do); !errors.Is(err, problem.Invalid) {
		t.Errorf("other fingerprint: %v", err)
	}
	for range 99 {
		all.Go(func() {
			answer, err := once.Do(t.Context(), first, do)
			if err != nil || string(answer.Body) != "x" {
				t.Errorf("%v %v", answer, err)
			}
			if answer.Replayed {
				replayed.Add(1)
			}
		})
	}
	if _, err := once.Do(t.Context(), idempotency.Key{Key: "other"}, func(context.Context, idempotency.Key) (idempotency.Answer, error) { return idempotency.Answer{}, nil }); err != nil {
		t.Errorf("another key must not wait: %v", err)
	}
	synctest.Wait() // for all of them to wait
	close(release)
	all.Wait()
	// Those that came after the first had ended would run again; here the row in PostgreSQL answers them.
	if runs.Load() != 1 || replayed.Load() != 99 {
		t.Errorf("%d runs, %d replays", runs.Load(), replayed.Load())
	}
}

func TestARunContinuesWithoutTheRequestThatBeganIt(t *testing.T) {
	t.Parallel()
	once := idempotency.NewOnce()
	func() {
		defer func() { _ = recover() }()
		_, _ = once.Do(t.Context(), idempotency.Key{Key: "k"}, func(context.Context, idempotency.Key) (idempotency.Answer, error) { panic("x") })
	}()
	answer, err := once.Do(t.Context(), idempotency.Key{Key: "k"}, func(ctx context.Context, _ idempotency.Key) (idempotency.Answer, error) {
		return idempotency.Answer{Status: 200}, ctx.Err()
	})
	if err != nil || answer.Status != 200 {
		t.Errorf("%v %v", answer, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := once.Do(gone, idempotency.Key{Key: "k"}, func(ctx context.Context, _ idempotency.Key) (idempotency.Answer, error) {
		return idempotency.Answer{}, ctx.Err()
	}); err != nil {
		t.Errorf("a run ends with the request that began it: %v", err)
	}
}
