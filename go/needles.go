package rdmaengine

import (
	"context"
	"encoding/binary"
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
	var payload []byte
	for next := 0; next < len(reads); {
		var count int
		payload, count = encodeNeedles(payload[:0], reads[next:])
		if count == 0 {
			results[next].Err = fail("read needles", StatusInvalidArgument)
			next++
			continue
		}
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
		offset, length := o.part()
		payload = binary.LittleEndian.AppendUint64(payload, offset)
		payload = binary.LittleEndian.AppendUint64(payload, length)
		payload = binary.LittleEndian.AppendUint32(payload, o.flags())
		payload = binary.LittleEndian.AppendUint32(payload, uint32(text))
		bytes += entryBytes + text
		count++
	}
	for i := range reads[:count] {
		payload = append(payload, reads[i].FileID...)
		if token := reads[i].Options.Token; token != "" {
			payload = append(append(payload, "?jwt="...), token...)
		}
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
	call := Call{Method: methodNeedles, Payload: payload,
		Header: Header{Offset: uint64(s.pump.messageMax), Len: uint64(len(reads))}}
	reply, err := s.Call(ctx, &call)
	if err != nil {
		return 0, err
	}
	if reply.Status != 0 {
		reply.Release()
		return 0, fail("read needles", Status(reply.Status))
	}
	answer := reply.Bytes()
	rows, ok := decodeRows(reply.Header.Len, answer, len(reads))
	if !ok {
		reply.Release()
		return 0, fail("read needles", StatusProtocol)
	}
	memory := &shared{buffer: reply.buffer}
	memory.left.Store(1) // ours
	for i := range rows {
		row, result := &rows[i], &results[i]
		if row.status == StatusTruncated {
			result.Needle, result.Err = s.readLong(ctx, reads[i].FileID, &reads[i].Options)
			continue
		}
		if row.status != StatusOK {
			result.Err = fail("read needles", row.status)
			continue
		}
		result.Length, result.DataLength, result.LastModified = int(row.length), int64(row.dataLength), int64(row.lastModified)
		result.mark(row.flags)
		data := answer[row.offset : row.offset+row.length]
		switch into := reads[i].Options.Into; {
		case into.Buffer != nil:
			result.Err = into.fill(data)
		case len(data) > 0:
			result.inline, result.shared = data, memory
			memory.left.Add(1)
		}
	}
	memory.release()
	return len(rows), nil
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

// decodeRows takes an answer's table apart, and checks that every row points into the answer.
func decodeRows(count uint64, answer []byte, most int) ([]needleRow, bool) {
	if count == 0 || count > uint64(most) || uint64(len(answer)) < count*rowBytes {
		return nil, false
	}
	rows := make([]needleRow, count)
	for i := range rows {
		b, row := answer[i*rowBytes:(i+1)*rowBytes], &rows[i]
		row.status, row.flags = Status(binary.LittleEndian.Uint32(b)), binary.LittleEndian.Uint32(b[4:])
		row.dataLength, row.lastModified = binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])
		row.appendedAtNS, row.generation = binary.LittleEndian.Uint64(b[24:]), binary.LittleEndian.Uint64(b[32:])
		row.checksum = binary.LittleEndian.Uint32(b[40:])
		row.offset, row.length = binary.LittleEndian.Uint64(b[48:]), binary.LittleEndian.Uint64(b[56:])
		if row.length == 0 {
			row.offset = 0
		}
		if row.length > row.dataLength || row.offset > uint64(len(answer)) || row.length > uint64(len(answer))-row.offset {
			return nil, false
		}
	}
	return rows, true
}
