package rdmaengine

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/bits"
	"time"
)

const placeBytes = 24

// appendPlace is the end of a payload that names a place.
func appendPlace(payload []byte, p *place) []byte {
	payload = binary.LittleEndian.AppendUint64(payload, p.number)
	payload = binary.LittleEndian.AppendUint64(payload, uint64(p.offset))
	return binary.LittleEndian.AppendUint64(payload, uint64(p.length))
}

// answered says whether an operation that failed has had its answer: nothing is written to its place any more.
func answered(status Status) bool {
	switch status {
	case StatusTruncated, StatusStaleHandle, StatusUnknownMethod, StatusQueueFull, StatusBusy, StatusOutOfRange, StatusProtocol, StatusInvalidArgument:
		return true
	}
	return false
}

// verdict is what became of a read to a place.
type verdict int

const (
	verdictGood  verdict = iota
	verdictNone          // an error that is the answer
	verdictShort         // the place is too short
	verdictLong          // it is longer than a message
	verdictLost          // no answer has come, and the exporter may still write there
)

// readInto reads a needle to a place.
func (s *Session) readInto(ctx context.Context, fileID string, o *NeedleOptions, p *place) (n Needle, v verdict, err error) {
	var room [256]byte
	text := append(room[:0], fileID...)
	if o.Token != "" {
		text = append(append(text, "?jwt="...), o.Token...)
	}
	flags := o.flags()
	counted := uint16(0)
	if p.number != 0 {
		text, flags = appendPlace(text, p), flags|readPlaced|readUnchecked
	} else if p.length >= fileLeast && s.checksHere(ctx) {
		flags |= readUnchecked
		counted = requestSum
	}
	r := request{op: opCall, flags: counted, region: methodNeedle, compare: uint64(flags), buffer: p.buffer, bufferOffset: uint64(p.offset),
		length: uint64(p.length)}
	r.regionOffset, r.operand = o.part()
	r.timeoutUS = timeLeft(ctx)
	end, err := s.one(ctx, "call", &r, text)
	if err != nil {
		if failed, ok := err.(*Error); ok && (end.status == StatusQueueFull || end.status == StatusBusy) {
			failed.RetryAfter = time.Duration(end.detail) * time.Microsecond
		}
		switch {
		case end.status == StatusTruncated:
			return Needle{DataLength: int64(end.length)}, verdictShort, err
		case answered(end.status):
			return n, verdictNone, err
		}
		return n, verdictLost, err
	}
	switch status := Status(end.detail); status {
	case StatusOK:
		if n, err = placedNeedle(&end, o, p); err != nil {
			return n, verdictNone, err
		}
		return n, verdictGood, nil
	case StatusTruncated:
		return n, verdictLong, fail("read needle", status)
	default:
		return n, verdictNone, fail("read needle", status)
	}
}

// timeLeft is the timeout of a request.
func timeLeft(ctx context.Context) uint32 {
	if deadline, ok := ctx.Deadline(); ok {
		return uint32(min(max(time.Until(deadline).Microseconds(), 1), math.MaxUint32))
	}
	return 0
}

// placedNeedle takes a good answer apart, and checks what the exporter has left to its reader.
func placedNeedle(end *result, o *NeedleOptions, p *place) (n Needle, err error) {
	known := binary.NativeEndian.Uint64(end.data[0:])
	n.LastModified = int64(binary.NativeEndian.Uint64(end.data[8:]))
	flags := binary.NativeEndian.Uint32(end.data[16:])
	n.DataLength, n.Length = int64(uint32(known)), int(end.length)
	n.mark(flags)
	if flags&needlePlaced != 0 {
		length := n.DataLength
		if o.Part {
			length = min(max(length-o.Offset, 0), o.Length)
		}
		if p.number == 0 || length > p.length {
			return Needle{}, fail("read needle", StatusProtocol)
		}
		n.Length = int(length)
	}
	if flags&needleUnchecked != 0 && !isSum(uint32(known>>32), end.sumOf(p.memory[:n.Length])) {
		return Needle{}, fail("read needle", StatusCorrupted)
	}
	return n, nil
}

// sumOf is the checksum of the data that the request brought.
func (r *result) sumOf(data []byte) uint32 {
	if r.flags&completedSum != 0 {
		return uint32(r.value)
	}
	return crc32.Checksum(data, castagnoli)
}

// isNeedle says whether a needle's checksum is that of its data.
func isNeedle(checksum uint32, data []byte) bool {
	return isSum(checksum, crc32.Checksum(data, castagnoli))
}

// isSum says whether a needle's checksum is this one, raw or masked.
func isSum(checksum, sum uint32) bool {
	return sum == checksum || bits.RotateLeft32(sum, 17)+0xa282ead8 == checksum
}

// into is where a needle goes that is read into a caller's buffer. Of a buffer that is lent an answer is waited for also when
// the context has ended: its memory is lent until then.
func (s *Session) into(ctx context.Context, r *BufferRange) (place, error) {
	memory := r.Buffer.Bytes()
	if r.Offset < 0 || r.Length < 0 || r.Offset > int64(len(memory)) || r.Length > int64(len(memory))-r.Offset {
		return place{}, fail("read needle", StatusOutOfRange)
	}
	if r.Buffer.lost.Load() {
		return place{}, &Error{Op: "read needle", Status: StatusWrongState,
			Message: "an exporter that was lost may still write to this buffer: release it"}
	}
	return place{r.Buffer.id, s.lendBuffer(ctx, r.Buffer), r.Offset, r.Length, memory[r.Offset : r.Offset+r.Length]}, nil
}

// readToBuffer reads a needle into a buffer of the caller's.
func (s *Session) readToBuffer(ctx context.Context, fileID string, o *NeedleOptions) (Needle, verdict, error) {
	p, err := s.into(ctx, &o.Into)
	if err != nil {
		return Needle{}, verdictNone, err
	}
	if p.number != 0 {
		ctx = context.Background()
	}
	n, v, err := s.readInto(ctx, fileID, o, &p)
	if v == verdictLost && p.number != 0 {
		o.Into.Buffer.lost.Store(true)
	}
	return n, v, err
}

// readToSlot reads a needle into memory that was lent; verdictShort: there is none, or it is too short.
func (s *Session) readToSlot(ctx context.Context, fileID string, o *NeedleOptions) (Needle, verdict, error) {
	l := &s.lent
	at := class(o.Length)
	if o.Length <= 0 {
		at = l.fitting(&l.one)
	}
	t := s.slot(ctx, at)
	if t == nil {
		return Needle{}, verdictShort, nil
	}
	p := t.place()
	n, v, err := s.readInto(ctx, fileID, o, &p)
	switch {
	case v == verdictLost:
		t.lose()
	case v != verdictGood || n.Length == 0:
		t.give()
	default:
		n.inline, n.slot = p.memory[:n.Length], t
	}
	if o.Length <= 0 && (v == verdictGood || v == verdictShort) {
		l.fit(&l.one, n.DataLength)
	}
	return n, v, err
}
