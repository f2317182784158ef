package seaweedfs

import (
	"errors"
	"sync/atomic"
	"time"

	"rdma-engine/rdmaengine"
)

// Stats of a reader; all only grow.
type Stats struct {
	// Reads that the engine answered, and their Bytes.
	Reads, Bytes uint64
	// Passed: reads that went to what is wrapped: not eligible, no exporter, or the engine failed.
	Passed uint64
	// Ineligible: reads that an exporter left to HTTP. Refused: that it answered with a verdict: not found, deleted, cookie,
	// expired, token, damaged. Failed: that the engine failed, a needle of another length included.
	Ineligible, Refused, Failed uint64
	// Time that the engine's reads took together.
	Time time.Duration
}

type counters struct {
	reads, bytes, passed, ineligible, refused, failures, nanoseconds atomic.Uint64
}

// Stats tells what the reader counted.
func (r *Reader) Stats() Stats {
	c := &r.stats
	return Stats{Reads: c.reads.Load(), Bytes: c.bytes.Load(), Passed: c.passed.Load(), Ineligible: c.ineligible.Load(),
		Refused: c.refused.Load(), Failed: c.failures.Load(), Time: time.Duration(c.nanoseconds.Load())}
}

func (c *counters) done(started time.Time, length int) {
	c.reads.Add(1)
	c.bytes.Add(uint64(length))
	c.nanoseconds.Add(uint64(time.Since(started)))
}

// verdicts are what an exporter says of a needle, rather than of itself.
var verdicts = []rdmaengine.Status{rdmaengine.StatusNotFound, rdmaengine.StatusDeleted, rdmaengine.StatusCookieMismatch,
	rdmaengine.StatusExpired, rdmaengine.StatusUnauthorized, rdmaengine.StatusCorrupted, rdmaengine.StatusOutOfRange}

func (c *counters) failed(err error) {
	if errors.Is(err, rdmaengine.StatusIneligible) {
		c.ineligible.Add(1)
		return
	}
	for _, verdict := range verdicts {
		if errors.Is(err, verdict) {
			c.refused.Add(1)
			return
		}
	}
	c.failures.Add(1)
}
