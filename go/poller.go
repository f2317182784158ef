package rdmaengine

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// poller is the goroutine that looks after a pump when no other one does: it drains, arms, and sleeps in Go's netpoller
// on the worker's event descriptor.
type poller struct {
	file     *os.File
	raw      syscall.RawConn
	polled   bool
	sleeping atomic.Bool // armed: what comes rings
	looking  atomic.Bool // it has the turn, for a moment
	kicks    chan struct{}
	gone     chan struct{}
}

const (
	// While others poll this often between two looks, arming would make each of them pay for ringing.
	busyExchanges = 8
	// How long the poller then stays away, at first, and while that goes on: each look takes a processor from somebody.
	busyNap    = 50 * time.Microsecond
	longestNap = time.Millisecond
	// Longest sleep on a polled worker's descriptor, as the header has it.
	polledSleep = time.Second
)

func (w *poller) open(p *pump) error {
	fd, err := workerEventFD(p.worker)
	if err != nil {
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return &Error{Op: "open", Status: StatusIO, Errno: err.(syscall.Errno)}
	}
	w.polled = p.polled
	w.kicks, w.gone = make(chan struct{}, 1), make(chan struct{})
	w.file = os.NewFile(uintptr(fd), "rdma-engine events")
	w.raw, err = w.file.SyscallConn()
	if err == nil {
		err = w.file.SetReadDeadline(time.Time{}) // fails unless Go's netpoller has it
	}
	if err != nil {
		w.file.Close()
		return &Error{Op: "open", Status: StatusIO, Message: "the event descriptor does not go into Go's netpoller: " + err.Error()}
	}
	return nil
}

func (w *poller) close() {
	w.file.Close()
	w.kick()
	<-w.gone
}

// kick ends a nap. A sleeper needs none: its descriptor rings.
func (w *poller) kick() {
	if w.sleeping.Load() {
		return
	}
	select {
	case w.kicks <- struct{}{}:
	default:
	}
}

// poll is the poller's life.
func (p *pump) poll() {
	w := &p.poller
	defer close(w.gone)
	nap := time.NewTimer(busyNap)
	defer nap.Stop()
	var seen uint64
	length := busyNap
	for {
		armed, again := false, false
		if p.turn.TryLock() {
			w.looking.Store(true)
			busy := p.busy - seen
			for p.serve(1) > 0 {
			}
			seen = p.busy
			if p.dead {
				w.looking.Store(false)
				p.turn.Unlock()
				return
			}
			if busy < busyExchanges || p.inflight.Load() > 0 {
				armed, again = p.arm()
				length = busyNap
			}
			w.sleeping.Store(armed)
			w.looking.Store(false)
			p.release()
		}
		switch {
		case armed:
			err := w.sleep()
			w.sleeping.Store(false)
			if err != nil {
				return
			}
		case !again:
			nap.Reset(length)
			length = min(2*length, longestNap)
			select {
			case <-w.kicks:
			case <-nap.C:
			}
		}
	}
}

// arm makes the descriptor ring at the next completion. The caller has the turn and has drained.
func (p *pump) arm() (armed, again bool) {
	switch status := workerArm(p.worker); {
	case status == StatusOK:
		return true, false
	case status > 0:
		return false, true
	default:
		p.die(status)
		return false, true
	}
}

// sleep waits until the descriptor is readable, or a while; an error: it was closed.
func (w *poller) sleep() error {
	if w.polled {
		w.file.SetReadDeadline(time.Now().Add(polledSleep))
	}
	err := w.raw.Read(func(fd uintptr) bool { return readable(fd, w.polled) })
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}
