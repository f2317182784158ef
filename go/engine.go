package rdmaengine

import (
	"context"
	"sync"
	"time"
)

// Engine holds registered memory, limits, and the hidden workers: one with a thread of the library for sessions that are
// accepted, one for those that are dialled. All methods may be called by many goroutines.
type Engine struct {
	context  uint64
	spin     time.Duration
	options  Options
	handlers handlers

	mu        sync.Mutex
	closed    bool
	ended     chan struct{} // closed when Close is through
	serving   *pump
	dialing   *pump
	exporters []*Exporter
}

const spinTime = 50 * time.Microsecond

// Open finds and loads UCX, once for the process, and opens an engine. Without the library or without UCX the error is
// ErrUnsupported and says what is missing. The first call sets environment variables of UCX in the C environment.
func Open(options Options) (*Engine, error) {
	e := &Engine{options: options, spin: options.Spin, ended: make(chan struct{})}
	e.handlers.methods = make(map[uint32]Handler)
	e.handlers.running = make(map[uint64]context.CancelFunc)
	if e.spin == 0 {
		e.spin = spinTime
	}
	for _, bound := range []int64{options.MemoryLimit, options.MaxMessage, int64(options.MaxSessions),
		int64(options.MaxExports), int64(options.Keepalive), int64(options.ConnectTimeout), int64(options.IdleTimeout)} {
		if bound < 0 {
			return nil, &Error{Op: "open", Status: StatusInvalidArgument, Message: "an option is negative"}
		}
	}
	var err error
	if e.context, err = contextOpen(&e.options); err != nil {
		return nil, err
	}
	return e, nil
}

// Close ends every session in order, then whatever is still in flight, and frees all memory: buffers and messages with
// their bytes are gone. Before, the contexts of handlers end, and it waits until they have returned: no handler may call it.
// Calls that wait return ErrClosed. A second Close waits for the first and returns nil.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		<-e.ended
		return nil
	}
	e.closed = true
	pumps, exporters := []*pump{e.dialing, e.serving}, e.exporters
	e.mu.Unlock()
	defer close(e.ended)
	e.handlers.end()
	for _, x := range exporters {
		x.Close()
	}
	for _, p := range pumps {
		if p != nil {
			p.close()
		}
	}
	return contextClose(e.context)
}

// Info tells what the engine found and is bound by.
func (e *Engine) Info() (Info, error) {
	info, err := contextInfo(e.context)
	info.Version = libraryVersion()
	return info, e.plain("info", err)
}

// Stats tells what the engine counted.
func (e *Engine) Stats() (Stats, error) {
	all, err := contextStats(e.context)
	return all, e.plain("stats", err)
}

// Metrics are counters and histograms in the Prometheus text format.
func (e *Engine) Metrics() (string, error) {
	text, err := contextMetrics(e.context)
	return text, e.plain("metrics", err)
}

// Revoke takes a key of this engine back: when it returns, no operation with it starts any more. A peer that has mapped
// the range can still read or write the old memory, which is never used for anything else.
func (e *Engine) Revoke(key Key) error { return e.plain("revoke", keyRevoke(e.context, key)) }

// plain says that an engine is closed where the library only says that its handle is stale.
func (e *Engine) plain(op string, err error) error {
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.closed {
			return closedFailure(op)
		}
	}
	return err
}

// pump returns the hidden worker for dialled or accepted sessions, opening it for its first session.
func (e *Engine) pump(op string, which **pump, polled bool) (*pump, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, closedFailure(op)
	}
	if *which == nil {
		p, err := openPump(e, polled)
		if err != nil {
			return nil, err
		}
		*which = p
	}
	return *which, nil
}

// Dial opens a session to a peer: "tcp://host:port" or "unix:///path". Sessions to one peer share what lies below, so
// that another one costs next to nothing.
func (e *Engine) Dial(ctx context.Context, address string) (*Session, error) {
	p, err := e.pump("dial", &e.dialing, !e.options.DialThread)
	if err != nil {
		return nil, err
	}
	s := newSession(p)
	_, err = p.control(ctx, "dial", s, func(userData uint64) error { return sessionConnect(p.worker, address, userData) })
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Listen accepts sessions at an address: "tcp://host:port" (port 0 picks one; IPv6 in brackets) or "unix:///path".
func (e *Engine) Listen(address string) (*Listener, error) {
	p, err := e.pump("listen", &e.serving, false)
	if err != nil {
		return nil, err
	}
	return p.listen(address)
}
