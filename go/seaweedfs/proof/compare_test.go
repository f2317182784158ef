package proof

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"sync/atomic"

	"rdma-engine/rdmaengine"
	"rdma-engine/seaweedfs"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verdict is what somebody says of a file: its stored bytes, or why not.
type verdict struct {
	status rdmaengine.Status
	gzip   bool
	length int
	sum    uint32
}

func (v verdict) String() string {
	return fmt.Sprintf("%s, %d bytes, gzip %v, sum %08x", v.status.Name(), v.length, v.gzip, v.sum)
}

// overHTTP is the verdict of HTTP; 404 is NOT_FOUND, whatever the reason.
func (c *cluster) overHTTP(fileID, query, token string) verdict {
	a, err := c.get(fileID, query, "", token)
	if err != nil {
		c.t.Fatal(err)
	}
	switch a.status {
	case http.StatusOK:
		return verdict{rdmaengine.StatusOK, a.gzip, len(a.data), crc32.Checksum(a.data, castagnoli)}
	case http.StatusNotFound:
		return verdict{status: rdmaengine.StatusNotFound}
	case http.StatusUnauthorized:
		return verdict{status: rdmaengine.StatusUnauthorized}
	}
	return verdict{status: rdmaengine.StatusCorrupted}
}

// ofNeedle is the verdict of the engine, in HTTP's words: why a file is not there is not told apart.
func ofNeedle(needle *rdmaengine.Needle, err error) verdict {
	var failed *rdmaengine.Error
	switch {
	case err == nil:
		data := needle.Bytes()
		return verdict{rdmaengine.StatusOK, needle.Compressed, len(data), crc32.Checksum(data, castagnoli)}
	case !errors.As(err, &failed):
		return verdict{status: rdmaengine.StatusInternal}
	}
	return verdict{status: inHTTP(failed.Status)}
}

func inHTTP(status rdmaengine.Status) rdmaengine.Status {
	switch status {
	case rdmaengine.StatusDeleted, rdmaengine.StatusCookieMismatch, rdmaengine.StatusExpired:
		return rdmaengine.StatusNotFound
	}
	return status
}

// expected is what HTTP says of every file, once with deleted ones and once without.
type expected struct{ all, live []verdict }

const readDeleted = "?readDeleted=true"

func (c *cluster) expect(files []*file) expected {
	e := expected{make([]verdict, len(files)), make([]verdict, len(files))}
	parallel(len(files), 8, func(at int) {
		f := files[at]
		e.all[at], e.live[at] = c.overHTTP(f.id, readDeleted, ""), c.overHTTP(f.id, "", "")
		if got := e.live[at]; got.status == rdmaengine.StatusOK && !got.gzip && !f.deleted &&
			(got.length != f.length || got.sum != crc32.Checksum(f.bytes(), castagnoli)) {
			c.t.Errorf("%s: HTTP has not what was uploaded: %v", f.id, got)
		}
	})
	return e
}

// same compares the engine's verdict with HTTP's. A file that lives for a minute may have just expired.
func (c *cluster) same(f *file, how string, live bool, want, got verdict) {
	if want == got {
		return
	}
	if f.ttl == "1m" {
		query := readDeleted
		if live {
			query = ""
		}
		if want = c.overHTTP(f.id, query, ""); want == got {
			return
		}
	}
	c.t.Errorf("%s (%d bytes, text %v, deleted %v, ttl %q): %s says %v, HTTP %v", f.id, f.length, f.text, f.deleted, f.ttl, how, got, want)
}

// road is one way for bytes.
type road struct {
	name       string
	transports rdmaengine.Transport
}

var roads = []road{{"shared memory", 0}, {"TCP", rdmaengine.TransportTCP}}

// dial opens an engine and a session to the cluster's exporter.
func (c *cluster) dial(r road) (*rdmaengine.Engine, *rdmaengine.Session) {
	engine, err := rdmaengine.Open(rdmaengine.Options{Transports: r.transports})
	if err != nil {
		c.t.Fatal(err)
	}
	session, err := engine.Dial(context.Background(), c.engine())
	if err != nil {
		c.t.Fatal(err)
	}
	info, err := session.Info()
	if err != nil || info.Local != (r.transports == 0) {
		c.t.Fatalf("%s: %+v %v", r.name, info, err)
	}
	return engine, session
}

// oneByOne reads every file with ReadNeedle.
func (c *cluster) oneByOne(r road, files []*file, e expected) {
	engine, session := c.dial(r)
	defer engine.Close()
	parallel(len(files), 4, func(at int) {
		for _, live := range []bool{false, true} {
			needle, err := session.ReadNeedle(context.Background(), files[at].id, rdmaengine.NeedleOptions{Live: live})
			c.same(files[at], "Go over "+r.name, live, e.of(at, live), ofNeedle(&needle, err))
			needle.Release()
		}
	})
}

// reader opens a reader as a mount would; sessions are there when it returns.
func (c *cluster) reader(o seaweedfs.Options) *seaweedfs.Reader {
	reader, err := seaweedfs.NewReader(o)
	if err == nil {
		err = reader.Connect(context.Background(), c.server())
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return reader
}

// throughReader reads every file with FetchChunk and Transport, whole and in part, beside what both wrap.
func (c *cluster) throughReader(r road, files []*file) {
	reader := c.reader(seaweedfs.Options{Engine: rdmaengine.Options{Transports: r.transports}})
	defer reader.Close()
	wrapped, plain := &http.Client{Transport: reader.Transport(client.Transport)}, c.fetcher(reader)
	var parts atomic.Int64
	parallel(len(files), 4, func(at int) {
		f := files[at]
		if f.deleted || f.ttl == "1m" || f.length == 0 {
			return
		}
		data := f.bytes()
		plain(f, data, true, 0)
		begin := int(f.seed % uint64(f.length))
		end := begin + int(f.seed>>32%uint64(f.length-begin)) + 1
		if begin < end && end <= f.length {
			plain(f, data[begin:end], false, int64(begin))
			parts.Add(1)
		}
		c.overTransport(wrapped, f, "")
		c.overTransport(wrapped, f, fmt.Sprintf("bytes=%d-%d", begin, end+100))
	})
	stats := reader.Stats()
	c.t.Logf("%s: %+v, %d parts", r.name, stats, parts.Load())
	if stats.Reads < uint64(len(files)) || stats.Failed > 0 || stats.Refused > 0 || stats.Passed != stats.Ineligible {
		c.t.Errorf("%s: the engine has not read what it should have: %+v", r.name, stats)
	}
}

// fetcher is FetchChunk over SeaweedFS's own function; what it gives must be `want`.
func (c *cluster) fetcher(reader *seaweedfs.Reader) func(f *file, want []byte, whole bool, offset int64) {
	fetch := reader.FetchChunk(nil)
	return func(f *file, want []byte, whole bool, offset int64) {
		buffer := make([]byte, len(want))
		n, err := fetch(context.Background(), buffer, []string{c.url(f.id)}, nil, false, whole, offset, f.id, nil)
		if err != nil || n != len(want) || string(buffer) != string(want) {
			c.t.Errorf("%s: FetchChunk of %d bytes from %d: %d bytes, %v", f.id, len(want), offset, n, err)
		}
	}
}

// overTransport asks through the engine's transport what HTTP is asked, and compares.
func (c *cluster) overTransport(wrapped *http.Client, f *file, ranged string) {
	ask := func(by *http.Client) answer {
		a, err := getBy(by, c.url(f.id)+readDeleted, ranged, "")
		if err != nil {
			c.t.Error(f.id, err)
		}
		return a
	}
	with, without := ask(wrapped), ask(client)
	if with.status != without.status || with.gzip != without.gzip || string(with.data) != string(without.data) {
		c.t.Errorf("%s %s: %d with the engine, %d without; %d and %d bytes", f.id, ranged, with.status, without.status,
			len(with.data), len(without.data))
	}
}
