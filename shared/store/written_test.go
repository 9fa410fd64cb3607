package store

import "testing"

// A memory that grew with the number of users would end the process. A memory that forgot the newest rows would cost a statement each time.
func TestWrittenForgetsTheOlderHalf(t *testing.T) {
	t.Parallel()
	var w written[int]
	if w.has(0) {
		t.Error("an empty memory remembers")
	}
	for i := range 3 * maxWritten {
		w.add(i)
		if kept := len(w.young) + len(w.old); kept > maxWritten {
			t.Fatalf("%d rows are remembered", kept)
		}
		for _, recent := range []int{i, max(0, i-maxWritten/2+1)} {
			if !w.has(recent) {
				t.Fatalf("after %d rows, row %d is forgotten", i+1, recent)
			}
		}
	}
	if w.has(0) {
		t.Error("the oldest row is remembered")
	}
}
