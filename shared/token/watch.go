package token

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"warble/shared/env"
)

// checkEvery is the shortest time between two checks whether a watched file has changed. Each use of the file checks with a
// stat. So changes of a mounted secret or ConfigMap, which replace a symbolic link, are noticed, and no goroutine has to be
// stopped.
const checkEvery = time.Second

// watched is a file's parsed content. It is parsed again when the file changes. If the file cannot be read or parsed, the old
// content stays.
type watched[T any] struct {
	file  string
	parse func([]byte) (*T, error)
	value atomic.Pointer[T]
	// before is the content before the last change; nil if this process has seen no change.
	before atomic.Pointer[T]
	due    atomic.Int64 // when to check next, in Unix nanoseconds

	mu   sync.Mutex
	seen os.FileInfo // of the content in value
}

// watch reads file for the first time. An error is reported to e as a mistake of the variable name.
func watch[T any](e *env.Reader, name, file string, parse func([]byte) (*T, error)) *watched[T] {
	w := &watched[T]{file: file, parse: parse}
	w.value.Store(new(T))
	if file == "" {
		return w // already a mistake
	}
	if err := w.check(); err != nil {
		e.Reject(name, file, "a usable key file: "+err.Error())
	}
	return w
}

// get returns the file's content, which is at most checkEvery old.
func (w *watched[T]) get(now time.Time) *T {
	due := w.due.Load()
	if instant := now.UnixNano(); instant >= due && w.due.CompareAndSwap(due, instant+int64(checkEvery)) {
		_ = w.check() // the last good value stays in use, and Ready says why
	}
	return w.value.Load()
}

// check reads the file if it has changed since it was last read successfully.
func (w *watched[T]) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	info, err := os.Stat(w.file)
	if err != nil {
		return fmt.Errorf("read key file: %w", err)
	}
	if w.seen != nil && os.SameFile(info, w.seen) && info.ModTime().Equal(w.seen.ModTime()) && info.Size() == w.seen.Size() {
		return nil
	}
	text, err := os.ReadFile(w.file)
	if err != nil {
		return fmt.Errorf("read key file: %w", err)
	}
	value, err := w.parse(text)
	if err != nil {
		return fmt.Errorf("key file %s: %w", w.file, err)
	}
	if w.seen != nil {
		w.before.Store(w.value.Load())
	}
	w.value.Store(value)
	w.seen = info
	return nil
}
