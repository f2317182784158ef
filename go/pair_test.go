//go:build cgo && linux

package rdmaengine

import (
	"context"
	"os"
	"testing"
	"time"
)

// pair is two engines with a session between them.
type pair struct {
	server, client *Engine
	listener       *Listener
	at, from       *Session // at the server, at the client
}

// patience bounds every test's waits: what should happen does so in milliseconds.
const patience = 60 * time.Second

func patient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, options Options) *Engine {
	t.Helper()
	e := must[*Engine](t)(Open(options))
	t.Cleanup(func() { ok(t, e.Close()) })
	return e
}

func dialled(t testing.TB, options Options) *pair {
	t.Helper()
	p := &pair{server: open(t, Options{Name: "server", Ways: options.Ways, Transports: options.Transports})}
	options.Name = "client"
	p.client = open(t, options)
	p.listener = must[*Listener](t)(p.server.Listen("tcp://127.0.0.1:0"))
	p.from = must[*Session](t)(p.client.Dial(patient(t), p.listener.Address()))
	p.at = must[*Session](t)(p.listener.Accept(patient(t)))
	return p
}

// region exports a new buffer of the server's and imports it at the client.
func (p *pair) region(t testing.TB, length int, kind BufferKind) (*Buffer, *Region) {
	t.Helper()
	b := must[*Buffer](t)(p.server.Alloc(length, kind))
	key := must[Key](t)(b.Export(0, int64(length), RightRead|RightWrite|RightAtomic))
	return b, must[*Region](t)(p.from.Import(patient(t), key))
}

// everyWay runs a test over shared memory and over messages, with goroutines or a thread making the client's progress.
func everyWay(t *testing.T, test func(t *testing.T, options Options)) {
	for _, way := range []struct {
		name    string
		options Options
	}{
		{"mapped", Options{}},
		{"mapped/thread", Options{DialThread: true}},
		{"tcp", Options{Transports: TransportTCP}},
		{"tcp/thread", Options{Transports: TransportTCP, DialThread: true}},
		{"parked", Options{Spin: -1}},
	} {
		t.Run(way.name, func(t *testing.T) { test(t, way.options) })
	}
}

func descriptors(t testing.TB) int { return len(must[[]os.DirEntry](t)(os.ReadDir("/proc/self/fd"))) }
