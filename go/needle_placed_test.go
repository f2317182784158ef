//go:build cgo && linux

package rdmaengine

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// placedLengths lie on both sides of what is read in one piece, of every slot, and of a message.
var placedLengths = []int{0, 1, 4096, 65_536, 65_537, 128 << 10, 128<<10 + 1, 1 << 20, 2 << 20, 5 << 20, 17 << 20}

type placedPair struct {
	client  *Engine
	session *Session
	x       *Exporter
	writer  *volumeWriter
}

func placed(t *testing.T, options Options) placedPair {
	dir := t.TempDir()
	w := newVolume(t, dir, "4")
	for i, length := range placedLengths {
		w.put(t, uint64(i+1), uint32(i+1), 0, longData(i, length))
	}
	server, client := open(t, Options{Transports: options.Transports}), open(t, options)
	x := must[*Exporter](t)(server.Export("tcp://127.0.0.1:0", dir, ExportOptions{Threads: 2}))
	return placedPair{client, must[*Session](t)(client.Dial(patient(t), x.Address())), x, w}
}

// slotsInUse counts what a session's results still have of what it lent.
func slotsInUse(s *Session) (used int) {
	s.lent.mu.Lock()
	defer s.lent.mu.Unlock()
	for _, free := range s.lent.free {
		seen := make(map[*block]bool)
		for _, t := range free {
			if !seen[t.block] {
				seen[t.block] = true
				used += t.block.used
			}
		}
	}
	return used
}

func TestPlacedNeedlesOfEveryLength(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p, ctx := placed(t, options), patient(t)
		for _, kind := range []BufferKind{BufferExportable, BufferPrivate} {
			b := must[*Buffer](t)(p.client.Alloc(18<<20, kind))
			for i, length := range placedLengths {
				for range 2 {
					clear(b.Bytes())
					want := longData(i, length)
					n := must[Needle](t)(p.session.ReadNeedle(ctx, name(4, i+1), NeedleOptions{Into: BufferRange{b, 8, 17 << 20}}))
					if n.Length != length || !bytes.Equal(b.Bytes()[8:8+length], want) || len(n.Bytes()) != 0 {
						t.Fatalf("%d bytes into a buffer: %d", length, n.Length)
					}
					if !bytes.Equal(b.Bytes()[:8], make([]byte, 8)) || len(bytes.Trim(b.Bytes()[8+length:8+length+8], "\x00")) > 0 {
						t.Fatalf("%d bytes: around them, too", length)
					}
					n.Release()
					n = must[Needle](t)(p.session.ReadNeedle(ctx, name(4, i+1), NeedleOptions{}))
					if n.Length != length || !bytes.Equal(n.Bytes(), want) {
						t.Fatalf("%d bytes: %d", length, n.Length)
					}
					n.Release()
				}
				if length < 100 {
					continue
				}
				part := NeedleOptions{Part: true, Offset: 10, Length: int64(length)}
				n := must[Needle](t)(p.session.ReadNeedle(ctx, name(4, i+1), part))
				if !bytes.Equal(n.Bytes(), longData(i, length)[10:]) || n.DataLength != int64(length) {
					t.Fatalf("a part of %d bytes: %d", length, n.Length)
				}
				n.Release()
				part.Into = BufferRange{b, 0, 50}
				if _, err := p.session.ReadNeedle(ctx, name(4, i+1), part); !errors.Is(err, StatusTruncated) {
					t.Fatal("too short a buffer", err)
				}
			}
			b.Release()
		}
		info := must[SessionInfo](t)(p.session.Info())
		if lends := p.session.lends(); lends != info.Local {
			t.Fatal("lends:", lends)
		}
		ok(t, p.session.Close())
		ok(t, p.x.Close())
	})
}

// Results that are kept while others come and go keep their bytes.
func TestPlacedNeedlesThatAreKept(t *testing.T) {
	p, ctx := placed(t, Options{}), patient(t)
	var group sync.WaitGroup
	for g := range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			kept := make([]Needle, 0, 16)
			which := make([]int, 0, 16)
			for round := range 60 {
				i := (g + round) % 9
				n, err := p.session.ReadNeedle(ctx, name(4, i+1), NeedleOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				kept, which = append(kept, n), append(which, i)
				if len(kept) == cap(kept) {
					for at := range kept {
						if !bytes.Equal(kept[at].Bytes(), longData(which[at], placedLengths[which[at]])) {
							t.Error("another needle's bytes in place of", which[at])
						}
						kept[at].Release()
					}
					kept, which = kept[:0], which[:0]
				}
			}
			for at := range kept {
				kept[at].Release()
			}
		}()
	}
	group.Wait()
	if s := &p.session.lent; s.bytes > lentMost {
		t.Fatal("lent", s.bytes)
	}
	ok(t, p.session.Close())
	ok(t, p.x.Close())
}

func TestPlacedBatches(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		p, ctx := placed(t, options), patient(t)
		reads := make([]NeedleRead, 0, 64)
		for i := range 64 {
			reads = append(reads, NeedleRead{FileID: name(4, 1+i%len(placedLengths))})
		}
		reads[7].FileID = "4,0300000004" // a wrong cookie
		for range 3 {
			results := p.session.ReadNeedles(ctx, reads)
			for i := range results {
				if i == 7 {
					if !errors.Is(results[i].Err, StatusCookieMismatch) {
						t.Fatal(results[i].Err)
					}
					continue
				}
				at := i % len(placedLengths)
				if results[i].Err != nil || !bytes.Equal(results[i].Bytes(), longData(at, placedLengths[at])) {
					t.Fatalf("read %d: %v, %d bytes", i, results[i].Err, results[i].Length)
				}
				results[i].Release()
			}
		}
		ok(t, p.session.Close())
		ok(t, p.x.Close())
	})
}

// A slot whose answer did not come is never given out again, and neither is its block.
func TestPlacedReadsThatAreGivenUp(t *testing.T) {
	p := placed(t, Options{})
	ok(t, func() error {
		n, err := p.session.ReadNeedle(patient(t), name(4, 3), NeedleOptions{})
		n.Release()
		return err
	}())
	lost := 0
	for round := range 200 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(round%40)*time.Microsecond)
		n, err := p.session.ReadNeedle(ctx, name(4, 8), NeedleOptions{})
		cancel()
		if err == nil && !bytes.Equal(n.Bytes(), longData(7, placedLengths[7])) {
			t.Fatal("wrong bytes")
		}
		if err != nil {
			lost++
		}
		n.Release()
		n = must[Needle](t)(p.session.ReadNeedle(patient(t), name(4, 3), NeedleOptions{}))
		if !bytes.Equal(n.Bytes(), longData(2, placedLengths[2])) {
			t.Fatal("wrong bytes")
		}
		n.Release()
	}
	// Into a buffer of the caller's an answer is waited for, and the buffer stays good.
	b := must[*Buffer](t)(p.client.Alloc(2<<20, BufferExportable))
	for round := range 50 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+round%40)*time.Microsecond)
		n, err := p.session.ReadNeedle(ctx, name(4, 8), NeedleOptions{Into: BufferRange{b, 0, 2 << 20}})
		cancel()
		if err == nil && !bytes.Equal(b.Bytes()[:n.Length], longData(7, placedLengths[7])) {
			t.Fatal("wrong bytes")
		}
	}
	if b.lost.Load() {
		t.Fatal("every answer came")
	}
	// Released under a read: the read ends, and nothing breaks.
	done := make(chan error)
	for range 20 {
		c := must[*Buffer](t)(p.client.Alloc(2<<20, BufferExportable))
		go func() {
			_, err := p.session.ReadNeedle(patient(t), name(4, 8), NeedleOptions{Into: BufferRange{c, 0, 2 << 20}})
			done <- err
		}()
		bufferRelease(c.id)
		if err := <-done; err != nil && !errors.Is(err, StatusStaleHandle) && !errors.Is(err, StatusRevoked) && !errors.Is(err, StatusWrongState) {
			t.Fatal(err)
		}
	}
	b.Release()
	ok(t, p.session.Close())
	ok(t, p.x.Close())
}

// With the exporter gone in the middle, what was read is right or an error, and the buffer takes no more needles.
func TestPlacedReadsOfAnExporterThatGoes(t *testing.T) {
	p := placed(t, Options{})
	var group sync.WaitGroup
	for range 4 {
		group.Add(1)
		b := must[*Buffer](t)(p.client.Alloc(2<<20, BufferExportable))
		go func() {
			defer group.Done()
			for {
				n, err := p.session.ReadNeedle(patient(t), name(4, 8), NeedleOptions{Into: BufferRange{b, 0, 2 << 20}})
				if err != nil {
					return
				}
				if !bytes.Equal(b.Bytes()[:n.Length], longData(7, placedLengths[7])) {
					t.Error("wrong bytes")
					return
				}
			}
		}()
	}
	time.Sleep(20 * time.Millisecond) // some reads; how many does not matter
	ok(t, p.x.Close())
	group.Wait()
}
