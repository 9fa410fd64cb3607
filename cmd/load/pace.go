package main

import (
	"container/heap"
	"context"
	"math"
	"time"
)

// plan has the intents of all people in the order of time, without end.
type plan struct {
	*population
	queue queue
}

// newPlan returns a plan that begins long before the load, so that the load's first second has as many sessions as any other.
func newPlan(p *population) *plan {
	s := &plan{population: p}
	for i := range p.people {
		s.schedule(i, 0, -p.warmUp())
	}
	return s
}

// next returns the next intent, and leaves out intents before the start of the load.
func (s *plan) next() intent {
	for {
		e := heap.Pop(&s.queue).(event)
		if e.arrives {
			s.schedule(e.person, e.visit+1, e.at)
		} else if e.at >= 0 {
			return e.intent
		}
	}
}

// schedule puts a person's nth visit into the queue. The arrival is an event too; when it is due, the next visit is scheduled.
func (s *plan) schedule(person, n int, after time.Duration) {
	gap, intents := s.visit(person, n)
	if float64(after)+float64(gap) > math.MaxInt64/2 {
		return // after the end of every load
	}
	start := after + gap
	heap.Push(&s.queue, event{intent: intent{at: start, person: person}, arrives: true, visit: n})
	for _, i := range intents {
		i.at += start
		heap.Push(&s.queue, event{intent: i})
	}
}

// event is an intent, or the arrival of a person.
type event struct {
	intent
	arrives bool
	visit   int // number of the visit that begins with the arrival
}

// queue is a heap of events. The earliest is first.
type queue []event

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(e any)        { *q = append(*q, e.(event)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}

// pace calls start with each intent when it is due, until length is over or ctx is done. Times of intents count from begin. start must not wait
// for answers, so that a slow server gets no fewer requests (an open loop). A late intent is started immediately; due is the time when it should
// have started.
func pace(ctx context.Context, next func() intent, begin time.Time, length time.Duration, start func(i intent, due time.Time)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		i := next()
		due := begin.Add(min(i.at, length))
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if i.at >= length || ctx.Err() != nil {
			return
		}
		start(i, due)
	}
}
