package token

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"warble/shared/env"
)

// lookEvery is how often, at most, use of a watched file looks whether it has changed. It is a stat, so that a mounted
// secret or ConfigMap, which changes by swapping a symbolic link, is seen, and no goroutine has to be stopped.
const lookEvery = time.Second

// watched is what a file says, parsed again when the file changes. A file that cannot be read or parsed changes nothing.
type watched[T any] struct {
	file  string
	parse func([]byte) (*T, error)
	value atomic.Pointer[T]
	// before is what the file said before it last changed; nil where this process has seen no change.
	before atomic.Pointer[T]
	due    atomic.Int64 // when to look next, in Unix nanoseconds

	mu   sync.Mutex
	seen os.FileInfo // of the content in value
}

// watch reads file for the first time; what is wrong with it is a mistake of the variable name.
func watch[T any](e *env.Reader, name, file string, parse func([]byte) (*T, error)) *watched[T] {
	w := &watched[T]{file: file, parse: parse}
	w.value.Store(new(T))
	if file == "" {
		return w // already a mistake
	}
	if err := w.look(); err != nil {
		e.Reject(name, file, err.Error())
	}
	return w
}

// get returns what the file said when it was last looked at, within lookEvery of now.
func (w *watched[T]) get(now time.Time) *T {
	due := w.due.Load()
	if instant := now.UnixNano(); instant >= due && w.due.CompareAndSwap(due, instant+int64(lookEvery)) {
		_ = w.look() // the last good value stays in use, and Ready says why
	}
	return w.value.Load()
}

// look reads the file if it has changed since it was last read well.
func (w *watched[T]) look() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	info, err := os.Stat(w.file)
	if err != nil {
		return fmt.Errorf("look at key file: %w", err)
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
