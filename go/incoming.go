package rdmaengine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// IncomingCall is a peer's call that waits for its answer. Its payload is there until it is answered.
type IncomingCall struct {
	// Method that is called.
	Method uint32
	// Header that came with it.
	Header Header
	// OneWay: nobody waits for an answer.
	OneWay bool

	id       uint64
	context  uint64
	payload  []byte
	answered atomic.Bool
}

// Handler answers a call by one of its methods, from any goroutine. The context ends when the caller gives up. A call that
// is not answered when its handler returns is given up: its caller gets StatusCanceled.
type Handler func(ctx context.Context, call *IncomingCall)

// handlers are an engine's, by method, and the calls that they work on.
type handlers struct {
	mu      sync.RWMutex
	methods map[uint32]Handler
	running map[uint64]context.CancelFunc
	closed  bool
	group   sync.WaitGroup
}

// Handle answers calls of a method on every session of the engine, each call in a goroutine of its own; the library bounds
// them (1,024 a session). nil takes the handler away. Calls of methods without one are answered StatusUnknownMethod.
func (e *Engine) Handle(method uint32, handler Handler) {
	e.handlers.mu.Lock()
	defer e.handlers.mu.Unlock()
	if handler == nil {
		delete(e.handlers.methods, method)
	} else {
		e.handlers.methods[method] = handler
	}
}

// called takes CALL_RECEIVED. The caller has the turn.
func (h *handlers) called(p *pump, id uint64, method uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	handler := h.methods[method]
	switch {
	case h.closed:
		callRelease(id)
		return
	case handler == nil:
		callRefuse(id, StatusUnknownMethod, 0)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.running[id] = cancel
	h.group.Add(1)
	go h.run(ctx, p, id, handler)
}

// canceled takes CALL_CANCELED: nobody waits any more.
func (h *handlers) canceled(id uint64) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if cancel := h.running[id]; cancel != nil {
		cancel()
	}
}

// end cancels every call and waits for its handler: the engine closes, and payloads are its memory.
func (h *handlers) end() {
	h.mu.Lock()
	h.closed = true
	for _, cancel := range h.running {
		cancel()
	}
	h.mu.Unlock()
	h.group.Wait()
}

func (h *handlers) run(ctx context.Context, p *pump, id uint64, handler Handler) {
	defer h.group.Done()
	defer func() {
		h.mu.Lock()
		h.running[id]()
		delete(h.running, id)
		h.mu.Unlock()
	}()
	call, left, err := callInfo(id)
	if err != nil {
		return
	}
	call.context = p.context
	if left > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	finished := false
	defer func() {
		switch {
		case !finished: // a panic, which goes on
			call.Refuse(StatusInternal, 0)
		case ctx.Err() == context.DeadlineExceeded:
			call.Refuse(StatusTimedOut, 0)
		default:
			call.Release()
		}
	}()
	handler(ctx, call)
	finished = true
}

// Payload is what the caller sent, until the call is answered.
func (c *IncomingCall) Payload() []byte { return c.payload }

// answer does what ends the call, once.
func (c *IncomingCall) answer(op string, do func() Status) error {
	if c.answered.Swap(true) {
		return fail(op, StatusWrongState)
	}
	status := do()
	if status < 0 {
		c.answered.Store(status == StatusStaleHandle)
		return fail(op, status)
	}
	c.payload = nil
	return nil
}

// Reply answers the call. `status` is the service's own; the payload is copied, and followed by `ranges`, which are not:
// they must not change until the caller has them.
func (c *IncomingCall) Reply(status int32, header Header, payload []byte, ranges ...BufferRange) error {
	return c.answer("reply", func() Status {
		if len(payload) <= copiedMax {
			return callReply(c.id, status, header, payload, ranges)
		}
		id, memory, err := bufferAlloc(c.context, len(payload), bufferUninitialised)
		if err != nil {
			return StatusOutOfMemory
		}
		defer bufferRelease(id)
		all := []BufferRange{{Buffer: &Buffer{id: id}, Length: int64(copy(memory, payload))}}
		return callReply(c.id, status, header, nil, append(all, ranges...))
	})
}

// Refuse answers that the call was not done, with a status of the library's, such as StatusBusy, and how long the caller
// shall wait before it tries again.
func (c *IncomingCall) Refuse(status Status, retryAfter time.Duration) error {
	return c.answer("refuse", func() Status { return callRefuse(c.id, status, retryAfter) })
}

// copiedMax is how much of an answer the library copies; more goes through a buffer.
const copiedMax = 64 << 10

// Release gives the call up: its caller gets StatusCanceled. After an answer it does nothing.
func (c *IncomingCall) Release() {
	if !c.answered.Swap(true) {
		callRelease(c.id)
		c.payload = nil
	}
}
