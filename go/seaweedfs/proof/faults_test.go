package proof

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"rdma-engine/rdmaengine"
	"rdma-engine/seaweedfs"
)

// exporting, in the environment, makes this program an exporter of these folders that can be killed by itself.
const exporting, exportingAt = "RDE_PROOF_EXPORT", "RDE_PROOF_ADDRESS"

func TestMain(m *testing.M) {
	dirs := os.Getenv(exporting)
	if dirs == "" {
		os.Exit(m.Run())
	}
	exporter, err := seaweedfs.Export(seaweedfs.ExportOptions{Address: os.Getenv(exportingAt), Dirs: strings.Split(dirs, ",")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(exporter.Address())
	io.Copy(io.Discard, os.Stdin)
}

// lone is an exporter in a process of its own.
type lone struct {
	process *exec.Cmd
	address string
}

func (c *cluster) lone(address string) *lone {
	l := &lone{process: exec.Command(os.Args[0])}
	l.process.Env = append(os.Environ(), exporting+"="+strings.Join(c.dirs(), ","), exportingAt+"="+address)
	l.process.Stderr = os.Stderr
	l.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if _, err := l.process.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	out, err := l.process.StdoutPipe()
	if err == nil {
		err = l.process.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.t.Fatal("an exporter of its own does not start: ", err)
	}
	l.address = strings.TrimSpace(line)
	return l
}

func (l *lone) kill() {
	l.process.Process.Kill()
	l.process.Wait()
}

// exporterKilled reads while the exporter is killed: HTTP takes over, and the engine again when there is another one.
func (c *cluster) exporterKilled(r road, files []*file) {
	l := c.lone("tcp://127.0.0.1:0")
	defer func() { l.kill() }()
	address := l.address
	reader := c.reader(seaweedfs.Options{Engine: rdmaengine.Options{Transports: r.transports},
		Address: func(string) string { return address }})
	defer reader.Close()
	fetch := c.fetcher(reader)
	var stop atomic.Bool
	var group sync.WaitGroup
	for start := range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			for at := start; !stop.Load(); at++ {
				// Long ones, so that it dies in the middle of some.
				f := files[at%40]
				if !f.deleted && f.length > 0 && f.length < 20<<20 && f.ttl == "" {
					fetch(f, f.bytes(), true, 0)
				}
			}
		}()
	}
	for range 2 {
		goal := reader.Stats().Reads + 40
		c.wait("reads through the engine", func() bool { return reader.Stats().Reads >= goal })
		passed := reader.Stats().Passed
		l.kill()
		c.wait("HTTP to take over", func() bool { return reader.Stats().Passed > passed })
		l = c.lone(address)
	}
	goal := reader.Stats().Reads + 40
	c.wait("reads through the engine again", func() bool { return reader.Stats().Reads >= goal })
	stop.Store(true)
	group.Wait()
	c.t.Logf("%s: %+v", r.name, reader.Stats())
}

// wrongCookies: nobody who guesses gets a byte.
func (c *cluster) wrongCookies(files []*file) {
	engine, session := c.dial(roads[0])
	defer engine.Close()
	reader := c.reader(seaweedfs.Options{})
	defer reader.Close()
	wrapped := &http.Client{Transport: reader.Transport(client.Transport)}
	for _, f := range files {
		if f.length == 0 || f.deleted {
			continue
		}
		last := f.id[len(f.id)-1]
		guess := f.id[:len(f.id)-1] + string("123456789abcdef0"[strings.IndexByte("0123456789abcdef", last)])
		_, err := session.ReadNeedle(context.Background(), guess, rdmaengine.NeedleOptions{})
		a, httpErr := getBy(wrapped, c.url(guess)+readDeleted, "", "")
		if !errors.Is(err, rdmaengine.StatusCookieMismatch) || httpErr != nil || a.status != http.StatusNotFound ||
			c.overHTTP(guess, "", "").status != rdmaengine.StatusNotFound {
			c.t.Errorf("%s for %s: %v, %d %v", guess, f.id, err, a.status, httpErr)
		}
	}
}

// asMount reads as the mount's RDMA client did: all bytes or an error.
func (c *cluster) asMount(files []*file) {
	lookup := func(_ context.Context, fileID string) ([]string, error) { return []string{c.url(fileID)}, nil }
	mount, err := seaweedfs.NewRDMAMountClient("", lookup, 8, 5000)
	if err != nil {
		c.t.Fatal(err)
	}
	defer mount.Close()
	good := 0
	for _, f := range files {
		if f.deleted || f.length < 300 || f.length > 1<<20 {
			continue
		}
		data, byEngine, err := mount.ReadNeedle(context.Background(), f.id, 100, uint64(f.length-100))
		gzip := c.overHTTP(f.id, "", "").gzip
		if byEngine != (err == nil) || byEngine == gzip || !gzip && string(data) != string(f.bytes()[100:]) {
			c.t.Errorf("%s (gzip %v): %d bytes, %v, %v", f.id, gzip, len(data), byEngine, err)
		}
		if data, _, err = mount.ReadNeedle(context.Background(), f.id, 100, uint64(f.length)); err == nil {
			c.t.Errorf("%s: %d bytes where fewer are", f.id, len(data))
		}
		good += btoi(byEngine)
	}
	if stats := mount.GetStats(); stats["successful_reads"] != int64(good) || good == 0 || !mount.IsHealthy() {
		c.t.Errorf("%d reads, %v", good, stats)
	}
}

// flippedBit: damaged data is refused, and nobody sees it for good.
func (c *cluster) flippedBit(files []*file) {
	engine, session := c.dial(roads[0])
	defer engine.Close()
	reader := c.reader(seaweedfs.Options{})
	defer reader.Close()
	wrapped := &http.Client{Transport: reader.Transport(client.Transport)}
	flipped := 0
	for _, f := range files {
		if f.text || f.deleted || f.ttl != "" || f.length < 200 || f.length > 9<<20 || flipped > 5 && f.length < 1<<20 {
			continue
		}
		flipped++
		flip := c.flipper(f)
		flip()
		_, err := session.ReadNeedle(context.Background(), f.id, rdmaengine.NeedleOptions{})
		batch := session.ReadNeedles(context.Background(), []rdmaengine.NeedleRead{{FileID: f.id}})
		if !errors.Is(err, rdmaengine.StatusCorrupted) || !errors.Is(batch[0].Err, rdmaengine.StatusCorrupted) {
			c.t.Errorf("%s is damaged: %v, %v", f.id, err, batch[0].Err)
		}
		// Up to a mebibyte, HTTP looks at the checksum before it answers.
		if a, err := getBy(wrapped, c.url(f.id)+readDeleted, "", ""); f.length <= 1<<20 && (err != nil || a.status != 500) {
			c.t.Errorf("%s is damaged: status %d, %d bytes, %v", f.id, a.status, len(a.data), err)
		}
		flip()
		c.fetcher(reader)(f, f.bytes(), true, 0)
	}
	if flipped < 6 {
		c.t.Error("too few files to damage")
	}
}

// flipper finds a file's data in its volume; what it returns flips a bit of it.
func (c *cluster) flipper(f *file) func() {
	volume, _, _ := strings.Cut(f.id, ",")
	for _, dir := range c.dirs() {
		path := filepath.Join(dir, volume+".dat")
		all, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		at := bytes.Index(all, f.bytes())
		if at < 0 {
			break
		}
		where := int64(at + f.length/2)
		return func() {
			all[where] ^= 4
			file, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				_, err = file.WriteAt(all[where:where+1], where)
				file.Close()
			}
			if err != nil {
				c.t.Fatal(err)
			}
		}
	}
	c.t.Fatalf("%s is in no volume", f.id)
	return nil
}
