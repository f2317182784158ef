package rdmaengine

import (
	"context"
	"hash/crc32"
	"sync"
)

const (
	longPart     = 4 << 20 // bytes of one part
	longInFlight = 4       // parts
	longAttempts = 3       // until a needle that is overwritten again and again is given up
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
		id, memory, err := bufferAlloc(s.pump.context, int(max(length, 1)), bufferUninitialised)
		if err != nil {
			return Needle{}, false, err
		}
		into = BufferRange{Buffer: &Buffer{id: id, data: memory}, Length: int64(len(memory))}
		needle.buffer = id
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
	step := min(int64(longPart), s.pump.messageMax)
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
				alike, err := s.readPart(ctx, fileID, o, known, start+uint64(at), BufferRange{into.Buffer, into.Offset + at, length})
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
func (s *Session) readPart(ctx context.Context, fileID string, o *NeedleOptions, known needleRow, start uint64,
	into BufferRange) (bool, error) {
	part := NeedleOptions{Token: o.Token, Live: o.Live, Stored: true, Part: true, Offset: int64(start), Length: into.Length, Into: into}
	reply, err := s.Call(ctx, part.call(fileID))
	if err != nil {
		return true, err
	}
	reply.Release()
	switch status := Status(reply.Status); {
	case status == StatusTruncated && into.Length > 1:
		half := into.Length / 2
		same, err := s.readPart(ctx, fileID, o, known, start, BufferRange{into.Buffer, into.Offset, half})
		if err != nil || !same {
			return same, err
		}
		return s.readPart(ctx, fileID, o, known, start+uint64(half), BufferRange{into.Buffer, into.Offset + half, into.Length - half})
	case status == StatusOutOfRange:
		return false, nil
	case status != StatusOK:
		return true, fail("read needle", status)
	}
	return int64(reply.Length) == into.Length && reply.Header.Offset == known.dataLength && reply.Header.Len == known.lastModified, nil
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
