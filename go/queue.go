package rdmaengine

import (
	"context"
	"sync"
)

// queue holds what arrived and was not asked for yet: messages of a session, sessions of a listener.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	head  int
	end   error
	wake  chan struct{}
}

func newQueue[T any]() *queue[T] { return &queue[T]{wake: make(chan struct{}, 1)} }

// push appends an item; false: the queue is closed, or `limit` items wait.
func (q *queue[T]) push(item T, limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end != nil || len(q.items)-q.head >= limit {
		return false
	}
	if q.head > 64 && q.head*2 >= len(q.items) {
		rest := copy(q.items, q.items[q.head:])
		clear(q.items[rest:])
		q.items, q.head = q.items[:rest], 0
	}
	q.items = append(q.items, item)
	q.ring()
	return true
}

// close makes pop return `end` once the queue is empty; the first end stays.
func (q *queue[T]) close(end error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end == nil {
		q.end = end
	}
	q.ring()
}

// drop empties a queue that is closed and returns what was in it.
func (q *queue[T]) drop() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	rest := append([]T(nil), q.items[q.head:]...)
	q.items, q.head = nil, 0
	return rest
}

func (q *queue[T]) ring() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// try takes the oldest item. Without one it returns false, and the queue's end if it has ended.
func (q *queue[T]) try() (item T, ok bool, end error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head == len(q.items) {
		if q.end != nil {
			q.ring() // for the next one that waits
		}
		return item, false, q.end
	}
	var none T
	item, q.items[q.head] = q.items[q.head], none
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	} else {
		q.ring()
	}
	return item, true, nil
}

// pop takes the oldest item, waiting for one.
func (q *queue[T]) pop(op string, ctx context.Context) (T, error) {
	for {
		if item, ok, end := q.try(); ok || end != nil {
			return item, end
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			var none T
			return none, interrupted(op, ctx)
		}
	}
}
