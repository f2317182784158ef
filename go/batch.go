package rdmaengine

import "context"

// Batch is many operations of one session that cross into the library together. Add them, run it, look at their results,
// and use it again: it keeps its memory. A batch is one goroutine's at a time.
type Batch struct {
	session  *Session
	requests []request
	results  []result
}

// NewBatch makes an empty batch with room for `n` operations; it grows when there are more.
func (s *Session) NewBatch(n int) *Batch {
	return &Batch{session: s, requests: make([]request, 0, n), results: make([]result, 0, n)}
}

// Len is how many operations there are.
func (b *Batch) Len() int { return len(b.requests) }

// Reset takes all operations out.
func (b *Batch) Reset() { b.requests, b.results = b.requests[:0], b.results[:0] }

func (b *Batch) add(r request) int {
	r.session = b.session.id
	b.requests = append(b.requests, r)
	return len(b.requests) - 1
}

// Get adds a get and returns its number; see Region.Get.
func (b *Batch) Get(r *Region, to *Buffer, bufferOffset, offset, length int64) int {
	return b.add(r.move(opGet, to, bufferOffset, offset, length))
}

// Put adds a put and returns its number; see Region.Put.
func (b *Batch) Put(r *Region, from *Buffer, bufferOffset, offset, length int64) int {
	return b.add(r.move(opPut, from, bufferOffset, offset, length))
}

// Flush adds a flush of the puts before it and returns its number; see Session.Flush.
func (b *Batch) Flush() int { return b.add(request{op: opFlush}) }

// FetchAdd adds a fetch-add and returns its number; see Region.FetchAdd.
func (b *Batch) FetchAdd(r *Region, offset int64, delta uint64) int {
	return b.add(request{op: opFetchAdd, region: r.id, regionOffset: uint64(offset), operand: delta})
}

// CompareSwap adds a compare-and-swap and returns its number; see Region.CompareSwap.
func (b *Batch) CompareSwap(r *Region, offset int64, old, new uint64) int {
	return b.add(request{op: opCompareSwap, region: r.id, regionOffset: uint64(offset), compare: old, operand: new})
}

// SendBuffer adds a message of a buffer's bytes and returns its number; see Session.SendBuffer.
func (b *Batch) SendBuffer(from *Buffer, offset, length int64) int {
	return b.add(request{op: opSend, buffer: from.id, bufferOffset: uint64(offset), length: uint64(length)})
}

// Run does every operation, in any order but for messages and what a flush waits for, and returns when all have ended.
// The error is that of the first one, by number, that failed: Err tells them apart. A batch has at most 65,536.
func (b *Batch) Run(ctx context.Context) error {
	if len(b.requests) > batchMax {
		return &Error{Op: "batch", Status: StatusInvalidArgument, Message: "a batch has at most 65,536 operations"}
	}
	if cap(b.results) < len(b.requests) {
		b.results = make([]result, len(b.requests))
	}
	b.results = b.results[:len(b.requests)]
	if len(b.requests) == 0 {
		return nil
	}
	if err := b.session.pump.many(ctx, b.requests, b.results); err != nil {
		return err
	}
	for i := range b.results {
		if b.results[i].status < 0 {
			return b.err(i, ctx)
		}
	}
	return nil
}

func (b *Batch) err(i int, ctx context.Context) error {
	err := b.results[i].err("batch", ctx)
	if err != nil {
		err = b.session.because(ctx, "batch", b.results[i].status, err)
	}
	return err
}

// Err is how operation `i` ended, nil if it went well.
func (b *Batch) Err(i int) error { return b.err(i, context.Background()) }

// Value is what was there before operation `i`, an atomic one.
func (b *Batch) Value(i int) uint64 { return b.results[i].value }
