package rdmaengine

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Session is a connection to a peer. Its methods may be called by many goroutines.
type Session struct {
	pump     *pump
	id       uint64
	messages *queue[Message]
	once     sync.Once
	ended    atomic.Pointer[Error] // why it ended
	gone     chan struct{}         // closed when it has
	lent     lender
	checks   checker
}

// messagesMax bounds messages that wait for Receive; a peer that sends more is not listened to any more.
const messagesMax = 64 << 10

func newSession(p *pump) *Session {
	return &Session{pump: p, messages: newQueue[Message](), gone: make(chan struct{})}
}

func (s *Session) open(id uint64) { s.id = id }

// control makes a call of the library that ends in a completion.
func (p *pump) control(ctx context.Context, op string, s *Session, call func(userData uint64) error) (result, error) {
	if ctx.Err() != nil {
		return result{}, interrupted(op, ctx)
	}
	p.mu.Lock()
	o := p.ops.take()
	if p.closing || o == nil {
		if o != nil {
			p.ops.give(o)
		}
		p.mu.Unlock()
		return result{}, closedFailure(op)
	}
	o.left, o.session = 1, s
	p.inflight.Add(1)
	p.mu.Unlock()
	if err := call(o.userData(0)); err != nil {
		p.turn.Lock()
		if !o.done() {
			o.left = 0
			p.inflight.Add(-1)
		}
		p.release()
		p.free(o)
		return result{}, err
	}
	p.finish(ctx, o, 1, waitLong, 0)
	end := o.one
	p.free(o)
	return end, end.err(op, ctx)
}

// event takes what nobody asked for. The caller has the turn.
func (p *pump) event(c *completion) {
	switch c.op {
	case eventAccepted:
		s := newSession(p)
		s.open(c.value)
		p.sessions[c.value] = s
		if l := p.listeners[c.userData]; l == nil || !l.accepted.push(s, messagesMax) {
			sessionClose(c.value, 0)
		}
	case eventClosed:
		p.closed(c)
	case eventMessage:
		p.message(c)
	case eventCalled:
		p.calls.called(p, c.value, uint32(c.detail))
	case eventCanceled:
		p.calls.canceled(c.value)
	}
}

func (p *pump) message(c *completion) {
	message, id := Message{}, c.value
	if c.flags&completedInline != 0 {
		message.inline = append([]byte(nil), c.data[:min(c.length, inlineBytes)]...)
	} else {
		message.buffer, id = c.value, binary.LittleEndian.Uint64(c.data[:])
	}
	s := p.sessions[id]
	if s != nil && s.messages.push(message, messagesMax) {
		return
	}
	message.Release()
	if s != nil {
		s.messages.close(fail("receive", StatusLimitReached))
		sessionClose(id, 0)
	}
}

// closed takes the end of a session.
func (p *pump) closed(c *completion) {
	if s := p.sessions[c.value]; s != nil {
		delete(p.sessions, c.value)
		s.end(Status(c.status))
	}
}

// end keeps why a session ended: OK is its peer's close.
func (s *Session) end(status Status) {
	var end error = io.EOF
	why := s.ended.Load()
	switch {
	case status == StatusCanceled || why != nil && why.Cause == ErrClosed:
		s.closing()
		end = closedFailure("receive")
	case status < 0:
		end = fail("receive", status)
		s.ended.CompareAndSwap(nil, &Error{Status: status})
	default:
		s.ended.CompareAndSwap(nil, &Error{Status: StatusConnectionLost, Message: "the session was closed by its peer"})
	}
	s.messages.close(end)
	s.lent.end()
	close(s.gone)
}

// closing says that this side ends the session.
func (s *Session) closing() {
	s.ended.CompareAndSwap(nil, &Error{Status: StatusCanceled, Cause: ErrClosed})
}

// one does a request of this session.
func (s *Session) one(ctx context.Context, name string, r *request, text []byte) (result, error) {
	return s.patient(ctx, name, r, text, 0)
}

// patient does a request whose answer takes a while to make.
func (s *Session) patient(ctx context.Context, name string, r *request, text []byte, takes time.Duration) (result, error) {
	r.session = s.id
	end, err := s.pump.one(ctx, name, r, text, takes)
	if err != nil {
		err = s.because(ctx, name, end.status, err)
	}
	return end, err
}

// endTime bounds the wait for the word that a session has ended, which follows its operations' ends.
const endTime = time.Second

// because finds out whether an operation failed because its session has ended, and says why it has.
func (s *Session) because(ctx context.Context, name string, status Status, err error) error {
	if status != StatusStaleHandle && status != StatusCanceled || ctx.Err() != nil {
		return err
	}
	info, stale := sessionInfo(s.id)
	switch {
	case stale == nil && status == StatusStaleHandle:
		return err // of a region or a buffer
	case stale == nil && name == "call" && info.State == SessionOpen:
		return fail(name, status) // the peer gave the call up
	}
	s.pump.poller.kick()
	select {
	case <-s.gone:
	case <-ctx.Done():
	case <-time.After(endTime):
	}
	if why := s.ended.Load(); why != nil {
		because := *why
		because.Op = name
		return &because
	}
	return err
}

// Close ends the session in order: operations in flight end first. It waits until the session is gone. A second Close
// does nothing.
func (s *Session) Close() error {
	var err error
	s.once.Do(func() {
		s.closing()
		_, err = s.pump.control(context.Background(), "close", nil, func(userData uint64) error {
			if status := sessionClose(s.id, userData); status < 0 {
				return fail("close", status)
			}
			return nil
		})
		s.messages.close(closedFailure("receive"))
		for _, message := range s.messages.drop() {
			message.Release()
		}
		if err != nil && s.ended.Load() != nil {
			err = nil // it was over already
		}
	})
	return err
}

// Info tells about the session: peer, transport, state, and which way its operations went.
func (s *Session) Info() (SessionInfo, error) {
	info, err := sessionInfo(s.id)
	if err != nil {
		err = s.because(context.Background(), "info", StatusStaleHandle, err)
	}
	return info, err
}

// Stats tells what the session counted.
func (s *Session) Stats() (Stats, error) {
	all, err := sessionStats(s.id)
	if err != nil {
		err = s.because(context.Background(), "stats", StatusStaleHandle, err)
	}
	return all, err
}

// Import makes a region of a key that the session's peer exported.
func (s *Session) Import(ctx context.Context, key Key) (*Region, error) {
	end, err := s.one(ctx, "import", &request{op: opRegionImport}, key[:])
	if err != nil {
		return nil, err
	}
	r := &Region{session: s, id: end.value}
	if r.info, err = regionInfo(r.id); err != nil {
		regionRelease(r.id)
		return nil, err
	}
	return r, nil
}

// Flush returns when every put that ended before it on the session is visible at the peer.
func (s *Session) Flush(ctx context.Context) error {
	_, err := s.one(ctx, "flush", &request{op: opFlush}, nil)
	return err
}
