package rdmaengine

import (
	"context"
	"sync"
)

// fileLeast bytes are worth asking whether an exporter sends from the page cache.
const fileLeast = 64 << 10

// checker is whether the exporter leaves the check of whole needles to us where that lets it send from the page cache: one
// that knows of lent memory does. It is asked once.
type checker struct {
	mu    sync.Mutex
	asked bool
	knows bool
}

func (s *Session) checksHere(ctx context.Context) bool {
	c := &s.checks
	// Who comes while somebody asks does without.
	if !c.mu.TryLock() {
		return false
	}
	defer c.mu.Unlock()
	if !c.asked {
		reply, err := s.Call(ctx, &Call{Method: methodMemory})
		if err == nil {
			reply.Release()
		}
		failed, ok := err.(*Error)
		c.asked = err == nil || ok && failed.Status == StatusUnknownMethod
		c.knows = err == nil && Status(reply.Status) == StatusNotFound
	}
	return c.knows
}
