package proof

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"rdma-engine/rdmaengine"
)

// batches reads every file with ReadNeedles, some at a time.
func (c *cluster) batches(r road, files []*file, e expected) {
	engine, session := c.dial(r)
	defer engine.Close()
	const some = 100
	for begin := 0; begin < len(files); begin += some {
		end := min(begin+some, len(files))
		var reads []rdmaengine.NeedleRead
		for _, f := range files[begin:end] {
			for _, live := range []bool{false, true} {
				reads = append(reads, rdmaengine.NeedleRead{FileID: f.id, Options: rdmaengine.NeedleOptions{Live: live}})
			}
		}
		for i, result := range session.ReadNeedles(context.Background(), reads) {
			at, live := begin+i/2, i%2 == 1
			c.same(files[at], "a batch over "+r.name, live, e.of(at, live), ofNeedle(&result.Needle, result.Err))
			result.Release()
		}
	}
}

// fromC reads every file with the program in C.
func (c *cluster) fromC(r road, how string, files []*file, e expected) {
	program := os.Getenv("RDE_NEEDLES")
	if program == "" {
		c.t.Fatal("RDE_NEEDLES is not set")
	}
	var list strings.Builder
	where := make(map[string]int, len(files))
	for at, f := range files {
		where[f.id] = at
	}
	for _, live := range []int{0, 1} {
		for _, f := range files {
			fmt.Fprintln(&list, live, f.id)
		}
	}
	command := exec.Command(program, c.engine(), strconv.Itoa(int(r.transports)), how)
	command.Stdin, command.Stderr = strings.NewReader(list.String()), os.Stderr
	out, err := command.Output()
	if err != nil {
		c.t.Fatal(err)
	}
	// A file has two lines, first with deleted ones and then without.
	seen := make([][]verdict, len(files))
	for text := bufio.NewScanner(strings.NewReader(string(out))); text.Scan(); {
		var fileID string
		var status, length, flags int
		var sum uint32
		if _, err := fmt.Sscanf(text.Text(), "%s %d %d %d %x", &fileID, &status, &length, &flags, &sum); err != nil {
			c.t.Fatal(text.Text(), err)
		}
		v := verdict{status: inHTTP(rdmaengine.Status(status))}
		if status == 0 {
			v = verdict{rdmaengine.StatusOK, flags&1 != 0, length, sum}
		}
		seen[where[fileID]] = append(seen[where[fileID]], v)
	}
	for at, f := range files {
		if len(seen[at]) != 2 {
			c.t.Fatalf("%s: %d lines from C", f.id, len(seen[at]))
		}
		for i, live := range []bool{false, true} {
			c.same(f, "C, "+how+", over "+r.name, live, e.of(at, live), seen[at][i])
		}
	}
}

func (e *expected) of(at int, live bool) verdict {
	if live {
		return e.live[at]
	}
	return e.all[at]
}
