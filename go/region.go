package rdmaengine

import (
	"context"
	"io"
	"sync/atomic"
)

// Region is memory of a peer that its key lets us touch. Its methods may be called by many goroutines.
type Region struct {
	session  *Session
	id       uint64
	info     RegionInfo
	released atomic.Bool
}

// Len is the length in bytes of the range that the key grants.
func (r *Region) Len() int64 { return r.info.Length }

// Info tells length, rights, and the way that operations go.
func (r *Region) Info() RegionInfo { return r.info }

// Release gives the region up. Operations in flight end as usual. A second Release does nothing.
func (r *Region) Release() {
	if !r.released.Swap(true) {
		regionRelease(r.id)
	}
}

// move is the request of a get or put.
func (r *Region) move(op uint16, b *Buffer, bufferOffset, offset, length int64) request {
	return request{op: op, buffer: b.id, bufferOffset: uint64(bufferOffset), region: r.id, regionOffset: uint64(offset),
		length: uint64(length)}
}

// Get reads `length` bytes at `offset` of the region into the buffer. It moves all of them or returns an error.
func (r *Region) Get(ctx context.Context, to *Buffer, bufferOffset, offset, length int64) error {
	q := r.move(opGet, to, bufferOffset, offset, length)
	_, err := r.session.one(ctx, "get", &q, nil)
	return err
}

// Put writes `length` bytes of the buffer to `offset` of the region. They have left the buffer when it returns;
// Session.Flush says when the peer sees them.
func (r *Region) Put(ctx context.Context, from *Buffer, bufferOffset, offset, length int64) error {
	q := r.move(opPut, from, bufferOffset, offset, length)
	_, err := r.session.one(ctx, "put", &q, nil)
	return err
}

// FetchAdd adds to the uint64 at `offset`, a multiple of 8, atomically to every other such operation of any peer, and
// returns what was there before.
func (r *Region) FetchAdd(ctx context.Context, offset int64, delta uint64) (uint64, error) {
	q := request{op: opFetchAdd, region: r.id, regionOffset: uint64(offset), operand: delta}
	end, err := r.session.one(ctx, "fetch-add", &q, nil)
	return end.value, err
}

// CompareSwap stores `new` in the uint64 at `offset`, a multiple of 8, if it holds `old`, and returns what was there
// before: the swap happened if that is `old`.
func (r *Region) CompareSwap(ctx context.Context, offset int64, old, new uint64) (uint64, error) {
	q := request{op: opCompareSwap, region: r.id, regionOffset: uint64(offset), compare: old, operand: new}
	end, err := r.session.one(ctx, "compare-swap", &q, nil)
	return end.value, err
}

// copyPiece bounds the registered memory that Read and Write take for one copy, in bytes.
const copyPiece = 1 << 20

// Read copies from the region into Go memory. It is Get with a copy: use Get where it counts.
func (r *Region) Read(ctx context.Context, p []byte, offset int64) (int, error) {
	return r.pieces("read", p, offset, func(part []byte, b *Buffer, at int64) error {
		if err := r.Get(ctx, b, 0, at, int64(len(part))); err != nil {
			return err
		}
		copy(part, b.data)
		return nil
	})
}

// Write copies Go memory into the region, as Put does with a buffer.
func (r *Region) Write(ctx context.Context, p []byte, offset int64) (int, error) {
	if offset >= 0 && offset+int64(len(p)) > r.info.Length {
		return 0, fail("write", StatusOutOfRange)
	}
	return r.pieces("write", p, offset, func(part []byte, b *Buffer, at int64) error {
		copy(b.data, part)
		return r.Put(ctx, b, 0, at, int64(len(part)))
	})
}

func (r *Region) pieces(op string, p []byte, offset int64, move func([]byte, *Buffer, int64) error) (int, error) {
	if offset < 0 {
		return 0, fail(op, StatusInvalidArgument)
	}
	all := p
	if offset >= r.info.Length {
		all = nil
	} else if left := r.info.Length - offset; int64(len(all)) > left {
		all = all[:left]
	}
	done := 0
	if len(all) > 0 {
		id, data, err := bufferAlloc(r.session.pump.context, min(len(all), copyPiece), bufferUninitialised)
		if err != nil {
			return 0, err
		}
		defer bufferRelease(id)
		b := Buffer{id: id, data: data}
		for done < len(all) {
			part := all[done:min(done+copyPiece, len(all))]
			if err := move(part, &b, offset+int64(done)); err != nil {
				return done, err
			}
			done += len(part)
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// ReadAt copies from the region, as io.ReaderAt has it.
func (r *Region) ReadAt(p []byte, offset int64) (int, error) {
	return r.Read(context.Background(), p, offset)
}

// WriteAt copies into the region, as io.WriterAt has it.
func (r *Region) WriteAt(p []byte, offset int64) (int, error) {
	return r.Write(context.Background(), p, offset)
}
