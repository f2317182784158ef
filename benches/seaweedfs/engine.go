package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"rdma-engine/rdmaengine"
)

// engine is a session to the server's exporter.
type engine struct {
	engine  *rdmaengine.Engine
	session *rdmaengine.Session
	buffer  *rdmaengine.Buffer
}

var ctx = context.Background()

func openEngine(transports rdmaengine.Transport) *engine {
	opened, err := rdmaengine.Open(rdmaengine.Options{Transports: transports})
	check(err)
	session, err := opened.Dial(ctx, engineAt)
	check(err)
	buffer, err := opened.Alloc(16<<20, rdmaengine.BufferExportable)
	check(err)
	return &engine{opened, session, buffer}
}

func (e *engine) read(fileID string, size int, at int64) {
	needle, err := e.session.ReadNeedle(ctx, fileID, rdmaengine.NeedleOptions{
		Into: rdmaengine.BufferRange{Buffer: e.buffer, Offset: at, Length: int64(size)}})
	check(err)
	if needle.Length != size {
		check(fmt.Errorf("%d bytes", needle.Length))
	}
	needle.Release()
}

func (e *engine) one(f *files) sample {
	return measure(20, f.size, func(times *[]float64) {
		for range 20 {
			began := time.Now()
			e.read(f.ids[f.turn()], f.size, 0)
			if times != nil {
				*times = append(*times, float64(time.Since(began).Nanoseconds())/1e3)
			}
		}
	})
}

// batch reads some by one call.
func (e *engine) batch(f *files, some int) sample {
	reads := make([]rdmaengine.NeedleRead, some)
	return measure(some, f.size, func(*[]float64) {
		for i := range reads {
			reads[i].FileID = f.ids[f.turn()]
		}
		for _, result := range e.session.ReadNeedles(ctx, reads) {
			check(result.Err)
			if result.Length != f.size {
				check(fmt.Errorf("%d bytes", result.Length))
			}
			result.Release()
		}
	})
}

// parallel has some goroutines read, a needle each at a time.
func (e *engine) parallel(f *files, goroutines int) sample {
	return f.inParallel(goroutines, func(goroutine, file int) { e.read(f.ids[file], f.size, int64(goroutine*f.size)) })
}

// alone is `one` without a look at the clock for each, which C does not take either.
func (e *engine) alone(f *files) sample {
	return measure(20, f.size, func(*[]float64) {
		for range 20 {
			e.read(f.ids[f.turn()], f.size, 0)
		}
	})
}

// overC is what Go adds to the same reads of the same files from C, in turn.
func overC(program string, e *engine, f *files) []row {
	list := strings.Join(f.ids, "\n")
	var one, many, c1, c64 []float64
	for range rounds {
		command := exec.Command(program, engineAt)
		command.Stdin, command.Stderr = strings.NewReader(list), os.Stderr
		out, err := command.Output()
		check(err)
		var a, b float64
		_, err = fmt.Sscan(string(out), &a, &b)
		check(err)
		c1, c64 = append(c1, a), append(c64, b)
		one = append(one, 1e9/e.alone(f).rate)
		many = append(many, 1e9/e.batch(f, 64).rate)
	}
	return []row{difference("seaweedfs Go over C, 4 KiB, one in flight", one, c1, 1000),
		difference("seaweedfs Go over C, 4 KiB, batch of 64", many, c64, 150)}
}

// openMillions is how long the first read of a volume of 10 million needles takes, and what a needle costs the exporter.
func openMillions() []row {
	const needles = 10_000_000
	var seconds, bytes []float64
	for range 3 {
		folder, err := os.MkdirTemp("", "rdweed-bench-")
		check(err)
		writeMillions(folder, needles)
		opened, err := rdmaengine.Open(rdmaengine.Options{})
		check(err)
		exporter, err := opened.Export("tcp://127.0.0.1:0", folder, rdmaengine.ExportOptions{})
		check(err)
		session, err := opened.Dial(ctx, exporter.Address())
		check(err)
		before, start := resident(), time.Now()
		// It is not there; to say so, the index has to be.
		_, err = session.ReadNeedle(ctx, "1,ffffffffff00000001", rdmaengine.NeedleOptions{})
		if status, ok := err.(*rdmaengine.Error); !ok || status.Status != rdmaengine.StatusNotFound {
			check(fmt.Errorf("a needle that is not there: %v", err))
		}
		seconds = append(seconds, time.Since(start).Seconds())
		bytes = append(bytes, (resident()-before)/needles)
		check(opened.Close())
		os.RemoveAll(folder)
	}
	return []row{absolute("seaweedfs exporter: 10 million needles opened", "s", seconds, 3),
		absolute("seaweedfs exporter: memory a needle", "B", bytes, 16)}
}

// writeMillions writes an index, and data that is as long as it says, with holes instead of records.
func writeMillions(folder string, needles int) {
	index := make([]byte, 0, needles*16)
	at := uint64(1)
	for id := range uint64(needles) {
		const size = 1005 // a record of 1,040 bytes
		index = binary.BigEndian.AppendUint64(index, id*2+1)
		index = binary.BigEndian.AppendUint32(index, uint32(at))
		index = binary.BigEndian.AppendUint32(index, size)
		at += 1040 / 8
	}
	check(os.WriteFile(filepath.Join(folder, "1.idx"), index, 0o600))
	data, err := os.Create(filepath.Join(folder, "1.dat"))
	check(err)
	_, err = data.Write([]byte{3, 0, 0, 0, 0, 0, 0, 0})
	check(err)
	check(data.Truncate(int64(at * 8)))
	check(data.Close())
}

// resident is this process's memory in bytes.
func resident() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	check(err)
	var size, pages int
	_, err = fmt.Sscan(string(text), &size, &pages)
	check(err)
	return float64(pages * os.Getpagesize())
}
