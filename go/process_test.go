//go:build cgo && linux

package rdmaengine

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain is also the other process of tests that need one: it serves until it is killed.
func TestMain(m *testing.M) {
	if transports := os.Getenv("RDE_TEST_SERVE"); transports != "" {
		serve(transports)
	}
	if address := os.Getenv("RDE_TEST_READ"); address != "" {
		readUntilKilled(address)
	}
	os.Exit(m.Run())
}

// serve exports a page of sevens, says where, and echoes messages.
func serve(transports string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var allowed Transport
	if transports == "tcp" {
		allowed = TransportTCP
	}
	e, err := Open(Options{Name: "other process", Transports: allowed})
	fail(err)
	l, err := e.Listen("tcp://127.0.0.1:0")
	fail(err)
	b, err := e.Alloc(4096, BufferExportable)
	fail(err)
	copy(b.Bytes(), bytes.Repeat([]byte{7}, 4096))
	key, err := b.Export(0, 4096, RightRead|RightAtomic|RightWrite)
	fail(err)
	fmt.Println(l.Address(), hex.EncodeToString(key[:]))
	for {
		s, err := l.Accept(context.Background())
		fail(err)
		go func() {
			for {
				m, err := s.Receive(context.Background())
				if err != nil {
					return
				}
				s.Send(context.Background(), m.Bytes())
				m.Release()
			}
		}()
	}
}

// another starts the other process; it is killed at the end of the test.
func another(t testing.TB, transports string) (address string, key Key, kill func()) {
	t.Helper()
	command := exec.Command(must[string](t)(os.Executable()), "-test.run=none")
	command.Env = append(os.Environ(), "RDE_TEST_SERVE="+transports)
	command.Stderr = os.Stderr
	out, err := command.StdoutPipe()
	ok(t, err)
	ok(t, command.Start())
	kill = sync.OnceFunc(func() { command.Process.Kill(); command.Wait() })
	t.Cleanup(kill)
	var text string
	if _, err := fmt.Fscanln(out, &address, &text); err != nil {
		t.Fatal(err)
	}
	hex.Decode(key[:], []byte(text))
	return address, key, kill
}

func TestAnotherProcessIsReadAndKilled(t *testing.T) {
	for _, transports := range []string{"all", "tcp"} {
		for _, thread := range []bool{false, true} {
			t.Run(fmt.Sprint(transports, " thread ", thread), func(t *testing.T) {
				address, key, kill := another(t, transports)
				e, ctx := open(t, Options{DialThread: thread}), patient(t)
				s := must[*Session](t)(e.Dial(ctx, address))
				r := must[*Region](t)(s.Import(ctx, key))
				page := make([]byte, 4096)
				must[int](t)(r.ReadAt(page, 0))
				if !bytes.Equal(page, bytes.Repeat([]byte{7}, 4096)) {
					t.Fatal("a get brought other bytes")
				}
				const rounds = 300
				for i := range uint64(rounds) {
					ok(t, s.Send(ctx, binary.LittleEndian.AppendUint64(nil, i)))
					m := must[Message](t)(s.Receive(ctx))
					if binary.LittleEndian.Uint64(m.Bytes()) != i {
						t.Fatal(i, m.Bytes())
					}
				}
				ends := make(chan error, 2)
				go func() { _, err := s.Receive(ctx); ends <- err }()
				go func() {
					var err error
					for err == nil {
						_, err = r.FetchAdd(ctx, 0, 1)
					}
					ends <- err
				}()
				kill()
				for range 2 {
					if err := <-ends; !errors.Is(err, StatusConnectionLost) {
						t.Error(err)
					}
				}
				ok(t, s.Close())
			})
		}
	}
}

func TestTenThousandGoroutines(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p, ctx := dialled(t, options), patient(t)
		const goroutines = 10_000
		remote, region := p.region(t, 8*goroutines, BufferExportable)
		local := must[*Buffer](t)(p.client.Alloc(8*goroutines, BufferPrivate))
		var group sync.WaitGroup
		for i := range int64(goroutines) {
			group.Add(1)
			go func() {
				defer group.Done()
				binary.LittleEndian.PutUint64(local.Bytes()[8*i:], uint64(i))
				if err := region.Put(ctx, local, 8*i, 8*i, 8); err != nil {
					t.Error(err)
				}
			}()
		}
		group.Wait()
		ok(t, p.from.Flush(ctx))
		for i := range goroutines {
			if binary.LittleEndian.Uint64(remote.Bytes()[8*i:]) != uint64(i) {
				t.Fatal("goroutine", i, "wrote elsewhere")
			}
		}
		if stats := must[Stats](t)(p.client.Stats()); stats.Puts != goroutines || stats.Submitted != stats.Completed {
			t.Fatalf("%+v", stats.Counters)
		}
	})
}

// A fault in Go code is still a Go panic: neither UCX nor the engine has taken the signal.
func TestFaultsAreStillPanics(t *testing.T) {
	p := dialled(t, Options{})
	_, region := p.region(t, 4096, BufferExportable)
	must[int](t)(region.ReadAt(make([]byte, 8), 0))
	var nothing *Engine
	for range 100 {
		func() {
			defer func() {
				fault, ok := recover().(runtime.Error)
				if !ok || !strings.Contains(fault.Error(), "nil pointer") {
					t.Error(fault)
				}
			}()
			nothing.options.Name = "fault"
		}()
	}
}

func TestNothingLeaks(t *testing.T) {
	round := func() {
		p := &pair{server: must[*Engine](t)(Open(Options{})), client: must[*Engine](t)(Open(Options{}))}
		p.listener = must[*Listener](t)(p.server.Listen("tcp://127.0.0.1:0"))
		p.from = must[*Session](t)(p.client.Dial(patient(t), p.listener.Address()))
		p.at = must[*Session](t)(p.listener.Accept(patient(t)))
		_, region := p.region(t, 4096, BufferExportable)
		must[int](t)(region.ReadAt(make([]byte, 4096), 0))
		ok(t, p.at.Send(patient(t), make([]byte, 1000)))
		ok(t, p.client.Close())
		ok(t, p.server.Close())
	}
	round()
	goroutines, before := runtime.NumGoroutine(), descriptors(t)
	for range 20 {
		round()
	}
	for start := time.Now(); runtime.NumGoroutine() > goroutines+20 && time.Since(start) < patience; {
		time.Sleep(time.Millisecond)
	}
	// Twenty contexts of `patient` may still be there, each a timer and no goroutine.
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Fatal(now-goroutines, "goroutines are left")
	}
	if now := descriptors(t); now > before {
		t.Fatal(now-before, "descriptors are left")
	}
}

func TestMemoryComesBack(t *testing.T) {
	p, ctx := dialled(t, Options{}), patient(t)
	used := func() int64 {
		return must[Info](t)(p.server.Info()).MemoryUsed + must[Info](t)(p.client.Info()).MemoryUsed
	}
	round := func() {
		for range 100 {
			ok(t, p.from.Send(ctx, make([]byte, 10_000)))
			m := must[Message](t)(p.at.Receive(ctx))
			m.Release()
		}
		b := must[*Buffer](t)(p.client.Alloc(100_000, BufferExportable))
		b.Release()
	}
	round()
	before := used()
	for range 20 {
		round()
	}
	if now := used(); now > before {
		t.Fatal(now-before, "bytes are left")
	}
}

func TestTooManyMessagesEndTheSession(t *testing.T) {
	p, ctx := dialled(t, Options{}), patient(t)
	var err error
	for sent := 0; err == nil; sent++ {
		if sent > 4*messagesMax {
			t.Fatal("nobody stopped the sender")
		}
		err = p.from.Send(ctx, []byte("x"))
	}
	if !errors.Is(err, StatusConnectionLost) && !errors.Is(err, StatusWrongState) {
		t.Fatal(err)
	}
	for range messagesMax {
		must[Message](t)(p.at.Receive(ctx))
	}
	if _, err := p.at.Receive(ctx); !errors.Is(err, StatusLimitReached) {
		t.Fatal(err)
	}
}
