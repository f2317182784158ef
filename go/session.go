package rdmaengine

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
)

// Session is a connection to a peer. Its methods may be called by many goroutines.
type Session struct {
	pump     *pump
	id       uint64
	messages *queue[Message]
	once     sync.Once
	ended    atomic.Pointer[Error] // why its peer or its engine ended it
}

// messagesMax bounds messages that wait for Receive; a peer that sends more is not listened to any more.
const messagesMax = 64 << 10

func newSession(p *pump) *Session { return &Session{pump: p, messages: newQueue[Message]()} }

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
	p.finish(ctx, o, 1)
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
	switch {
	case status == StatusCanceled:
		end = closedFailure("receive")
	case status < 0:
		end = fail("receive", status)
		s.ended.CompareAndSwap(nil, &Error{Status: status})
	default:
		s.ended.CompareAndSwap(nil, &Error{Status: StatusConnectionLost, Message: "the session was closed by its peer"})
	}
	s.messages.close(end)
}

// one does a request of this session. A session that has ended says why.
func (s *Session) one(ctx context.Context, name string, r *request, text []byte) (result, error) {
	r.session = s.id
	end, err := s.pump.one(ctx, name, r, text)
	if err != nil && end.status == StatusStaleHandle {
		err = s.staleness(name, err)
	}
	return end, err
}

func (s *Session) staleness(name string, err error) error {
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
		s.ended.CompareAndSwap(nil, &Error{Status: StatusCanceled, Cause: ErrClosed})
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
		err = s.staleness("info", err)
	}
	return info, err
}

// Stats tells what the session counted.
func (s *Session) Stats() (Stats, error) {
	all, err := sessionStats(s.id)
	if err != nil {
		err = s.staleness("stats", err)
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
