package rdmaengine

import "time"

// Stats is what an engine or a session counted. The histograms hold a sample of the operations.
type Stats struct {
	Counters
	// Get holds the times of gets, from submission to completion.
	Get Histogram
	// Put holds the times of puts, from submission to completion.
	Put Histogram
	// Message holds the times of messages, from submission to completion at the sender.
	Message Histogram
	// Connect holds the times of dials.
	Connect Histogram
}

// Counters count events since the object was opened; all only grow.
type Counters struct {
	// Submitted: requests that were accepted.
	Submitted uint64
	// Completed: completions of requests, whatever their status.
	Completed uint64
	// Failed: completions with an error.
	Failed uint64
	// TimedOut: of the failed: deadlines that passed.
	TimedOut uint64
	// Canceled: of the failed: cancelled, or closed under.
	Canceled uint64
	// QueueFull: requests that were not accepted because a queue was full.
	QueueFull uint64
	// Gets: gets that succeeded.
	Gets uint64
	// Puts: puts that succeeded.
	Puts uint64
	// Flushes: flushes that succeeded.
	Flushes uint64
	// Atomics: fetch-adds and compare-and-swaps that succeeded.
	Atomics uint64
	// Sends: messages that were sent.
	Sends uint64
	// Messages: messages that arrived.
	Messages uint64
	// GetBytes: bytes read by gets.
	GetBytes uint64
	// PutBytes: bytes written by puts.
	PutBytes uint64
	// SendBytes: bytes of the messages that were sent.
	SendBytes uint64
	// MessageBytes: bytes of the messages that arrived.
	MessageBytes uint64
	// WayOperations: gets and puts by the way they went: mapped, RMA, message.
	WayOperations [3]uint64
	// WayBytes: their bytes: mapped, RMA, message.
	WayBytes [3]uint64
	// ServedGets: gets of peers that this side served with messages.
	ServedGets uint64
	// ServedPuts: puts of peers that this side served with messages.
	ServedPuts uint64
	// ServedAtomics: atomics of peers that this side served with messages.
	ServedAtomics uint64
	// ServedBytes: bytes moved by what was served.
	ServedBytes uint64
	// Refused: requests of peers that were refused: key, range, rights, or revoked.
	Refused uint64
	// Connects: sessions that were dialled and opened.
	Connects uint64
	// Accepts: sessions that were accepted.
	Accepts uint64
	// ConnectsFailed: dials that failed.
	ConnectsFailed uint64
	// HellosRefused: peers that were turned away at the hello: limit, version, settings, or nonsense.
	HellosRefused uint64
	// SessionsClosed: sessions that ended in order.
	SessionsClosed uint64
	// SessionsLost: sessions that ended because their peer was lost.
	SessionsLost uint64
	// Exports: keys that were exported.
	Exports uint64
	// Revokes: keys that were revoked.
	Revokes uint64
	// Imports: keys of peers that were imported.
	Imports uint64
	// Polls: calls to poll.
	Polls uint64
	// Sleeps: times the worker went to sleep.
	Sleeps uint64
	// Wakes: times the worker was woken from sleep by a submission or a wake.
	Wakes uint64
	// LogsDropped: log messages that were dropped because their callback was busy with another of the same thread.
	LogsDropped uint64
}

// Histogram holds durations in power-of-two buckets: bucket 0 those below 16 ns, bucket i those below 16<<i ns, the last
// one everything from 16<<30 ns (17 s) on.
type Histogram struct {
	// Buckets: how many durations fell in each.
	Buckets [32]uint64
	// SumNs is the sum of all durations in nanoseconds.
	SumNs uint64
	// MaxNs is the longest in nanoseconds.
	MaxNs uint64
}

// Count is how many durations there are.
func (h *Histogram) Count() (n uint64) {
	for _, bucket := range h.Buckets {
		n += bucket
	}
	return n
}

// Quantile is the end of the bucket below which a share q of the durations lies, 0 without any.
func (h *Histogram) Quantile(q float64) time.Duration {
	rest := q * float64(h.Count())
	if rest <= 0 {
		return 0
	}
	for i, bucket := range h.Buckets {
		if rest -= float64(bucket); rest <= 0 {
			return min(time.Duration(16)<<i, time.Duration(h.MaxNs))
		}
	}
	return time.Duration(h.MaxNs)
}
