package rdmaengine

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// pump is a hidden worker: many goroutines put requests into its one array, and whoever has the turn submits them, takes
// completions and hands them out. A goroutine that starts an operation takes the turn if it is free, and often leaves
// with its own result; when nobody has it, the poller goroutine waits on the worker's event descriptor.
type pump struct {
	context    uint64
	messageMax int64 // longest message in bytes
	calls      *handlers
	worker     uint64
	polled     bool
	spin       time.Duration // how long a goroutine that waits polls by itself, at most; negative: not at all

	turn     sync.Mutex          // who submits and polls; before mu
	arrays   *arrays             // completions and exchange are of the turn, what is filled of mu
	busy     uint64              // exchanges that moved something; of the turn
	yielded  time.Time           // when a goroutine that led let others run; of the turn
	waits    [waitKinds]spinning // of the turn
	dead     bool                // the worker is closed; of the turn and mu
	sessions map[uint64]*Session
	// What goes to no session of ours any more; of the turn.
	listeners map[uint64]*Listener

	mu      sync.Mutex
	ops     table
	filling int // which array
	filled  int
	text    int // bytes used beside it
	closing bool

	inflight atomic.Int64
	pending  atomic.Bool // something is filled; looked at also after the end, when the arrays are gone
	poller   poller
}

// errFull: the array is full; whoever meets it takes the turn and submits it.
var errFull = &Error{Op: "submit", Status: StatusQueueFull}

// pollsPerCrossing is how often one crossing into C looks for a completion before it comes back to look at the clock.
const pollsPerCrossing = 32

// yieldEvery so often a goroutine that leads lets others run. One that did not for 10 ms is taken off its thread by Go's
// scheduler, whose watcher then looks at every thread twelve thousand times a second, for milliseconds.
const yieldEvery = 8 * time.Millisecond

// append puts one request and its text into the array. The caller holds mu and has looked for room.
func (p *pump) append(r *request, text []byte) {
	if len(text) > 0 {
		copy(p.arrays.text[p.filling][p.text:], text)
		r.data = p.arrays.textAt[p.filling] + uintptr(p.text)
		r.dataLen |= uint64(len(text))
		p.text += (len(text) + 7) &^ 7 // pieces are aligned
	}
	p.arrays.requests[p.filling][p.filled] = *r
	p.filled++
	if p.filled == 1 {
		p.pending.Store(true)
		atomic.StoreUint32(&p.arrays.exchange.interrupt, 1)
	}
}

func (p *pump) room(text int) bool { return p.filled < queued && p.text+text <= textBytes-8 }

// start queues one request. On errFull nothing has happened.
func (p *pump) start(r *request, text []byte) (*op, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing {
		return nil, ErrClosed
	}
	if !p.room(len(text)) {
		return nil, errFull
	}
	o := p.ops.take()
	if o == nil {
		return nil, errFull
	}
	o.left = 1
	r.userData = o.userData(0)
	p.inflight.Add(1)
	p.append(r, text)
	return o, nil
}

// one does a single request from beginning to end. `takes` is how long its answer takes to make, beside its way: so much
// longer than others it is polled for.
func (p *pump) one(ctx context.Context, name string, r *request, text []byte, takes time.Duration) (result, error) {
	if ctx.Err() != nil {
		return result{}, interrupted(name, ctx)
	}
	o, err := p.start(r, text)
	for err == errFull {
		p.flush()
		o, err = p.start(r, text)
	}
	if err != nil {
		return result{}, closedFailure(name)
	}
	p.finish(ctx, o, 1, waitFor(r, takes), takes)
	end := o.one
	p.free(o)
	if end.status < 0 {
		return end, end.err(name, ctx)
	}
	return end, nil
}

// many does a batch, in pieces as large as the array; every request has its result when it returns.
func (p *pump) many(ctx context.Context, requests []request, results []result) error {
	if ctx.Err() != nil {
		return interrupted("batch", ctx)
	}
	p.mu.Lock()
	o := p.ops.take()
	if p.closing || o == nil {
		if o != nil {
			p.ops.give(o)
		}
		p.mu.Unlock()
		return closedFailure("batch")
	}
	for at := range results {
		results[at].status = statusRunning
	}
	o.many, o.left = results, len(requests)
	p.inflight.Add(1)
	for at := 0; at < len(requests); {
		for ; at < len(requests) && p.room(0); at++ {
			requests[at].userData = o.userData(at)
			p.append(&requests[at], nil)
		}
		if at < len(requests) {
			p.mu.Unlock()
			p.flush()
			p.mu.Lock()
			if p.closing {
				p.refuseRest(o, len(requests)-at)
				break
			}
		}
	}
	p.mu.Unlock()
	p.finish(ctx, o, len(requests), waitMany, 0)
	p.free(o)
	return nil
}

// refuseRest ends those requests of a batch that were never queued. The caller holds mu.
func (p *pump) refuseRest(o *op, rest int) {
	p.mu.Unlock()
	p.turn.Lock()
	for at := len(o.many) - rest; at < len(o.many) && !o.done(); at++ {
		p.end(o, at, result{status: StatusCanceled})
	}
	p.release()
	p.mu.Lock()
}

func (p *pump) free(o *op) {
	p.mu.Lock()
	p.ops.give(o)
	p.mu.Unlock()
}

// finish waits until the operation is done: with the turn for a while, else parked. When the context ends it cancels
// the operation and still waits, because its memory is lent until then.
func (p *pump) finish(ctx context.Context, o *op, requests, kind int, takes time.Duration) {
	done, began := p.lead(o.done, kind, takes)
	if done || !o.state.CompareAndSwap(opRunning, opParked) {
		return
	}
	p.poller.kick()
	select {
	case <-o.wake:
		p.parked(kind, began, takes)
	case <-ctx.Done():
		p.cancel(o, requests)
		<-o.wake
	}
}

// parked takes the end of a wait that parked, if it is known when it began.
func (p *pump) parked(kind int, began time.Time, takes time.Duration) {
	if p.spin > 0 && !began.IsZero() {
		p.waits[kind].ended(time.Since(began) <= p.spin+takes)
	}
}

// lead polls in this goroutine until `enough`, which is not asked again then, if nobody else does: at most for the spin time
// and `takes`, and less if that was in vain the last times. The turn is kept meanwhile: what others queue interrupts a poll and
// is submitted by the next. Also when it began, if it is not done and was not somebody else's.
func (p *pump) lead(enough func() bool, kind int, takes time.Duration) (done bool, began time.Time) {
	if enough() {
		return true, began
	}
	if !p.turn.TryLock() {
		if !p.poller.looking.Load() {
			return enough(), began
		}
		p.turn.Lock() // the poller only has a look
	}
	var budget time.Duration
	if p.spin > 0 {
		budget = p.waits[kind].budget(p.spin + takes)
	}
	done, began, now := p.watch(enough, budget)
	if done {
		p.waits[kind].ended(true)
	}
	yield := now.Sub(p.yielded) > yieldEvery
	if yield {
		p.yielded = now
	}
	p.release()
	if yield {
		runtime.Gosched()
	}
	return done || enough(), began
}

// watch serves until `enough`, for as long as the budget; also when it looked at the clock first and last, if it did. The caller
// has the turn.
func (p *pump) watch(enough func() bool, budget time.Duration) (done bool, began, now time.Time) {
	rounds := uint32(pollsPerCrossing)
	if budget <= 0 {
		rounds = 1
	}
	for !p.dead {
		p.serve(rounds)
		if enough() {
			return true, began, now
		}
		now = time.Now()
		if began.IsZero() {
			began = now
		}
		if now.Sub(began) >= budget {
			break
		}
	}
	return false, began, now
}

// flush submits what is queued.
func (p *pump) flush() {
	p.turn.Lock()
	p.serve(1)
	p.release()
}

// release gives the turn back, and looks once more for requests of goroutines that found it taken.
func (p *pump) release() {
	for {
		dead := p.dead
		p.turn.Unlock()
		if dead || !p.pending.Load() || !p.turn.TryLock() {
			break
		}
		p.serve(1)
	}
	if p.inflight.Load() > 0 {
		p.poller.kick()
	}
}

// swap takes the filled array for submission.
func (p *pump) swap() (which, count int) {
	if !p.pending.Load() {
		return 0, 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	which, count = p.filling, p.filled
	p.filling, p.filled, p.text = 1-which, 0, 0
	p.pending.Store(false)
	atomic.StoreUint32(&p.arrays.exchange.interrupt, 0)
	return which, count
}

// serve submits what is queued and takes completions once, trying `rounds` polls for a first one. Returns how many came.
// The caller has the turn.
func (p *pump) serve(rounds uint32) int {
	if p.dead {
		return 0
	}
	x := p.arrays.exchange
	which, count := p.swap()
	for at, stuck, came := 0, 0, 0; ; {
		x.requests, x.count = p.arrays.requestsAt[which]+uintptr(at)*requestBytes, uint32(count-at)
		x.rounds = rounds
		crossing(x)
		for i := range p.arrays.completions[:x.got] {
			p.take(&p.arrays.completions[i])
		}
		came += int(x.got)
		if x.pollStatus < 0 {
			p.die(x.pollStatus)
			return came
		}
		at += int(x.accepted)
		if at == count {
			if count > 0 || came > 0 {
				p.busy++
			}
			return came
		}
		if x.submitStatus != StatusQueueFull {
			p.refuse(&p.arrays.requests[which][at], x.submitStatus)
			at++
		} else if x.got == 0 {
			// The worker's own thread has to make room.
			if stuck++; stuck > 64 {
				time.Sleep(20 * time.Microsecond)
			} else {
				runtime.Gosched()
			}
		}
	}
}

// refuse ends a request that was not accepted: it has no completion.
func (p *pump) refuse(r *request, status Status) {
	if o, at := p.ops.find(r.userData); o != nil {
		p.end(o, at, result{status: status})
	}
}

// end hands a request's result to its operation.
func (p *pump) end(o *op, at int, r result) {
	if o.left == 1 {
		p.inflight.Add(-1)
	}
	o.complete(at, r)
}

// take hands out one completion.
func (p *pump) take(c *completion) {
	if c.flags&completedEvent != 0 {
		p.event(c)
		return
	}
	if c.op == eventClosed {
		p.closed(c)
	}
	o, at := p.ops.find(c.userData)
	if o == nil {
		return
	}
	if c.op == opConnect && c.status == 0 {
		o.session.open(c.value)
		p.sessions[c.value] = o.session
	}
	r := result{status: Status(c.status), detail: c.detail, length: c.length, value: c.value}
	if c.op == opCall {
		r.flags, r.data = c.flags, c.data
	}
	p.end(o, at, r)
}

// cancel asks a running operation to end. What is still queued is submitted first, so that the library knows it.
func (p *pump) cancel(o *op, requests int) {
	for at := 0; at < requests && !o.done(); {
		p.turn.Lock()
		p.serve(1)
		status := StatusOK
		for ; at < requests && !p.dead && status == StatusOK; at++ {
			if o.many == nil || o.many[at].status == statusRunning {
				status = workerCancel(p.worker, o.userData(at))
			}
		}
		dead := p.dead
		p.release()
		if dead {
			return
		}
		if status != StatusOK {
			at-- // the queue is full: once more
			runtime.Gosched()
		}
	}
	p.poller.kick()
}
