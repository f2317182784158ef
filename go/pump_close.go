package rdmaengine

import "time"

// openPump opens a worker and starts its poller.
func openPump(e *Engine, polled bool) (*pump, error) {
	flags := uint32(workerCalls)
	if polled {
		flags |= workerPolled
	}
	worker, err := workerOpen(e.context, flags)
	if err != nil {
		return nil, err
	}
	messageMax := e.options.MaxMessage
	if messageMax == 0 {
		messageMax = 16 << 20
	}
	p := &pump{
		context:    e.context,
		calls:      &e.handlers,
		worker:     worker,
		polled:     polled,
		spin:       e.spin,
		messageMax: messageMax,
		sessions:   make(map[uint64]*Session),
		listeners:  make(map[uint64]*Listener),
	}
	if p.arrays, err = newArrays(worker); err == nil {
		err = p.poller.open(p)
	}
	if err != nil {
		workerClose(worker)
		freeArrays(p.arrays)
		return nil, err
	}
	go p.poll()
	return p, nil
}

// closingTime is how long sessions have to end in order when their engine closes.
const closingTime = 2 * time.Second

// close ends the sessions, then the worker, and whatever is still in flight with it.
func (p *pump) close() {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	p.turn.Lock()
	for id, s := range p.sessions {
		s.closing()
		sessionClose(id, 0)
	}
	p.release()
	for until := time.Now().Add(closingTime); time.Now().Before(until); {
		p.turn.Lock()
		p.serve(1)
		quiet := p.dead || len(p.sessions) == 0 && p.inflight.Load() == 0
		p.release()
		if quiet {
			break
		}
		time.Sleep(50 * time.Microsecond)
	}
	p.turn.Lock()
	p.die(StatusCanceled)
	p.turn.Unlock()
	p.poller.close()
	p.turn.Lock()
	p.mu.Lock()
	freeArrays(p.arrays)
	p.arrays = nil
	p.mu.Unlock()
	p.turn.Unlock()
}

// die ends everything that is in flight: the worker cannot go on, or was closed. The caller has the turn.
func (p *pump) die(status Status) {
	if p.dead {
		return
	}
	workerClose(p.worker) // when it returns nothing of ours is touched any more
	p.mu.Lock()
	p.dead, p.closing = true, true
	running := make([]*op, 0, 16)
	if all := p.ops.all.Load(); all != nil {
		for _, o := range *all {
			if o.left > 0 {
				running = append(running, o)
			}
		}
	}
	p.mu.Unlock()
	for _, o := range running {
		for at := 0; o.left > 0; at++ {
			if o.many == nil || o.many[at].status == statusRunning {
				p.end(o, at, result{status: status})
			}
		}
	}
	for _, l := range p.listeners {
		l.accepted.close(ErrClosed)
	}
	for _, s := range p.sessions {
		s.end(status)
	}
	clear(p.sessions)
	clear(p.listeners)
}
