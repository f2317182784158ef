package rdmaengine

import (
	"testing"
	"time"
)

// waits lets there be waits of so long, and tells how long each of them polled.
func waits(w *spinning, longest time.Duration, lengths ...time.Duration) (polled []time.Duration) {
	for _, length := range lengths {
		polled = append(polled, min(w.budget(longest), length))
		w.ended(length <= longest)
	}
	return polled
}

func repeated(length time.Duration, times int) []time.Duration {
	all := make([]time.Duration, times)
	for i := range all {
		all[i] = length
	}
	return all
}

func total(all []time.Duration) (sum time.Duration) {
	for _, one := range all {
		sum += one
	}
	return sum
}

func TestSpinningEndsWithWaitsThatAreTooLong(t *testing.T) {
	const longest = 48 * time.Microsecond
	var w spinning
	got := waits(&w, longest, repeated(longest+1, 7)...)
	for i, want := range []time.Duration{48, 48, 24, 12, 6, 0, 0} {
		if got[i] != want*time.Microsecond {
			t.Fatalf("wait %d polled for %v, not %d µs", i, got[i], want)
		}
	}
	// From then on one of many polls.
	if sum := total(waits(&w, longest, repeated(time.Millisecond, 64*spinProbe)...)); sum != 64*longest {
		t.Errorf("%v in %d waits", sum, 64*spinProbe)
	}
}

func TestSpinningComesBackWithAShortWait(t *testing.T) {
	const longest, short = 48 * time.Microsecond, 3 * time.Microsecond
	var w spinning
	waits(&w, longest, repeated(time.Millisecond, 10)...)
	if got := waits(&w, longest, short, short); got[0] != 0 || got[1] != short || w.budget(longest) != longest {
		t.Fatalf("polled for %v, then for %v", got, w.budget(longest))
	}
	// A long one among short ones changes nothing.
	for i, got := range waits(&w, longest, short, time.Millisecond, short, time.Millisecond, short) {
		if want := []time.Duration{short, longest}[i%2]; got != want {
			t.Fatalf("wait %d polled for %v", i, got)
		}
	}
}

func TestWaitsOfDifferentLengthAreDifferentKinds(t *testing.T) {
	for _, c := range []struct {
		length uint64
		takes  time.Duration
		want   int
	}{{0, 0, waitShort}, {longLeast - 1, 0, waitShort}, {longLeast, 0, waitLong}, {1 << 20, time.Microsecond, waitMany}} {
		if got := waitFor(&request{length: c.length}, c.takes); got != c.want {
			t.Errorf("%d bytes, %v: kind %d, not %d", c.length, c.takes, got, c.want)
		}
	}
}
