package store

import "sync"

// maxWritten is how many rows one written remembers, at most: some megabytes.
const maxWritten = 100_000

// written remembers which rows this process has written or found, so that it does not write them again. When it is full, it forgets
// the older half. A forgotten row costs one more statement. The zero written is empty.
type written[K comparable] struct {
	mu         sync.RWMutex
	young, old map[K]struct{}
}

func (w *written[K]) has(row K) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if _, ok := w.young[row]; ok {
		return true
	}
	_, ok := w.old[row]
	return ok
}

func (w *written[K]) add(row K) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.young == nil || len(w.young) >= maxWritten/2 {
		w.old, w.young = w.young, make(map[K]struct{})
	}
	w.young[row] = struct{}{}
}
