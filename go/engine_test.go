//go:build cgo && linux

package rdmaengine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

func TestGetAndPutMoveTheBytes(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p, ctx := dialled(t, options), patient(t)
		const length = 3 << 20
		remote, region := p.region(t, length, BufferExportable)
		local := must[*Buffer](t)(p.client.Alloc(length, BufferPrivate))
		rand.NewChaCha8([32]byte{1}).Read(remote.Bytes())
		ok(t, region.Get(ctx, local, 0, 0, length))
		if !bytes.Equal(local.Bytes(), remote.Bytes()) {
			t.Fatal("a get brought other bytes")
		}
		rand.NewChaCha8([32]byte{2}).Read(local.Bytes())
		ok(t, region.Put(ctx, local, 100, 7, 1<<20))
		ok(t, p.from.Flush(ctx))
		if !bytes.Equal(local.Bytes()[100:100+1<<20], remote.Bytes()[7:7+1<<20]) {
			t.Fatal("a put wrote other bytes")
		}
		if err := region.Get(ctx, local, 0, length-1, 2); !errors.Is(err, StatusOutOfRange) {
			t.Fatal("past the end:", err)
		}
		if err := region.Get(ctx, local, -1, 0, 2); !errors.Is(err, StatusOutOfRange) {
			t.Fatal("before the start:", err)
		}
	})
}

func TestAtomics(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p := dialled(t, options)
		_, region := p.region(t, 64, BufferExportable)
		const goroutines, each = 8, 100
		var group sync.WaitGroup
		for range goroutines {
			group.Add(1)
			go func() {
				defer group.Done()
				for range each {
					if _, err := region.FetchAdd(patient(t), 8, 3); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		group.Wait()
		all := must[uint64](t)(region.CompareSwap(patient(t), 8, goroutines*each*3, 1))
		now := must[uint64](t)(region.CompareSwap(patient(t), 8, 5, 2))
		if all != goroutines*each*3 || now != 1 {
			t.Fatal(all, now)
		}
	})
}

func TestBatch(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p, ctx := dialled(t, options), patient(t)
		const count = 1000 // more than an array holds
		remote, region := p.region(t, 8*count, BufferExportable)
		local := must[*Buffer](t)(p.client.Alloc(8*count, BufferPrivate))
		for i := range count {
			binary.LittleEndian.PutUint64(remote.Bytes()[8*i:], uint64(i))
		}
		batch := p.from.NewBatch(count)
		for i := range int64(count) {
			batch.Get(region, local, 8*(count-1-i), 8*i, 8)
		}
		ok(t, batch.Run(ctx))
		for i := range count {
			if got := binary.LittleEndian.Uint64(local.Bytes()[8*i:]); got != uint64(count-1-i) {
				t.Fatal(i, got)
			}
		}
		// Used again, with one that fails in the middle.
		batch.Reset()
		batch.FetchAdd(region, 0, 5)
		wrong := batch.Get(region, local, 0, 8*count, 8)
		swap := batch.CompareSwap(region, 8, 1, 100)
		err := batch.Run(ctx)
		if !errors.Is(err, StatusOutOfRange) || batch.Err(0) != nil || batch.Err(wrong) == nil || batch.Err(swap) != nil {
			t.Fatal(err, batch.Err(0), batch.Err(wrong), batch.Err(swap))
		}
		if batch.Value(swap) != 1 || binary.LittleEndian.Uint64(remote.Bytes()) != 5 {
			t.Fatal(batch.Value(swap), remote.Bytes()[:8])
		}
	})
}

func TestRegionIsAReaderAt(t *testing.T) {
	p := dialled(t, Options{})
	const length = 2*copyPiece + 1234
	remote, region := p.region(t, length, BufferExportable)
	text := make([]byte, length)
	rand.NewChaCha8([32]byte{3}).Read(text)
	if n, err := region.WriteAt(text, 0); n != length || err != nil {
		t.Fatal(n, err)
	}
	ok(t, p.from.Flush(patient(t)))
	if !bytes.Equal(remote.Bytes(), text) {
		t.Fatal("WriteAt wrote other bytes")
	}
	for _, readable := range []io.ReaderAt{region, remote} {
		ok(t, iotest.TestReader(io.NewSectionReader(readable, 5, 4000), text[5:4005]))
		buffer := make([]byte, 100)
		if n, err := readable.ReadAt(buffer, length-10); n != 10 || err != io.EOF || !bytes.Equal(buffer[:10], text[length-10:]) {
			t.Fatal(n, err)
		}
		if n, err := readable.ReadAt(buffer, length); n != 0 || err != io.EOF {
			t.Fatal(n, err)
		}
	}
	if n, err := region.WriteAt(make([]byte, 2), length-1); n != 0 || !errors.Is(err, StatusOutOfRange) {
		t.Fatal(n, err)
	}
}

func TestMessagesArriveInOrder(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p, ctx := dialled(t, options), patient(t)
		sizes := []int{0, 1, inlineBytes, inlineBytes + 1, textMax, textMax + 1, 300_000}
		const count = 700
		sent := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < count && err == nil; i++ {
				err = p.from.Send(ctx, bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)]))
			}
			sent <- err
		}()
		for i := range count {
			m := must[Message](t)(p.at.Receive(ctx))
			if !bytes.Equal(m.Bytes(), bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)])) {
				t.Fatal("message", i, "has", len(m.Bytes()), "bytes")
			}
			m.Release()
			m.Release()
		}
		// And the other way, out of a buffer.
		b := must[*Buffer](t)(p.server.Alloc(1000, BufferPrivate))
		copy(b.Bytes()[10:], "from a buffer")
		ok(t, p.at.SendBuffer(ctx, b, 10, 13))
		m := must[Message](t)(p.from.Receive(ctx))
		if string(m.Bytes()) != "from a buffer" {
			t.Fatal(string(m.Bytes()))
		}
		ok(t, <-sent)
	})
}

func TestCancelWaitsForTheEnd(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p := dialled(t, options)
		over, cancel := context.WithCancelCause(context.Background())
		why := errors.New("why")
		cancel(why)
		_, region := p.region(t, 1<<20, BufferExportable)
		local := must[*Buffer](t)(p.client.Alloc(1<<20, BufferPrivate))
		err := region.Get(over, local, 0, 0, 8)
		if !errors.Is(err, why) || !errors.Is(err, StatusCanceled) {
			t.Fatal(err)
		}
		// Contexts that end while operations run: each call ends, as it should have or as cancelled.
		var group sync.WaitGroup
		for i := range 64 {
			group.Add(1)
			go func() {
				defer group.Done()
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*10*time.Microsecond)
				defer cancel()
				err := region.Get(ctx, local, 0, 0, 1<<20)
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				batch := p.from.NewBatch(300)
				for range 300 {
					batch.Get(region, local, 0, 0, 4096)
				}
				if err := batch.Run(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			}()
		}
		group.Wait()
		if left := p.client.dialing.inflight.Load(); left != 0 {
			t.Fatal(left, "operations are left")
		}
		ctx, cancel2 := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel2()
		if _, err := p.from.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if _, err := p.listener.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		ok(t, region.Get(patient(t), local, 0, 0, 8))
	})
}

func TestEndsOfSessions(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p, ctx := dialled(t, options), patient(t)
		_, region := p.region(t, 4096, BufferExportable)
		local := must[*Buffer](t)(p.client.Alloc(4096, BufferPrivate))
		ok(t, p.at.Send(ctx, []byte("last words")))
		ok(t, p.at.Close())
		ok(t, p.at.Close())
		m := must[Message](t)(p.from.Receive(ctx))
		if string(m.Bytes()) != "last words" {
			t.Fatal(string(m.Bytes()))
		}
		m.Release()
		for range 2 {
			if _, err := p.from.Receive(ctx); err != io.EOF {
				t.Fatal(err)
			}
		}
		if err := region.Get(ctx, local, 0, 0, 8); !errors.Is(err, StatusConnectionLost) {
			t.Fatal(err)
		}
		if err := p.at.Send(ctx, nil); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		if _, err := p.at.Receive(ctx); !errors.Is(err, fs.ErrClosed) {
			t.Fatal(err)
		}
		ok(t, p.from.Close())
	})
}

func TestCloseEndsWhatWaits(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		before := descriptors(t)
		p := dialled(t, options)
		_, region := p.region(t, 1<<20, BufferExportable)
		local := must[*Buffer](t)(p.client.Alloc(1<<20, BufferPrivate))
		ends := make(chan error)
		go func() { _, err := p.from.Receive(context.Background()); ends <- err }()
		go func() {
			var err error
			for err == nil {
				err = region.Get(context.Background(), local, 0, 0, 1<<20)
			}
			ends <- err
		}()
		other := must[*Listener](t)(p.client.Listen("tcp://127.0.0.1:0"))
		go func() { _, err := other.Accept(context.Background()); ends <- err }()
		ok(t, p.client.Close())
		ok(t, p.client.Close())
		for range 3 {
			if err := <-ends; !errors.Is(err, ErrClosed) {
				t.Fatal(err)
			}
		}
		if _, err := p.client.Dial(patient(t), p.listener.Address()); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		if _, err := p.client.Alloc(8, BufferPrivate); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		if _, err := p.client.Stats(); !errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		ok(t, p.from.Close())
		local.Release()
		// The other side hears of it.
		if _, err := p.at.Receive(patient(t)); err != io.EOF {
			t.Fatal(err)
		}
		ok(t, p.server.Close())
		if after := descriptors(t); after > before {
			t.Fatal(after-before, "descriptors are left")
		}
	})
}

func TestDialErrors(t *testing.T) {
	e, ctx := open(t, Options{}), patient(t)
	if _, err := e.Dial(ctx, "nonsense"); !errors.Is(err, StatusInvalidArgument) {
		t.Fatal(err)
	}
	_, err := e.Dial(ctx, "tcp://127.0.0.1:1")
	if !errors.Is(err, StatusUnreachable) {
		t.Fatal(err)
	}
	var failed *Error
	if !errors.As(err, &failed) || failed.Op != "dial" || failed.Status != StatusUnreachable {
		t.Fatal(err)
	}
	if _, err := e.Dial(ctx, "unix://"+t.TempDir()+"/none"); !errors.Is(err, StatusUnreachable) && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	l := must[*Listener](t)(e.Listen("tcp://127.0.0.1:0"))
	if _, err := e.Listen(l.Address()); !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	ok(t, l.Close())
	ok(t, l.Close())
	if _, err := l.Accept(ctx); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if _, err := Open(Options{MaxSessions: -1}); !errors.Is(err, StatusInvalidArgument) {
		t.Fatal(err)
	}
	if _, err := Open(Options{Name: strings.Repeat("x", 1000)}); !errors.Is(err, StatusInvalidArgument) {
		t.Fatal(err)
	}
	if _, err := e.Alloc(0, BufferPrivate); !errors.Is(err, StatusInvalidArgument) {
		t.Fatal(err)
	}
	if _, err := e.Alloc(1<<40, BufferPrivate); !errors.Is(err, StatusOutOfMemory) {
		t.Fatal(err)
	}
}

func TestDialThatNobodyAnswersIsCancelled(t *testing.T) {
	// A listener of another kind: it takes the connection and says nothing.
	silent := must[*silence](t)(listenSilently())
	defer silent.close()
	for _, thread := range []bool{false, true} {
		e := open(t, Options{DialThread: thread, ConnectTimeout: patience})
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		_, err := e.Dial(ctx, "tcp://"+silent.address())
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, StatusTimedOut) {
			t.Fatal(err)
		}
	}
}

func TestKeysAndRights(t *testing.T) {
	p, ctx := dialled(t, Options{}), patient(t)
	b := must[*Buffer](t)(p.server.Alloc(4096, BufferExportable))
	key := must[Key](t)(b.Export(0, 4096, RightRead))
	region := must[*Region](t)(p.from.Import(ctx, key))
	local := must[*Buffer](t)(p.client.Alloc(4096, BufferPrivate))
	if info := region.Info(); info.Length != 4096 || info.Rights != RightRead || info.Way != WayMapped {
		t.Fatal(info)
	}
	if err := region.Put(ctx, local, 0, 0, 8); !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
	ok(t, region.Get(ctx, local, 0, 0, 8))
	ok(t, p.server.Revoke(key))
	if err := region.Get(ctx, local, 0, 0, 8); !errors.Is(err, StatusRevoked) {
		t.Fatal(err)
	}
	if err := p.server.Revoke(key); !errors.Is(err, StatusRevoked) {
		t.Fatal(err)
	}
	if text := key.String(); len(text) > 20 {
		t.Fatal("a key shows itself:", text)
	}
	region.Release()
	region.Release()
	if err := region.Get(ctx, local, 0, 0, 8); !errors.Is(err, StatusStaleHandle) {
		t.Fatal(err)
	}
	b.Release()
	b.Release()
	if b.Bytes() != nil {
		t.Fatal("a released buffer has bytes")
	}
}

func TestInfoAndStats(t *testing.T) {
	p, ctx := dialled(t, Options{}), patient(t)
	_, region := p.region(t, 4096, BufferExportable)
	local := must[*Buffer](t)(p.client.Alloc(4096, BufferPrivate))
	const gets = 200
	for range gets {
		ok(t, region.Get(ctx, local, 0, 0, 100))
	}
	info := must[Info](t)(p.client.Info())
	if info.Version == "" || info.UCX == "" || len(info.Transports) == 0 || info.Sessions == 0 || info.MemoryUsed < 4096 {
		t.Fatalf("%+v", info)
	}
	about := must[SessionInfo](t)(p.from.Info())
	if about.PeerName != "server" || !about.Local || about.Accepted || about.State != SessionOpen || about.Operations[0] < gets {
		t.Fatalf("%+v", about)
	}
	back := must[SessionInfo](t)(p.at.Info())
	if back.PeerName != "client" || !back.Accepted {
		t.Fatalf("%+v", back)
	}
	for _, stats := range []Stats{must[Stats](t)(p.client.Stats()), must[Stats](t)(p.from.Stats())} {
		if stats.Gets != gets || stats.GetBytes != 100*gets || stats.Get.Count() == 0 || stats.Get.Quantile(0.5) == 0 {
			t.Fatalf("%+v", stats)
		}
	}
	if text := must[string](t)(p.client.Metrics()); !strings.Contains(text, "\n# TYPE ") {
		t.Fatal(text)
	}
}
