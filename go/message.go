package rdmaengine

import (
	"context"
	"sync/atomic"
)

// Message is what a peer sent. Its bytes are the receiver's until the release.
type Message struct {
	inline []byte
	buffer uint64
	shared *shared // the memory of `inline`, with others
	slot   *slot   // the memory of `inline`
}

// shared is a buffer that several messages lie in; it is released with the last of them.
type shared struct {
	buffer uint64
	slot   *slot // instead of a buffer
	left   atomic.Int64
}

// release gives `some` shares back.
func (s *shared) release(some int64) {
	switch {
	case s.left.Add(-some) != 0:
	case s.slot != nil:
		s.slot.give()
	default:
		bufferRelease(s.buffer)
	}
}

// Bytes are the message. A slice of them must not be used after the release.
func (m *Message) Bytes() []byte {
	if m.buffer != 0 {
		return bufferData(m.buffer)
	}
	return m.inline
}

// Release gives the message's memory back. A second Release does nothing.
func (m *Message) Release() {
	if m.buffer != 0 {
		bufferRelease(m.buffer)
	}
	if m.shared != nil {
		m.shared.release(1)
	}
	if m.slot != nil {
		m.slot.give()
	}
	m.buffer, m.inline, m.shared, m.slot = 0, nil, nil, nil
}

// Send sends one message; it is copied, and on its way when Send returns. Messages of one session arrive in order.
func (s *Session) Send(ctx context.Context, data []byte) error {
	if len(data) <= textMax {
		_, err := s.one(ctx, "send", &request{op: opSend}, data)
		return err
	}
	id, memory, err := bufferAlloc(s.pump.context, len(data), bufferUninitialised)
	if err != nil {
		return err
	}
	defer bufferRelease(id)
	copy(memory, data)
	_, err = s.one(ctx, "send", &request{op: opSend, buffer: id, length: uint64(len(data))}, nil)
	return err
}

// SendBuffer sends `length` bytes of a buffer as one message, without a copy; they have left it when it returns.
func (s *Session) SendBuffer(ctx context.Context, b *Buffer, offset, length int64) error {
	_, err := s.one(ctx, "send", &request{op: opSend, buffer: b.id, bufferOffset: uint64(offset), length: uint64(length)}, nil)
	return err
}

// Receive waits for the next message. After the peer's close it returns io.EOF, once every message was taken. At most
// 65,536 messages wait for it: a session whose peer sends more is closed, and Receive ends with StatusLimitReached.
func (s *Session) Receive(ctx context.Context) (Message, error) {
	message, ok, end := s.messages.try()
	if !ok && end == nil && ctx.Err() == nil {
		// What comes at once is met with the turn in hand.
		_, began := s.pump.lead(func() bool {
			message, ok, end = s.messages.try()
			return ok || end != nil
		}, waitMessage, 0)
		if !ok && end == nil {
			s.pump.poller.kick()
			defer func() { s.pump.parked(waitMessage, began, 0) }()
		}
	}
	if ok || end != nil {
		return message, end
	}
	return s.messages.pop("receive", ctx)
}
