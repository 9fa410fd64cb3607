package main

import (
	"container/heap"
	"context"
	"math"
	"time"
)

// plan is what all people mean to do, in the order of time, without end.
type plan struct {
	*population
	queue queue
}

// newPlan begins long before the load does, so that its first second has as many sessions going on as any other.
func newPlan(p *population) *plan {
	s := &plan{population: p}
	for i := range p.people {
		s.come(i, 0, -p.warmUp())
	}
	return s
}

// next is the next intent that is not before the load.
func (s *plan) next() intent {
	for {
		e := heap.Pop(&s.queue).(event)
		if e.arrives {
			s.come(e.person, e.visit+1, e.at)
		} else if e.at >= 0 {
			return e.intent
		}
	}
}

// come plans a person's nth visit. That they begin it is an event as well: the next one is planned then.
func (s *plan) come(person, n int, after time.Duration) {
	gap, intents := s.visit(person, n)
	if float64(after)+float64(gap) > math.MaxInt64/2 {
		return // not in any load
	}
	start := after + gap
	heap.Push(&s.queue, event{intent: intent{at: start, person: person}, arrives: true, visit: n})
	for _, i := range intents {
		i.at += start
		heap.Push(&s.queue, event{intent: i})
	}
}

// event is an intent, or that someone arrives.
type event struct {
	intent
	arrives bool
	visit   int // that they arrive for
}

// queue is a heap of events, the next one first.
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

// pace calls start with each intent when its time has come by the clock that started at begin, until length is over or
// ctx is done. start must not wait for answers: a server that takes its time is asked no less for it (an open loop). An
// intent that is late is started at once, and due says when it should have been.
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
