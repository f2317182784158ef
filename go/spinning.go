package rdmaengine

import (
	"sync/atomic"
	"time"
)

// spinning is how long waits of one kind poll before they park. To poll and then park all the same has only kept a processor from
// whoever makes the answer. So waits that outlast the longest polling, one after another, shorten it, soon to nothing, and one
// that does not brings it back, parked or not.
type spinning struct {
	lost     atomic.Int32 // waits in a row that were too long
	unpolled int          // waits since that did not poll; of the turn
}

const (
	spinSteps = 5  // waits in a row that were too long until none polls; the first costs nothing
	spinProbe = 64 // waits, of which one polls then: two that wait for each other, both parked, would never find out how near they are
)

// budget is how long the next wait polls, of `longest` at most; 0: not at all.
func (w *spinning) budget(longest time.Duration) time.Duration {
	switch lost := w.lost.Load(); {
	case lost == 0:
		return longest
	case lost < spinSteps:
		return longest >> (lost - 1)
	}
	w.unpolled = (w.unpolled + 1) % spinProbe
	if w.unpolled == 0 {
		return longest
	}
	return 0
}

// ended takes whether a wait was over within the longest polling.
func (w *spinning) ended(short bool) {
	lost := w.lost.Load()
	if short && lost != 0 {
		w.lost.Store(0)
	} else if !short && lost < spinSteps {
		w.lost.Store(lost + 1)
	}
}

// Kinds of waits, which take different times.
const (
	waitShort = iota
	waitLong  // for much data
	waitMany  // for a batch
	waitMessage
	waitKinds
)

// longLeast bytes take longer than a wait that polls.
const longLeast = 256 << 10

// waitFor is the kind of a request's wait.
func waitFor(r *request, takes time.Duration) int {
	switch {
	case takes > 0:
		return waitMany
	case r.length >= longLeast:
		return waitLong
	}
	return waitShort
}
