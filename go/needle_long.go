package rdmaengine

import (
	"context"
	"errors"
	"hash/crc32"
	"sync"
)

const (
	longPart     = 4 << 20  // bytes of one part
	placedPart   = 16 << 20 // the same, of one that is put straight to its place
	longInFlight = 4        // parts
	longAttempts = 3        // until a needle that is overwritten again and again is given up
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readLong reads a needle, or a part of one, that is longer than a message: in parts, straight to their places. That they
// are of the same needle is seen by its checksum: of the whole by counting it, of a part by asking for it before and after.
func (s *Session) readLong(ctx context.Context, fileID string, o *NeedleOptions) (Needle, error) {
	for range longAttempts {
		needle, same, err := s.tryLong(ctx, fileID, o)
		if err != nil || same {
			return needle, err
		}
	}
	return Needle{}, fail("read needle", StatusStale)
}

func (s *Session) tryLong(ctx context.Context, fileID string, o *NeedleOptions) (needle Needle, same bool, err error) {
	known, err := s.statNeedle(ctx, fileID, o)
	if err != nil {
		return Needle{}, false, err
	}
	start, length := uint64(0), known.dataLength
	if o.Part {
		if start = uint64(o.Offset); start >= known.dataLength {
			return Needle{}, false, fail("read needle", StatusOutOfRange)
		}
		length = min(uint64(o.Length), known.dataLength-start)
	}
	into := o.Into
	if into.Buffer == nil {
		kind := BufferUninitialised
		if s.lends() {
			kind = BufferExportable
		}
		id, memory, err := bufferAlloc(s.pump.context, int(max(length, 1)), uint32(kind))
		if err != nil {
			return Needle{}, false, err
		}
		into = BufferRange{Buffer: &Buffer{id: id, data: memory, kind: kind}, Length: int64(len(memory))}
		needle.buffer = id
		defer s.takeBack(id)
	} else if uint64(into.Length) < length {
		return Needle{}, false, fail("read needle", StatusTruncated)
	}
	same, err = s.readParts(ctx, fileID, o, known, start, BufferRange{into.Buffer, into.Offset, int64(length)})
	if err == nil && same {
		same, err = s.sameNeedle(ctx, fileID, o, known, into.Buffer.Bytes()[into.Offset:into.Offset+int64(length)])
	}
	if err != nil || !same {
		needle.Release()
		return Needle{}, false, err
	}
	needle.Length, needle.DataLength, needle.LastModified = int(length), int64(known.dataLength), int64(known.lastModified)
	needle.mark(known.flags)
	return needle, true, nil
}

// statNeedle asks what is known of a needle.
func (s *Session) statNeedle(ctx context.Context, fileID string, o *NeedleOptions) (needleRow, error) {
	payload, count := encodeNeedles(nil, []NeedleRead{{fileID, NeedleOptions{Token: o.Token}}})
	if count == 0 {
		return needleRow{}, fail("read needle", StatusInvalidArgument)
	}
	payload[16] = byte(o.flags()&^readRange | readStat)
	reply, err := s.Call(ctx, &Call{Method: methodNeedles, Payload: payload, Header: Header{Len: 1}})
	if err != nil {
		return needleRow{}, err
	}
	defer reply.Release()
	if reply.Status != 0 {
		return needleRow{}, fail("read needle", Status(reply.Status))
	}
	answer := reply.Bytes()
	if reply.Header.Len != 1 || len(answer) < rowBytes {
		return needleRow{}, fail("read needle", StatusProtocol)
	}
	row := decodeRow(answer)
	if row.status != StatusOK {
		return needleRow{}, fail("read needle", row.status)
	}
	return row, nil
}

// readParts reads data from `start` on until `into` is full; false when what came was of another needle.
func (s *Session) readParts(ctx context.Context, fileID string, o *NeedleOptions, known needleRow, start uint64,
	into BufferRange) (bool, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	to, err := s.into(ctx, &into)
	if err != nil {
		return false, err
	}
	step := min(int64(longPart), s.pump.messageMax)
	if to.number != 0 {
		step = placedPart
	}
	var mu sync.Mutex
	var group sync.WaitGroup
	next, same := int64(0), true
	var failed error
	for range longInFlight {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				mu.Lock()
				at := next
				next += step
				end := failed != nil || !same
				mu.Unlock()
				if end || at >= into.Length {
					return
				}
				length := min(step, into.Length-at)
				alike, err := s.readPart(ctx, fileID, o, known, start+uint64(at), into.Buffer, to.part(at, length))
				mu.Lock()
				same = same && alike
				if err != nil && failed == nil {
					failed = err
					stop(err)
				}
				mu.Unlock()
			}
		}()
	}
	group.Wait()
	return same, failed
}

// readPart reads one part, in halves when the exporter's messages are shorter than ours; false when it is of another needle.
func (s *Session) readPart(ctx context.Context, fileID string, o *NeedleOptions, known needleRow, start uint64, b *Buffer,
	p place) (bool, error) {
	part := NeedleOptions{Token: o.Token, Live: o.Live, Stored: true, Part: true, Offset: int64(start), Length: p.length}
	if p.number != 0 {
		ctx = context.WithoutCancel(ctx)
	}
	n, v, err := s.readInto(ctx, fileID, &part, &p)
	switch {
	case v == verdictGood:
		return int64(n.Length) == p.length && uint64(n.DataLength) == known.dataLength && uint64(n.LastModified) == known.lastModified, nil
	case v == verdictLong && p.length > 1:
		half := p.length / 2
		same, err := s.readPart(ctx, fileID, o, known, start, b, p.part(0, half))
		if err != nil || !same {
			return same, err
		}
		return s.readPart(ctx, fileID, o, known, start+uint64(half), b, p.part(half, p.length-half))
	case v == verdictNone && errors.Is(err, StatusOutOfRange):
		return false, nil
	case v == verdictLost && p.number != 0:
		b.lost.Store(true)
	}
	return true, err
}

// sameNeedle says whether `data`, put together of parts, is of the needle that was known before.
func (s *Session) sameNeedle(ctx context.Context, fileID string, o *NeedleOptions, known needleRow, data []byte) (bool, error) {
	if uint64(len(data)) == known.dataLength {
		return isNeedle(known.checksum, data), nil
	}
	after, err := s.statNeedle(ctx, fileID, o)
	known.generation, after.generation = 0, 0
	return after == known, err
}
