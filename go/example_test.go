//go:build cgo && linux

package rdmaengine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"rdma-engine/rdmaengine"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// peers opens two engines with a session between them. In real life they are in two processes.
func peers() (server, client *rdmaengine.Engine, accepted, dialled *rdmaengine.Session) {
	ctx := context.Background()
	server, err := rdmaengine.Open(rdmaengine.Options{Name: "server"})
	check(err)
	client, err = rdmaengine.Open(rdmaengine.Options{Name: "client"})
	check(err)
	listener, err := server.Listen("tcp://127.0.0.1:0")
	check(err)
	dialled, err = client.Dial(ctx, listener.Address())
	check(err)
	accepted, err = listener.Accept(ctx)
	check(err)
	return server, client, accepted, dialled
}

// shared exports text of the server's and imports it at the client.
func shared(server *rdmaengine.Engine, dialled *rdmaengine.Session, text string) *rdmaengine.Region {
	memory, err := server.Alloc(len(text), rdmaengine.BufferExportable)
	check(err)
	copy(memory.Bytes(), text)
	key, err := memory.Export(0, int64(len(text)), rdmaengine.RightRead|rdmaengine.RightWrite|rdmaengine.RightAtomic)
	check(err)
	region, err := dialled.Import(context.Background(), key)
	check(err)
	return region
}

// One side exports memory and never looks again; the other one reads it.
func Example() {
	ctx := context.Background()
	owner, err := rdmaengine.Open(rdmaengine.Options{})
	check(err)
	defer owner.Close()
	listener, err := owner.Listen("tcp://127.0.0.1:0")
	check(err)
	memory, err := owner.Alloc(64, rdmaengine.BufferExportable)
	check(err)
	n := copy(memory.Bytes(), "Hello from the other side's memory.")
	key, err := memory.Export(0, int64(n), rdmaengine.RightRead)
	check(err)

	// The reader, elsewhere, got the address and the key.
	reader, err := rdmaengine.Open(rdmaengine.Options{})
	check(err)
	defer reader.Close()
	session, err := reader.Dial(ctx, listener.Address())
	check(err)
	region, err := session.Import(ctx, key)
	check(err)
	text, err := io.ReadAll(io.NewSectionReader(region, 0, region.Len()))
	check(err)
	fmt.Println(string(text))
	// Output: Hello from the other side's memory.
}

func ExampleOpen() {
	engine, err := rdmaengine.Open(rdmaengine.Options{Name: "example", MemoryLimit: 64 << 20})
	if errors.Is(err, rdmaengine.ErrUnsupported) {
		fmt.Println("use HTTP:", err) // built without cgo, or no UCX on this machine
		return
	}
	check(err)
	fmt.Println(engine.Close(), engine.Close())
	// Output: <nil> <nil>
}

func ExampleEngine_Info() {
	engine, err := rdmaengine.Open(rdmaengine.Options{Transports: rdmaengine.TransportTCP, MaxSessions: 10})
	check(err)
	defer engine.Close()
	info, err := engine.Info()
	check(err)
	fmt.Println(info.Transports, info.MaxSessions, strings.HasPrefix(info.UCX, "1."))
	// Output: [self tcp] 10 true
}

func ExampleListener() {
	engine, err := rdmaengine.Open(rdmaengine.Options{})
	check(err)
	defer engine.Close()
	listener, err := engine.Listen("tcp://127.0.0.1:0")
	check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err = listener.Accept(ctx)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	check(listener.Close())
	_, err = listener.Accept(context.Background())
	fmt.Println(errors.Is(err, rdmaengine.ErrClosed))
	// Output:
	// true
	// true
}

func ExampleSession() {
	server, client, accepted, dialled := peers()
	defer server.Close()
	defer client.Close()
	ctx := context.Background()
	check(dialled.Send(ctx, []byte("ping")))
	ping, err := accepted.Receive(ctx)
	check(err)
	defer ping.Release()
	info, err := accepted.Info()
	check(err)
	fmt.Printf("%s from %s\n", ping.Bytes(), info.PeerName)
	check(dialled.Close())
	_, err = accepted.Receive(ctx)
	fmt.Println(err)
	// Output:
	// ping from client
	// EOF
}

func ExampleMessage() {
	server, client, accepted, dialled := peers()
	defer server.Close()
	defer client.Close()
	ctx := context.Background()
	check(dialled.Send(ctx, []byte(strings.Repeat("long ", 1000))))
	message, err := accepted.Receive(ctx)
	check(err)
	fmt.Println(len(message.Bytes()))
	message.Release() // its memory is the engine's again
	// Output: 5000
}

func ExampleBuffer() {
	engine, err := rdmaengine.Open(rdmaengine.Options{})
	check(err)
	defer engine.Close()
	buffer, err := engine.Alloc(4096, rdmaengine.BufferPrivate)
	check(err)
	defer buffer.Release()
	copy(buffer.Bytes(), "registered memory is a []byte")
	head := make([]byte, 10)
	_, err = buffer.ReadAt(head, 0)
	check(err)
	fmt.Println(string(head), buffer.Len())
	// Output: registered 4096
}

func ExampleRegion() {
	server, client, _, dialled := peers()
	defer server.Close()
	defer client.Close()
	ctx := context.Background()
	region := shared(server, dialled, "0123456789")
	defer region.Release()
	local, err := client.Alloc(10, rdmaengine.BufferPrivate)
	check(err)
	check(region.Get(ctx, local, 0, 0, 10))
	copy(local.Bytes(), "abc")
	check(region.Put(ctx, local, 0, 5, 3))
	check(dialled.Flush(ctx)) // the peer sees it now
	check(region.Get(ctx, local, 0, 0, 10))
	fmt.Println(string(local.Bytes()))
	err = region.Get(ctx, local, 0, 5, 10)
	fmt.Println(errors.Is(err, rdmaengine.StatusOutOfRange))
	// Output:
	// 01234abc89
	// true
}

func ExampleRegion_FetchAdd() {
	server, client, _, dialled := peers()
	defer server.Close()
	defer client.Close()
	ctx := context.Background()
	counter := shared(server, dialled, strings.Repeat("\x00", 8))
	before, err := counter.FetchAdd(ctx, 0, 5)
	check(err)
	now, err := counter.CompareSwap(ctx, 0, 5, 100)
	check(err)
	fmt.Println(before, now)
	// Output: 0 5
}

func ExampleBatch() {
	server, client, _, dialled := peers()
	defer server.Close()
	defer client.Close()
	region := shared(server, dialled, "one two three four ")
	local, err := client.Alloc(10, rdmaengine.BufferPrivate)
	check(err)
	batch := dialled.NewBatch(2)
	batch.Get(region, local, 0, 14, 5)
	batch.Get(region, local, 5, 0, 3)
	check(batch.Run(context.Background()))
	fmt.Println(string(local.Bytes()[:8]))
	// Output: four one
}

func ExampleKey() {
	server, client, _, dialled := peers()
	defer server.Close()
	defer client.Close()
	ctx := context.Background()
	memory, err := server.Alloc(4096, rdmaengine.BufferExportable)
	check(err)
	key, err := memory.Export(0, 4096, rdmaengine.RightRead)
	check(err)
	region, err := dialled.Import(ctx, key)
	check(err)
	_, err = region.WriteAt([]byte("x"), 0)
	fmt.Println(errors.Is(err, rdmaengine.StatusPermissionDenied))
	check(server.Revoke(key))
	_, err = region.ReadAt(make([]byte, 1), 0)
	fmt.Println(errors.Is(err, rdmaengine.StatusRevoked))
	// Output:
	// true
	// true
}

func ExampleError() {
	engine, err := rdmaengine.Open(rdmaengine.Options{})
	check(err)
	defer engine.Close()
	_, err = engine.Dial(context.Background(), "no address")
	var failed *rdmaengine.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Op, failed.Status.Name())
	}
	// Output: dial INVALID_ARGUMENT
}

func ExampleStats() {
	server, client, _, dialled := peers()
	defer server.Close()
	defer client.Close()
	region := shared(server, dialled, "0123456789")
	_, err := region.ReadAt(make([]byte, 10), 0)
	check(err)
	stats, err := dialled.Stats()
	check(err)
	fmt.Println(stats.Gets, stats.GetBytes)
	// Output: 1 10
}

func ExampleSession_Call() {
	server, client, _, dialled := peers()
	defer server.Close()
	defer client.Close()
	const greet = 1
	server.Handle(greet, func(ctx context.Context, call *rdmaengine.IncomingCall) {
		call.Reply(0, rdmaengine.Header{}, append([]byte("hello, "), call.Payload()...))
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // the handler sees it, too
	defer cancel()
	reply, err := dialled.Call(ctx, &rdmaengine.Call{Method: greet, Payload: []byte("needle")})
	check(err)
	defer reply.Release()
	fmt.Println(reply.Status, string(reply.Bytes()))
	_, err = dialled.Call(ctx, &rdmaengine.Call{Method: 2})
	fmt.Println(errors.Is(err, rdmaengine.StatusUnknownMethod))
	// Output:
	// 0 hello, needle
	// true
}

func ExampleIncomingCall() {
	server, client, _, dialled := peers()
	defer server.Close()
	defer client.Close()
	const read = 1
	memory, err := server.Alloc(1<<20, rdmaengine.BufferPrivate)
	check(err)
	copy(memory.Bytes()[1000:], "from registered memory, not copied on the way")
	server.Handle(read, func(ctx context.Context, call *rdmaengine.IncomingCall) {
		offset, length := int64(call.Header.Offset), int64(call.Header.Len)
		if offset+length > int64(memory.Len()) {
			call.Refuse(rdmaengine.StatusOutOfRange, 0)
			return
		}
		call.Reply(0, rdmaengine.Header{Len: call.Header.Len}, nil, rdmaengine.BufferRange{Buffer: memory, Offset: offset, Length: length})
	})
	into, err := client.Alloc(4096, rdmaengine.BufferPrivate)
	check(err)
	reply, err := dialled.Call(context.Background(), &rdmaengine.Call{Method: read,
		Header: rdmaengine.Header{Offset: 1000, Len: 22}, Into: rdmaengine.BufferRange{Buffer: into, Length: 4096}})
	check(err)
	fmt.Println(string(into.Bytes()[:reply.Length]))
	// Output: from registered memory
}
