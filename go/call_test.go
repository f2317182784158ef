//go:build cgo && linux

package rdmaengine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

const (
	methodEcho = iota + 1
	methodSum
	methodWait
	methodRange
	methodBusy
	methodForget
	methodUnknown
)

// answering makes a server that echoes, adds, waits, answers from its memory, and refuses.
func answering(t testing.TB, options Options) (p *pair, waiting chan error) {
	p, waiting = dialled(t, options), make(chan error, 100)
	p.server.Handle(methodEcho, func(ctx context.Context, call *IncomingCall) {
		h := call.Header
		call.Reply(int32(h.Flags), Header{Offset: h.Offset + 1, Len: h.Len + 1, Flags: h.Flags + 1}, call.Payload())
	})
	p.server.Handle(methodSum, func(ctx context.Context, call *IncomingCall) {
		var sum uint64
		for text := call.Payload(); len(text) >= 8; text = text[8:] {
			sum += binary.LittleEndian.Uint64(text)
		}
		call.Reply(0, Header{}, binary.LittleEndian.AppendUint64(nil, sum))
	})
	p.server.Handle(methodWait, func(ctx context.Context, call *IncomingCall) {
		<-ctx.Done()
		waiting <- ctx.Err()
	})
	memory := must[*Buffer](t)(p.server.Alloc(1<<20, BufferPrivate))
	for i := range memory.Bytes() {
		memory.Bytes()[i] = byte(i % 251)
	}
	p.server.Handle(methodRange, func(ctx context.Context, call *IncomingCall) {
		call.Reply(0, Header{Len: call.Header.Len}, []byte("here: "),
			BufferRange{Buffer: memory, Offset: int64(call.Header.Offset), Length: int64(call.Header.Len)})
	})
	p.server.Handle(methodBusy, func(ctx context.Context, call *IncomingCall) { call.Refuse(StatusBusy, 7*time.Millisecond) })
	p.server.Handle(methodForget, func(ctx context.Context, call *IncomingCall) {})
	return p, waiting
}

func TestCallsAreLaidOutAsTheLibraryDoes(t *testing.T) {
	buffer := &Buffer{id: 77}
	call := &Call{Method: 0xdeadbeef, Header: Header{1, 2, 3}, Into: BufferRange{buffer, 3, 4}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	ours, _, _, err := call.request(ctx, &Session{})
	ok(t, err)
	ours.session = 5
	theirs := prepared(5, call.Method, call.Header, ours.timeoutUS, 77)
	theirs.data, theirs.dataLen = 0, 0 // no pieces, in their words
	if ours != theirs || ours.timeoutUS < 3_500_000_000 {
		t.Fatalf("%+v is not %+v", ours, theirs)
	}
}

func TestCallsAreAnswered(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p, _ := answering(t, options)
		ctx := patient(t)
		for _, size := range []int{0, 1, 24, 25, 1000, textMax, textMax + 1, 70_000, 300_000} {
			text := bytes.Repeat([]byte{byte(size)}, size)
			reply := must[Reply](t)(p.from.Call(ctx, &Call{Method: methodEcho, Header: Header{10, 20, 30}, Payload: text}))
			if reply.Status != 30 || reply.Length != size || !bytes.Equal(reply.Bytes(), text) || reply.Header != (Header{11, 21, 31}) {
				t.Fatalf("%d bytes: status %d, %d bytes, %+v", size, reply.Status, reply.Length, reply.Header)
			}
			reply.Release()
		}
		// Payload and reply in buffers of the caller's.
		b := must[*Buffer](t)(p.client.Alloc(1<<20, BufferPrivate))
		for i := range uint64(1000) {
			binary.LittleEndian.PutUint64(b.Bytes()[8*i:], i)
		}
		sum := must[Reply](t)(p.from.Call(ctx, &Call{Method: methodSum, Payload: make([]byte, 8), Range: BufferRange{b, 0, 8000}}))
		if got := binary.LittleEndian.Uint64(sum.Bytes()); got != 499_500 {
			t.Fatal(got)
		}
		sum.Release()
		const length = 500_000
		r := must[Reply](t)(p.from.Call(ctx, &Call{Method: methodRange, Header: Header{Offset: 100, Len: length},
			Into: BufferRange{b, 50, 1<<20 - 50}}))
		if r.Length != length+6 || string(b.Bytes()[50:56]) != "here: " || r.Header.Len != length {
			t.Fatalf("%+v", r)
		}
		for i, got := range b.Bytes()[56 : 56+length] {
			if got != byte((i+100)%251) {
				t.Fatal("byte", i, "is", got)
			}
		}
		_, err := p.from.Call(ctx, &Call{Method: methodRange, Header: Header{Len: length}, Into: BufferRange{b, 0, 100}})
		if !errors.Is(err, StatusTruncated) {
			t.Fatal(err)
		}
	})
}

func TestCallsThatAreNotAnswered(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p, waiting := answering(t, options)
		ctx := patient(t)
		if _, err := p.from.Call(ctx, &Call{Method: methodUnknown}); !errors.Is(err, StatusUnknownMethod) {
			t.Fatal(err)
		}
		_, err := p.from.Call(ctx, &Call{Method: methodBusy})
		var failed *Error
		if !errors.As(err, &failed) || failed.Status != StatusBusy || failed.RetryAfter != 7*time.Millisecond {
			t.Fatal(err)
		}
		if _, err := p.from.Call(ctx, &Call{Method: methodForget}); !errors.Is(err, StatusCanceled) {
			t.Fatal(err)
		}
		soon, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		if _, err := p.from.Call(soon, &Call{Method: methodWait}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		<-waiting
		later, cancel := context.WithCancel(ctx)
		time.AfterFunc(5*time.Millisecond, cancel)
		if _, err := p.from.Call(later, &Call{Method: methodWait}); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		ok(t, p.from.Notify(ctx, &Call{Method: methodEcho, Payload: []byte("to nobody")}))
		// The session is as it was; the accepting side calls, too.
		p.client.Handle(methodEcho, func(ctx context.Context, call *IncomingCall) { call.Reply(5, Header{}, call.Payload()) })
		reply := must[Reply](t)(p.at.Call(ctx, &Call{Method: methodEcho, Payload: []byte("back")}))
		if string(reply.Bytes()) != "back" || reply.Status != 5 {
			t.Fatal(reply)
		}
		reply.Release()
		p.client.Handle(methodEcho, nil)
		if _, err := p.at.Call(ctx, &Call{Method: methodEcho}); !errors.Is(err, StatusUnknownMethod) {
			t.Fatal(err)
		}
	})
}

func TestManyCallsAtOnce(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p, _ := answering(t, options)
		ctx := patient(t)
		var group sync.WaitGroup
		for i := range 200 {
			group.Add(1)
			go func() {
				defer group.Done()
				for j := range 10 {
					text := fmt.Appendf(nil, "%d and %d", i, j)
					reply, err := p.from.Call(ctx, &Call{Method: methodEcho, Payload: text})
					if err != nil || !bytes.Equal(reply.Bytes(), text) {
						t.Error(err, string(reply.Bytes()))
						return
					}
					reply.Release()
				}
			}()
		}
		group.Wait()
	})
}

func TestCloseWaitsForHandlers(t *testing.T) {
	p, waiting := answering(t, Options{})
	ends := make(chan error, 1)
	started := make(chan struct{})
	p.server.Handle(methodWait, func(ctx context.Context, call *IncomingCall) {
		close(started)
		<-ctx.Done()
		waiting <- call.Reply(0, Header{}, call.Payload())
	})
	go func() {
		_, err := p.from.Call(patient(t), &Call{Method: methodWait, Payload: make([]byte, 10_000)})
		ends <- err
	}()
	<-started
	ok(t, p.server.Close())
	ok(t, <-waiting)
	if err := <-ends; err != nil && !errors.Is(err, StatusConnectionLost) {
		t.Fatal(err)
	}
}
