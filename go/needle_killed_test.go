//go:build cgo && linux

package rdmaengine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Those that the client reads which is killed: short ones, and some that take the exporter long to put.
var killedLengths = []int{4096, 65_537, 1 << 20, 5 << 20}

// readUntilKilled reads needles into memory of its own and into what the session lends, without an end.
func readUntilKilled(address string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	e, err := Open(Options{Name: "to be killed"})
	fail(err)
	s, err := e.Dial(ctx, address)
	fail(err)
	for i := range killedLengths {
		go func() {
			b, err := e.Alloc(5<<20, BufferExportable)
			fail(err)
			into, reads := NeedleOptions{Into: BufferRange{b, 0, 5 << 20}}, make([]NeedleRead, 64)
			for at := range reads {
				reads[at].FileID = name(4, 1)
			}
			for round := 0; ; round++ {
				_, err := s.ReadNeedle(ctx, name(4, i+1), into)
				fail(err)
				n, err := s.ReadNeedle(ctx, name(4, i+1), NeedleOptions{})
				fail(err)
				n.Release()
				for _, result := range s.ReadNeedles(ctx, reads) {
					fail(result.Err)
					result.Release()
				}
				if round == 0 {
					fmt.Println("reads")
				}
			}
		}()
	}
	select {}
}

// startReader starts such a process and waits until all of its goroutines read.
func startReader(t *testing.T, address string) *exec.Cmd {
	command := exec.Command(must[string](t)(os.Executable()), "-test.run=none")
	command.Env = append(os.Environ(), "RDE_TEST_READ="+address)
	command.Stderr = os.Stderr
	out := must[io.ReadCloser](t)(command.StdoutPipe())
	ok(t, command.Start())
	t.Cleanup(func() { command.Process.Kill(); command.Wait() })
	for range killedLengths {
		var line string
		if _, err := fmt.Fscanln(out, &line); err != nil || line != "reads" {
			t.Fatal("the reader: ", line, err)
		}
	}
	return command
}

// mappedMemory counts what this process has mapped of others' and its own shared memory.
func mappedMemory(t *testing.T) int {
	return strings.Count(string(must[[]byte](t)(os.ReadFile("/proc/self/maps"))), "memfd:")
}

// A process that is killed while the exporter writes to memory that it lent costs the exporter and others nothing.
func TestReadersThatAreKilledInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	w := newVolume(t, dir, "4")
	want := make([][]byte, len(killedLengths))
	for i, length := range killedLengths {
		want[i] = longData(i, length)
		w.put(t, uint64(i+1), uint32(i+1), 0, want[i])
	}
	server, other := open(t, Options{}), open(t, Options{})
	x := must[*Exporter](t)(server.Export("tcp://127.0.0.1:0", dir, ExportOptions{Threads: 2}))
	s := must[*Session](t)(other.Dial(patient(t), x.Address()))
	check := func() {
		for i := range want {
			n := must[Needle](t)(s.ReadNeedle(patient(t), name(4, i+1), NeedleOptions{}))
			if !bytes.Equal(n.Bytes(), want[i]) {
				t.Fatal("another reader got other bytes of needle", i)
			}
			n.Release()
		}
	}
	for range 70 {
		check() // slots of every class are lent, and stay
	}
	before, mapped, open := must[Info](t)(server.Info()), mappedMemory(t), descriptors(t)
	for range 5 {
		reader := startReader(t, x.Address())
		check()
		ok(t, reader.Process.Kill())
		check()
		reader.Wait()
		check()
	}
	left := func() string {
		now := must[Info](t)(server.Info())
		return fmt.Sprintln(now.Sessions, now.MemoryUsed, now.MemoryRetired, mappedMemory(t), descriptors(t))
	}
	none := fmt.Sprintln(before.Sessions, before.MemoryUsed, before.MemoryRetired, mapped, open)
	for until := time.Now().Add(patience); left() != none; {
		if time.Now().After(until) {
			t.Fatalf("sessions, memory used and retired, mappings, descriptors: %s, before: %s", left(), none)
		}
		check()
	}
	ok(t, s.Close())
	ok(t, x.Close())
}
