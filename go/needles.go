package rdmaengine

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

const (
	methodNeedles   = 0x5357_0002 // RDE_METHOD_NEEDLES
	needlesMax      = 1024
	needlesBytesMax = 64 << 10
	entryBytes      = 24
	rowBytes        = 64
)

// NeedleRead is one read of ReadNeedles.
type NeedleRead struct {
	FileID  string
	Options NeedleOptions
}

// NeedleResult is what became of one read. Its bytes are the caller's until the release of the needle; the memory of those
// that came together goes back with the last of them.
type NeedleResult struct {
	Needle
	Err error
}

// ReadNeedles reads many needles in few round trips: one, unless they are more than 1,024, longer than a message together, or
// their file ids and tokens longer than 64 KiB. The results are in the order of the reads; each has its own error, as of
// ReadNeedle. Of what is read `Into` a buffer, the needle has no bytes.
func (s *Session) ReadNeedles(ctx context.Context, reads []NeedleRead) []NeedleResult {
	results := make([]NeedleResult, len(reads))
	lent := payloads.Get().(*[]byte)
	defer payloads.Put(lent)
	for next := 0; next < len(reads); {
		payload, count := encodeNeedles((*lent)[:0], reads[next:])
		if count == 0 {
			results[next].Err = fail("read needles", StatusInvalidArgument)
			next++
			continue
		}
		*lent = payload
		done, err := s.someNeedles(ctx, payload, reads[next:next+count], results[next:next+count])
		if err != nil {
			// The session, or the context, or what all of these have in common.
			for i := next; i < len(reads); i++ {
				results[i].Err = err
			}
			return results
		}
		next += done
	}
	return results
}

// payloads are used again.
var payloads = sync.Pool{New: func() any { return new([]byte) }}

// encodeNeedles makes a payload of as many of the first reads as fit; 0 when the first cannot be sent at all.
func encodeNeedles(payload []byte, reads []NeedleRead) ([]byte, int) {
	count, bytes := 0, 0
	for count < min(len(reads), needlesMax) {
		o := &reads[count].Options
		text := len(reads[count].FileID)
		if o.Token != "" {
			text += len("?jwt=") + len(o.Token)
		}
		if bytes+entryBytes+text > needlesBytesMax || o.Part && (o.Offset < 0 || o.Length < 0) {
			break
		}
		bytes += entryBytes + text
		count++
	}
	payload = slices.Grow(payload, bytes+placeBytes)[:count*entryBytes]
	for i := range reads[:count] {
		o, entry := &reads[i].Options, payload[i*entryBytes:(i+1)*entryBytes]
		offset, length := o.part()
		start := len(payload)
		payload = append(payload, reads[i].FileID...)
		if o.Token != "" {
			payload = append(append(payload, "?jwt="...), o.Token...)
		}
		binary.LittleEndian.PutUint64(entry, offset)
		binary.LittleEndian.PutUint64(entry[8:], length)
		binary.LittleEndian.PutUint32(entry[16:], o.flags())
		binary.LittleEndian.PutUint32(entry[20:], uint32(len(payload)-start))
	}
	return payload, count
}

// part is what travels as offset and length.
func (o *NeedleOptions) part() (offset, length uint64) {
	if !o.Part {
		return 0, 0
	}
	return uint64(o.Offset), uint64(o.Length)
}

// someNeedles makes one call; of how many of the first reads it brought results.
func (s *Session) someNeedles(ctx context.Context, payload []byte, reads []NeedleRead, results []NeedleResult) (int, error) {
	if ctx.Err() != nil {
		return 0, interrupted("read needles", ctx)
	}
	call := Call{Method: methodNeedles, Payload: payload,
		Header: Header{Offset: uint64(s.pump.messageMax), Len: uint64(len(reads))}}
	t := s.slot(ctx, s.lent.fitting(&s.lent.many))
	if t != nil {
		p := t.place()
		call.Payload, call.Header.Flags = appendPlace(payload, &p), readPlaced|readUnchecked
		call.Header.Offset = uint64(min(p.length, s.pump.messageMax))
	}
	end, err := s.batch(ctx, &call, t)
	if err != nil {
		if t != nil && answered(end.status) {
			t.give()
		} else if t != nil {
			t.lose()
		}
		return 0, err
	}
	memory := shared{buffer: end.value, slot: t}
	answer, count := memory.answer(&end)
	if status := Status(end.detail); status != StatusOK || count == 0 || count > uint64(len(reads)) ||
		uint64(len(answer)) < count*rowBytes {
		memory.left.Store(1)
		memory.release(1)
		if status == StatusOK {
			status = StatusProtocol
		}
		return 0, fail("read needles", status)
	}
	s.results(ctx, answer, &memory, reads, results[:count])
	if t != nil {
		s.noteLength(len(answer), len(reads), int(count))
	}
	return int(count), nil
}

// noteLength notes what room so many reads would have needed.
func (s *Session) noteLength(length, asked, got int) {
	if got < asked {
		length = 2 * int(slotLengths[s.lent.fitting(&s.lent.many)])
	}
	s.lent.fit(&s.lent.many, int64(length))
}

// How long a needle of a batch takes an exporter that has it in memory, at most, and all of them together: to sleep meanwhile
// and be woken takes longer than to poll.
const (
	needleTime     = 3 * time.Microsecond
	needleTimeMost = 500 * time.Microsecond
)

// batch makes the call; its answer comes into the slot, if there is one.
func (s *Session) batch(ctx context.Context, call *Call, t *slot) (result, error) {
	r, text, held, err := call.request(ctx, s)
	if err != nil {
		return result{status: StatusInvalidArgument}, err
	}
	if held != 0 {
		defer bufferRelease(held)
	}
	if t != nil {
		r.buffer, r.bufferOffset, r.length = t.block.buffer, uint64(t.offset), uint64(t.length())
	}
	return s.special(ctx, "call", &r, text, manner{takes: min(time.Duration(call.Header.Len)*needleTime, needleTimeMost)})
}

// answer is where an answer's rows and data are, and how many rows it says to have.
func (s *shared) answer(end *result) (answer []byte, count uint64) {
	if end.flags&completedInline != 0 {
		return nil, 0
	}
	length, count := binary.NativeEndian.Uint64(end.data[:]), binary.NativeEndian.Uint64(end.data[8:])
	switch {
	case s.slot == nil:
		return bufferData(end.value), count
	case binary.NativeEndian.Uint32(end.data[16:])&needlePlaced == 0:
		return s.slot.memory()[:end.length], count
	case length > uint64(s.slot.length()):
		return nil, 0
	}
	return s.slot.memory()[:length], count
}

// results takes an answer apart; it has as many rows as there are results. They share its memory.
func (s *Session) results(ctx context.Context, answer []byte, from *shared, reads []NeedleRead, results []NeedleResult) {
	memory := &shared{buffer: from.buffer, slot: from.slot}
	memory.left.Store(int64(len(results)) + 1)
	unused := int64(1)
	for i := range results {
		row, result := decodeRow(answer[i*rowBytes:]), &results[i]
		if row.status != StatusOK || !row.fits(answer) {
			unused++
			if row.status == StatusOK {
				row.status = StatusProtocol
			}
			if row.status == StatusTruncated {
				result.Needle, result.Err = s.ReadNeedle(ctx, reads[i].FileID, reads[i].Options)
			} else {
				result.Err = fail("read needles", row.status)
			}
			continue
		}
		data := answer[row.offset : row.offset+row.length : row.offset+row.length]
		result.Length, result.DataLength, result.LastModified = len(data), int64(row.dataLength), int64(row.lastModified)
		result.mark(row.flags)
		into := &reads[i].Options.Into
		switch {
		case row.flags&needleUnchecked != 0 && !isNeedle(row.checksum, data):
			*result = NeedleResult{Err: fail("read needles", StatusCorrupted)}
			unused++
		case into.Buffer != nil:
			result.Err = into.fill(data)
			unused++
		case len(data) > 0:
			result.inline, result.shared = data, memory
		default:
			unused++
		}
	}
	memory.release(unused)
}

// fill copies what was read to the caller's buffer.
func (r *BufferRange) fill(data []byte) error {
	memory := r.Buffer.Bytes()
	if r.Offset < 0 || r.Length < 0 || r.Offset > int64(len(memory)) || r.Length > int64(len(memory))-r.Offset {
		return fail("read needles", StatusOutOfRange)
	}
	if int64(len(data)) > r.Length {
		return fail("read needles", StatusTruncated)
	}
	copy(memory[r.Offset:], data)
	return nil
}

// needleRow is rde_needle_result.
type needleRow struct {
	status                                 Status
	flags                                  uint32
	dataLength, lastModified, appendedAtNS uint64
	generation                             uint64
	checksum                               uint32
	offset, length                         uint64
}

// decodeRow takes a row apart. It is copied before it is looked at: memory that was lent is the exporter's, too.
func decodeRow(b []byte) (row needleRow) {
	row.status, row.flags = Status(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[4:])
	row.dataLength, row.lastModified = binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
	row.appendedAtNS, row.generation = binary.LittleEndian.Uint64(b[24:]), binary.LittleEndian.Uint64(b[32:])
	row.checksum = binary.LittleEndian.Uint32(b[40:])
	row.offset, row.length = binary.LittleEndian.Uint64(b[48:]), binary.LittleEndian.Uint64(b[56:])
	if row.length == 0 {
		row.offset = 0
	}
	return row
}

// fits says whether the row points into the answer.
func (r *needleRow) fits(answer []byte) bool {
	return r.length <= r.dataLength && r.offset <= uint64(len(answer)) && r.length <= uint64(len(answer))-r.offset
}
