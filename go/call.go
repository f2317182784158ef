package rdmaengine

import (
	"context"
	"encoding/binary"
	"math"
	"time"
)

// Header travels with every call and every reply: three numbers whose meaning is the service's.
type Header struct {
	// Offset: a file's offset, a cookie, a size.
	Offset uint64
	// Len: bytes wanted or carried.
	Len uint64
	// Flags are the service's.
	Flags uint32
}

// BufferRange is a part of a buffer. The zero value is none.
type BufferRange struct {
	Buffer         *Buffer
	Offset, Length int64
}

// Call says what to call, with what, and where the reply's payload goes.
type Call struct {
	// Method is the service's number of what is called.
	Method uint32
	// Header travels with the call.
	Header Header
	// Payload is copied; Range is not, and follows it.
	Payload []byte
	// Range is read until the call has ended.
	Range BufferRange
	// Into is where the reply's payload goes, until the call has ended; zero: the reply brings memory of its own.
	Into BufferRange
}

// Reply is what a service answered. Its bytes are the caller's until the release.
type Reply struct {
	Message
	// Status is the service's own, 0 or what both sides agreed on.
	Status int32
	// Header came with the reply.
	Header Header
	// Length of the payload in bytes, also of one that went into a buffer of the caller's.
	Length int
}

const (
	piecesMark = 1 << 63 // in the length of a request's data: they are pieces
	pieceBytes = 32
)

// piece appends an rde_piece of registered memory.
func piece(to []byte, buffer uint64, offset, length int64) []byte {
	to = binary.NativeEndian.AppendUint64(to, 0)
	to = binary.NativeEndian.AppendUint64(to, uint64(length))
	to = binary.NativeEndian.AppendUint64(to, buffer)
	return binary.NativeEndian.AppendUint64(to, uint64(offset))
}

// request is what rde_call_prepare would make of the call; `text` is what is copied with it. `held` is a buffer that is to
// be released after the call.
func (c *Call) request(ctx context.Context, s *Session) (r request, text []byte, held uint64, err error) {
	r = request{op: opCall, region: uint64(c.Method), regionOffset: c.Header.Offset, operand: c.Header.Len,
		compare: uint64(c.Header.Flags)}
	if deadline, ok := ctx.Deadline(); ok {
		r.timeoutUS = uint32(min(max(time.Until(deadline).Microseconds(), 1), math.MaxUint32))
	}
	if c.Into.Buffer != nil {
		r.buffer, r.bufferOffset, r.length = c.Into.Buffer.id, uint64(c.Into.Offset), uint64(c.Into.Length)
	}
	if len(c.Payload) <= textMax && c.Range.Buffer == nil {
		return r, c.Payload, 0, nil
	}
	pieces := make([]byte, 0, 2*pieceBytes)
	if len(c.Payload) > 0 {
		var memory []byte
		if held, memory, err = bufferAlloc(s.pump.context, len(c.Payload), bufferUninitialised); err != nil {
			return r, nil, 0, err
		}
		copy(memory, c.Payload)
		pieces = piece(pieces, held, 0, int64(len(c.Payload)))
	}
	if c.Range.Buffer != nil {
		pieces = piece(pieces, c.Range.Buffer.id, c.Range.Offset, c.Range.Length)
	}
	r.dataLen = piecesMark
	return r, pieces, held, nil
}

// Call calls a method of the session's peer and waits for its answer. The context's deadline travels with the call. An
// error says that the call was not served or not answered; that a service answered with a status of its own is none.
// After StatusTimedOut, StatusCanceled and StatusConnectionLost it may have happened.
func (s *Session) Call(ctx context.Context, call *Call) (Reply, error) {
	r, text, held, err := call.request(ctx, s)
	if err != nil {
		return Reply{}, err
	}
	if held != 0 {
		defer bufferRelease(held)
	}
	end, err := s.one(ctx, "call", &r, text)
	if err != nil {
		if failed, ok := err.(*Error); ok && (failed.Status == StatusQueueFull || failed.Status == StatusBusy) {
			failed.RetryAfter = time.Duration(end.detail) * time.Microsecond
		}
		return Reply{}, err
	}
	reply := Reply{Status: end.detail, Length: int(end.length)}
	switch {
	case end.flags&completedInline != 0:
		reply.inline = append([]byte(nil), end.data[:min(end.length, inlineBytes)]...)
	default:
		reply.buffer = end.value
		reply.Header = Header{Offset: binary.NativeEndian.Uint64(end.data[0:]), Len: binary.NativeEndian.Uint64(end.data[8:]),
			Flags: binary.NativeEndian.Uint32(end.data[16:])}
	}
	return reply, nil
}

// Notify calls a method that nobody answers; it returns when the call has left. `Into` is not used.
func (s *Session) Notify(ctx context.Context, call *Call) error {
	r, text, held, err := call.request(ctx, s)
	if err != nil {
		return err
	}
	if held != 0 {
		defer bufferRelease(held)
	}
	r.op, r.buffer, r.bufferOffset, r.length = opOneWay, 0, 0, 0
	_, err = s.one(ctx, "notify", &r, text)
	return err
}
