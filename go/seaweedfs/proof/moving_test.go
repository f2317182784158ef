package proof

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"rdma-engine/rdmaengine"
	"rdma-engine/seaweedfs"
)

// changing is a file that is overwritten again and again. Each version tells its number and its length.
type changing struct {
	id                string
	seed              uint64
	started, finished atomic.Uint64 // the newest version whose upload has begun, and that was acknowledged
}

func (f *changing) version(v uint64) []byte {
	data := content(f.seed+v, 16+int((f.seed^v*2654435761)%20_000), false)
	binary.LittleEndian.PutUint64(data, v)
	return data
}

// check says what is wrong with what was read, "" if nothing. `before` was acknowledged when the read began.
func (f *changing) check(data []byte, before uint64) string {
	if len(data) < 16 {
		return "too short"
	}
	v := binary.LittleEndian.Uint64(data)
	switch after := f.started.Load(); {
	case v < before || v > after:
		return "a version of another time"
	case string(data) != string(f.version(v)):
		return "bytes of no version"
	}
	return ""
}

// whileWriting reads files that a writer overwrites, while volumes are vacuumed, until the writer has done its work.
func (c *cluster) whileWriting(seed uint64) {
	files := make([]*changing, 12)
	for i := range files {
		id, err := c.assign("")
		if err != nil {
			c.t.Fatal(err)
		}
		files[i] = &changing{id: id, seed: seed + uint64(i)<<32}
		c.overwrite(files[i])
	}
	var stop atomic.Bool
	var group sync.WaitGroup
	var reads, again atomic.Int64
	for _, r := range roads {
		engine, session := c.dial(r)
		defer engine.Close()
		for start := range 2 {
			group.Add(1)
			go func() {
				defer group.Done()
				for at := start; !stop.Load(); at += 5 {
					f := files[at%len(files)]
					before := f.finished.Load()
					needle, err := session.ReadNeedle(context.Background(), f.id, rdmaengine.NeedleOptions{})
					switch {
					case err == nil:
						reads.Add(1)
						if wrong := f.check(needle.Bytes(), before); wrong != "" {
							c.t.Errorf("%s over %s: %s", f.id, r.name, wrong)
						}
						needle.Release()
					case errors.Is(err, rdmaengine.StatusStale) || errors.Is(err, rdmaengine.StatusBusy):
						again.Add(1) // "try again" is an answer; wrong bytes are not
					default:
						c.t.Errorf("%s over %s: %v", f.id, r.name, err)
					}
				}
			}()
		}
	}
	for round := range 400 {
		c.overwrite(files[round%len(files)])
		if round%200 == 199 {
			c.vacuum()
		}
	}
	stop.Store(true)
	group.Wait()
	c.t.Logf("%d reads beside 400 writes and 2 vacuums, %d to be tried again", reads.Load(), again.Load())
	if vacuumed := c.vacuumed(); reads.Load() < 100 || vacuumed == 0 {
		c.t.Errorf("%d reads, %d volumes were vacuumed: too few to tell anything", reads.Load(), vacuumed)
	}
}

func (c *cluster) overwrite(f *changing) {
	v := f.finished.Load() + 1
	f.started.Store(v)
	if err := c.upload(f.id, "", "noise.bin", f.version(v)); err != nil {
		c.t.Fatal(err)
	}
	f.finished.Store(v)
}

// vacuumed says how many volumes were vacuumed at least once: the superblock counts.
func (c *cluster) vacuumed() (count int) {
	for _, dir := range c.dirs() {
		paths, _ := filepath.Glob(filepath.Join(dir, "*.dat"))
		for _, path := range paths {
			superblock, err := os.ReadFile(path)
			if err == nil && len(superblock) >= 8 && binary.BigEndian.Uint16(superblock[4:]) > 0 {
				count++
			}
		}
	}
	return count
}

// whileRestarting reads with a reader while the volume server is killed and started again. Reads may fail while nobody is
// there; none may be wrong, and the engine must take them again.
func (c *cluster) whileRestarting(files []*file) {
	reader := c.reader(seaweedfs.Options{})
	defer reader.Close()
	fetch := reader.FetchChunk(nil)
	var stop atomic.Bool
	var group sync.WaitGroup
	var right, failed atomic.Int64
	for start := range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			for at := start; !stop.Load(); at++ {
				f := files[(at*7)%len(files)]
				if f.deleted || f.text || f.ttl != "" || f.length == 0 || f.length > 1<<20 {
					continue
				}
				buffer := make([]byte, f.length)
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				n, err := fetch(ctx, buffer, []string{c.url(f.id)}, nil, false, true, 0, f.id, nil)
				cancel()
				switch {
				case err != nil:
					failed.Add(1)
				case n != f.length || string(buffer) != string(f.bytes()):
					c.t.Errorf("%s: wrong bytes while the server restarts", f.id)
				default:
					right.Add(1)
				}
			}
		}()
	}
	enough := func(what string, reads uint64) {
		goal := reader.Stats().Reads + reads
		c.wait(what, func() bool { return reader.Stats().Reads >= goal })
	}
	enough("reads through the engine", 200)
	c.kill()
	c.run()
	enough("reads through the engine after the restart", 200)
	stop.Store(true)
	group.Wait()
	c.t.Logf("%d right, %d failed while nobody was there; %+v", right.Load(), failed.Load(), reader.Stats())
}
