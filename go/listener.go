package rdmaengine

import (
	"context"
	"sync"
	"sync/atomic"
)

// Listener accepts sessions at an address.
type Listener struct {
	pump     *pump
	id       uint64
	userData uint64
	address  string
	accepted *queue[*Session]
	once     sync.Once
}

// listenerMark tells the user_data of listeners from that of requests.
const listenerMark = 1 << 63

var listeners atomic.Uint64

func (p *pump) listen(address string) (*Listener, error) {
	l := &Listener{pump: p, userData: listenerMark | listeners.Add(1), accepted: newQueue[*Session]()}
	p.turn.Lock()
	if p.dead {
		p.turn.Unlock()
		return nil, closedFailure("listen")
	}
	p.listeners[l.userData] = l
	p.release()
	var err error
	if l.id, err = listenerOpen(p.worker, address, l.userData); err != nil {
		p.turn.Lock()
		delete(p.listeners, l.userData)
		p.release()
		return nil, err
	}
	l.address = listenerAddress(l.id)
	return l, nil
}

// Address is where the listener is, in the form to dial, with the port that was picked.
func (l *Listener) Address() string { return l.address }

// Accept waits for the next session.
func (l *Listener) Accept(ctx context.Context) (*Session, error) {
	s, err := l.accepted.pop("accept", ctx)
	if err == ErrClosed {
		return nil, closedFailure("accept")
	}
	return s, err
}

// Close stops listening and closes sessions that nobody accepted. Sessions that were accepted stay. Accept returns
// ErrClosed. A second Close does nothing.
func (l *Listener) Close() error {
	l.once.Do(func() {
		listenerClose(l.id)
		l.accepted.close(ErrClosed)
		for _, s := range l.accepted.drop() {
			s.Close()
		}
	})
	return nil
}
