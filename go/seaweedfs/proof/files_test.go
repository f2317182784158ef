package proof

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// filesCount of the corpus; RDE_FILES has fewer or more.
const filesCount = 2000

// file is one that was uploaded.
type file struct {
	id            string
	seed          uint64 // of its bytes
	length        int
	text, deleted bool
	ttl           string
}

// seedOf is the test's seed, printed so that a run can be repeated.
func seedOf(t testing.TB) uint64 {
	seed := uint64(os.Getpid())*0x9e3779b97f4a7c15 + 7
	if text := os.Getenv("RDE_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Printf("RDE_TEST_SEED=%d\n", seed)
	return seed
}

// content is noise, which nobody compresses, or text, which a server does if the name says that it is text.
func content(seed uint64, length int, text bool) []byte {
	random := rand.New(rand.NewPCG(seed, 1))
	data := make([]byte, length+8)
	for at := 0; at < length; at += 8 {
		word := random.Uint64()
		for i := range 8 {
			if text {
				data[at+i] = 'a' + byte(word%3)
			} else {
				data[at+i] = byte(word >> (8 * i))
			}
		}
	}
	return data[:length]
}

func (f *file) bytes() []byte { return content(f.seed, f.length, f.text) }

// lengths around the boundaries of the format and of the server's buffers.
var lengths = []int{0, 1, 7, 8, 9, 100, 255, 256, 4095, 4096, 4097, 65_535, 65_537, 1 << 20, 1<<20 + 1}

// huge are the few long ones, the longest first.
var huge = []int{64 << 20, 33<<20 + 5, 16 << 20, 16<<20 - 1, 16<<20 + 1, 9 << 20, 5<<20 + 3, 4 << 20, 3<<20 + 1, 2 << 20}

func lengthOf(at int, random *rand.Rand) int {
	switch {
	case at < len(huge):
		return huge[at]
	case at%5 == 0:
		return lengths[at/5%len(lengths)] * btoi(at/5%len(lengths) < 13 || at%50 == 0)
	case at%40 == 1:
		return random.IntN(1 << 20)
	}
	return random.IntN(16 << 10)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// fill uploads the corpus, overwrites and deletes parts of it.
func fill(c *cluster, seed uint64, count int) []*file {
	random := rand.New(rand.NewPCG(seed, 0))
	files := make([]*file, count)
	for at := range files {
		files[at] = &file{seed: random.Uint64(), length: lengthOf(at, random), text: at%6 == 2, deleted: at%9 == 4}
		switch {
		case at%31 == 3:
			files[at].ttl = "1d"
		case at%97 == 50:
			files[at].ttl = "1m"
		}
	}
	parallel(len(files), 4, func(at int) {
		if err := store(c, files[at], at%8 == 5); err != nil {
			c.t.Error(err)
		}
	})
	if c.t.Failed() {
		c.t.FailNow()
	}
	return files
}

func store(c *cluster, f *file, twice bool) (err error) {
	query, name := "", "noise.bin"
	if f.ttl != "" {
		query = "?ttl=" + f.ttl
	}
	if f.text {
		name = "words.txt"
	}
	// While volumes are made there may be none to write to.
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if f.id, err = c.assign(query); err == nil {
			break
		}
		if time.Now().After(end) {
			return err
		}
	}
	if twice {
		if err := c.upload(f.id, query, name, content(f.seed+1, f.length/2+3, f.text)); err != nil {
			return err
		}
	}
	if err := c.upload(f.id, query, name, f.bytes()); err != nil {
		return err
	}
	if f.deleted {
		return c.remove(f.id)
	}
	return nil
}

// parallel calls `one` for 0..count-1 from some goroutines.
func parallel(count, goroutines int, one func(at int)) {
	var group sync.WaitGroup
	for start := range goroutines {
		group.Add(1)
		go func() {
			defer group.Done()
			for at := start; at < count; at += goroutines {
				one(at)
			}
		}()
	}
	group.Wait()
}

// clear undoes gzip.
func clear(data []byte) ([]byte, error) {
	from, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(from)
}
