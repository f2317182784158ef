package rdmaengine

import "sync/atomic"

// How an operation ended.
type result struct {
	status Status
	detail int32
	length uint64
	value  uint64
	flags  uint32
	data   [inlineBytes]byte // of a call
}

// statusRunning is the status of a request in a batch that has no result yet.
const statusRunning Status = 1 << 30

const (
	opRunning = iota
	opParked  // its goroutine waits on wake
	opDone
)

// op is one call in flight: one request, or a batch of them. It has a slot in the pump's table, for good; its number
// there, its generation and the request's place in the batch make the user_data of a request.
type op struct {
	index      uint32
	generation atomic.Uint32
	state      atomic.Uint32
	left       int      // completions to come; of whoever has the turn
	one        result   // of a single request
	many       []result // of a batch, the caller's
	session    *Session // of a dial: the session to be
	wake       chan struct{}
}

const (
	batchBits      = 16
	indexBits      = 24
	generationBits = 63 - batchBits - indexBits
	batchMax       = 1 << batchBits
)

// userData names request `at` of the operation.
func (o *op) userData(at int) uint64 {
	return uint64(o.generation.Load())<<(batchBits+indexBits) | uint64(o.index)<<batchBits | uint64(at)
}

func (o *op) done() bool { return o.state.Load() == opDone }

// complete takes the end of request `at`. Who has the turn calls it.
func (o *op) complete(at int, r result) {
	if o.many != nil {
		o.many[at] = r
	} else {
		o.one = r
	}
	if o.left--; o.left == 0 && o.state.Swap(opDone) == opParked {
		o.wake <- struct{}{}
	}
}

// table has every op that there ever was: slots are reused, never given back. `all` is read without a lock.
type table struct {
	all  atomic.Pointer[[]*op]
	free []*op
}

// take returns an op that is not in use, nil when there are too many.
func (t *table) take() *op {
	if last := len(t.free) - 1; last >= 0 {
		o := t.free[last]
		t.free = t.free[:last]
		return o
	}
	var all []*op
	if known := t.all.Load(); known != nil {
		all = *known
	}
	if len(all) == 1<<indexBits {
		return nil
	}
	o := &op{index: uint32(len(all)), wake: make(chan struct{}, 1)}
	o.generation.Store(1)
	all = append(all, o)
	t.all.Store(&all)
	return o
}

func (t *table) give(o *op) {
	o.generation.Store(o.generation.Load()%(1<<generationBits-1) + 1) // never 0
	o.many, o.session = nil, nil
	o.state.Store(opRunning)
	t.free = append(t.free, o)
}

// find returns the operation that a user_data names, if it runs, and the request's place in it.
func (t *table) find(userData uint64) (*op, int) {
	all := t.all.Load()
	index := userData >> batchBits & (1<<indexBits - 1)
	if all == nil || index >= uint64(len(*all)) {
		return nil, 0
	}
	o := (*all)[index]
	if uint64(o.generation.Load()) != userData>>(batchBits+indexBits) || o.done() {
		return nil, 0
	}
	return o, int(userData & (batchMax - 1))
}
