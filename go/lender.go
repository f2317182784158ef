package rdmaengine

import (
	"context"
	"sync"
	"time"
)

// lender is the memory that a session lends to its exporter, so that answers are put there without a copy: buffers of the
// caller's, and blocks of our own, cut into slots of one length each.
type lender struct {
	asking  sync.Mutex // one buffer is lent at a time; before mu, which is never held while the peer is asked
	mu      sync.Mutex
	looked  bool // whether it is known if the peer takes any
	refused bool
	full    bool // it takes no more, until something is taken back
	ended   bool
	bytes   int64 // of our blocks
	buffers map[uint64]uint64
	free    [len(slotLengths)][]*slot
	// What lengths answers have, of one needle and of many.
	one, many fitting
}

// fitting is which class of slots answers fit into, when nobody says how long they are.
type fitting struct {
	class    int
	smaller  int // answers since the last one that needed it
	smallest int // class that all of those fit into
}

// shrinkAfter so many answers that need less a class is given up.
const shrinkAfter = 64

// slotLengths are the lengths in bytes of slots: a little more than round ones, for a needle's own data and an answer's rows.
var slotLengths = [...]int64{16 << 10, 128 << 10, 512 << 10, 1<<20 + 64<<10, 4<<20 + 64<<10, 16<<20 + 64<<10}

const (
	lentMost   = 64 << 20 // bytes of our blocks of one session
	blockLeast = 1 << 20
)

// block is one buffer that was lent.
type block struct {
	of     *lender
	buffer uint64
	number uint64
	memory []byte
	class  int
	used   int  // slots that are not free
	over   bool // no slot is given out any more; the last one that comes back releases the buffer
}

// slot is room for one answer.
type slot struct {
	block  *block
	offset int64
}

func (t *slot) length() int64  { return slotLengths[t.block.class] }
func (t *slot) memory() []byte { return t.block.memory[t.offset : t.offset+t.length()] }
func (t *slot) place() place {
	return place{t.block.buffer, t.block.number, t.offset, t.length(), t.memory()}
}

// place is where an answer is to go.
type place struct {
	buffer         uint64
	number         uint64 // as lent; 0: it comes there by way of the library
	offset, length int64
	memory         []byte
}

// part is a part of a place.
func (p *place) part(at, length int64) place {
	return place{p.buffer, p.number, p.offset + at, length, p.memory[at : at+length]}
}

// class of slots with room for so many bytes; past the end when there is none.
func class(length int64) int {
	at := 0
	for at < len(slotLengths) && slotLengths[at] < length {
		at++
	}
	return at
}

// lends says whether the peer takes memory, as far as is known.
func (s *Session) lends() bool {
	l := &s.lent
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.looked {
		info, err := sessionInfo(s.id)
		l.looked, l.refused = true, err != nil || !info.Local
	}
	return !l.refused && !l.full && !l.ended
}

// lend lends a buffer of this length; 0: the peer does not take it. The caller holds `asking`.
func (s *Session) lend(ctx context.Context, buffer uint64, length int64) (number uint64) {
	key, err := bufferExport(buffer, 0, length, RightRead|RightWrite)
	if err != nil {
		return 0
	}
	reply, err := s.Call(ctx, &Call{Method: methodMemory, Payload: key[:]})
	if err == nil && reply.Status == 0 {
		return reply.Header.Offset
	}
	failed, ok := err.(*Error)
	s.lent.mu.Lock()
	s.lent.refused = ok && failed.Status == StatusUnknownMethod || err == nil && Status(reply.Status) == StatusUnsupported
	s.lent.full = err == nil && Status(reply.Status) == StatusLimitReached
	s.lent.mu.Unlock()
	_ = keyRevoke(s.pump.context, key)
	return 0
}

// lendBuffer is the number of a caller's buffer; 0: it is not one that can be lent, or the peer does not take it.
func (s *Session) lendBuffer(ctx context.Context, b *Buffer) uint64 {
	if b.kind != BufferExportable {
		return 0
	}
	if number, known := s.lent.number(b.id); known {
		return number
	}
	l := &s.lent
	l.asking.Lock()
	defer l.asking.Unlock()
	number, known := l.number(b.id)
	if known || !s.lends() {
		return number
	}
	number = s.lend(ctx, b.id, int64(len(b.data)))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buffers == nil {
		l.buffers = make(map[uint64]uint64)
	}
	if len(l.buffers) >= buffersMost {
		clear(l.buffers) // those of released buffers are among them; the others are lent again
	}
	l.buffers[b.id] = number
	b.lentTo(s)
	return number
}

// takeBackTime bounds the wait for a peer to let go of memory.
const takeBackTime = time.Second

// takeBack tells the peer that a buffer is not lent any more, so that it unmaps it.
func (s *Session) takeBack(buffer uint64) {
	l := &s.lent
	l.mu.Lock()
	number := l.buffers[buffer]
	delete(l.buffers, buffer)
	l.full = false
	ended := l.ended
	l.mu.Unlock()
	if number == 0 || ended {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), takeBackTime)
	defer cancel()
	// If it does not hear of it, it finds out when it is lent more, or when the session ends.
	_, _ = s.Call(ctx, &Call{Method: methodMemory, Header: Header{Offset: number}})
}

// number that a caller's buffer was lent as.
func (l *lender) number(buffer uint64) (number uint64, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number, known = l.buffers[buffer]
	return number, known
}

// buffersMost bounds the buffers of callers whose numbers are known.
const buffersMost = 1024

// slot takes room for an answer; nil: none is lent.
func (s *Session) slot(ctx context.Context, class int) *slot {
	if class >= len(slotLengths) {
		return nil
	}
	l := &s.lent
	t, more := l.take(class)
	if t != nil || !more || !s.lends() {
		return t
	}
	l.asking.Lock()
	defer l.asking.Unlock()
	if t, more = l.take(class); t != nil || !more || !s.lends() {
		return t
	}
	length := max(slotLengths[class], blockLeast)
	buffer, memory, err := bufferAlloc(s.pump.context, int(length), uint32(BufferExportable))
	if err != nil {
		return nil
	}
	number := s.lend(ctx, buffer, length)
	l.mu.Lock()
	defer l.mu.Unlock()
	if number == 0 || l.ended {
		bufferRelease(buffer)
		return nil
	}
	l.bytes += length
	b := &block{of: l, buffer: buffer, number: number, memory: memory, class: class, used: 1}
	for at := slotLengths[class]; at+slotLengths[class] <= length; at += slotLengths[class] {
		l.free[class] = append(l.free[class], &slot{b, at})
	}
	return &slot{b, 0}
}

// take takes a free slot; without one it says whether there may be more.
func (l *lender) take(class int) (t *slot, more bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := len(l.free[class]) - 1; last >= 0 {
		t, l.free[class] = l.free[class][last], l.free[class][:last]
		t.block.used++
		return t, true
	}
	return nil, !l.ended && !l.refused && !l.full && l.bytes+max(slotLengths[class], blockLeast) <= lentMost
}

// give takes a slot back.
func (t *slot) give() { t.back(true) }

// lose gives a slot up whose answer has not come: the exporter may write to it still. Nothing else is put into its block.
func (t *slot) lose() { t.back(false) }

func (t *slot) back(reuse bool) {
	b, l := t.block, t.block.of
	l.mu.Lock()
	defer l.mu.Unlock()
	b.used--
	switch {
	case !reuse && !b.over:
		l.retire(b)
	case reuse && !b.over:
		l.free[b.class] = append(l.free[b.class], t)
	}
	if b.over && b.used == 0 {
		bufferRelease(b.buffer)
	}
}

// retire gives out no slot of a block any more. The caller holds the lock.
func (l *lender) retire(b *block) {
	b.over, l.full = true, false
	l.bytes -= int64(len(b.memory))
	kept := l.free[b.class][:0]
	for _, t := range l.free[b.class] {
		if t.block != b {
			kept = append(kept, t)
		}
	}
	l.free[b.class] = kept
}

// end releases what is not in use; the rest follows when it comes back.
func (l *lender) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for class := range l.free {
		for len(l.free[class]) > 0 {
			b := l.free[class][0].block
			l.retire(b)
			if b.used == 0 {
				bufferRelease(b.buffer)
			}
		}
	}
}

// fit notes how long an answer was.
func (l *lender) fit(f *fitting, length int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := min(class(length), len(slotLengths)-1)
	if at >= f.class {
		f.class, f.smaller, f.smallest = at, 0, 0
		return
	}
	f.smallest = max(f.smallest, at)
	if f.smaller++; f.smaller == shrinkAfter {
		f.class, f.smaller, f.smallest = f.smallest, 0, 0
	}
}

// fitting is the class for an answer of a length that nobody knows.
func (l *lender) fitting(f *fitting) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f.class
}
