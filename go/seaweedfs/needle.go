package seaweedfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seaweedfs/seaweedfs/weed/util"
	"github.com/seaweedfs/seaweedfs/weed/wdclient"

	"rdma-engine/rdmaengine"
)

// MountClient has the methods of the RDMA client of SeaweedFS's mount (up to 4.44), so that it takes its place. It answers a
// read with all of its bytes or an error, never with fewer.
type MountClient struct {
	reader *Reader
	lookup wdclient.LookupFileIdFunctionType
	slots  chan struct{}
}

// NewRDMAMountClient makes one. `address` is that of an exporter which has every volume ("tcp://host:port"); empty: each
// volume server's own, found by its port. `lookup` finds the volume servers of a file id. At most `maxConcurrent` reads run
// at once, each for at most `timeoutMs` milliseconds.
func NewRDMAMountClient(address string, lookup wdclient.LookupFileIdFunctionType, maxConcurrent, timeoutMs int) (*MountClient, error) {
	if maxConcurrent <= 0 || timeoutMs <= 0 || lookup == nil {
		return nil, errors.New("seaweedfs: the mount's client needs a look-up, a number of reads and a timeout")
	}
	options := Options{Timeout: time.Duration(timeoutMs) * time.Millisecond}
	if address != "" {
		options.Address = func(string) string { return address }
	}
	reader, err := NewReader(options)
	if err != nil {
		return nil, err
	}
	return &MountClient{reader: reader, lookup: lookup, slots: make(chan struct{}, maxConcurrent)}, nil
}

// ReadNeedle reads `size` bytes from `offset` on. The second result says that the engine read them; it is true without an
// error, and false with one: read over HTTP then. Compressed needles and chunk manifests are an error, and a needle that ends
// before the last byte, too.
func (c *MountClient) ReadNeedle(ctx context.Context, fileID string, offset, size uint64) ([]byte, bool, error) {
	if offset > 1<<62 || size > 1<<31 {
		return nil, false, fmt.Errorf("seaweedfs: %d bytes from %d on are not in a needle", size, offset)
	}
	ctx, cancel := context.WithTimeout(ctx, c.reader.options.Timeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	urls, err := c.lookup(ctx, fileID)
	if err != nil {
		return nil, false, err
	}
	data, err := c.reader.ReadNeedle(ctx, urls, fileID, offset, size)
	return data, err == nil, err
}

// ReadNeedle reads `size` bytes of a needle from `offset` on, from the first of the volume servers of these URLs that has an
// exporter; it waits for sessions to be dialled. Fewer bytes are an error, and so are compressed needles.
func (r *Reader) ReadNeedle(ctx context.Context, urls []string, fileID string, offset, size uint64) ([]byte, error) {
	err := errNoExporter
	for _, text := range urls {
		var to *peer
		if to, err = r.peers.connect(ctx, serverOf(text)); err != nil {
			continue
		}
		var data []byte
		if data, err = r.part(ctx, to, fileID, offset, size); err == nil {
			return data, nil
		}
	}
	return nil, err
}

// part reads a part from one volume server.
func (r *Reader) part(ctx context.Context, to *peer, fileID string, offset, size uint64) ([]byte, error) {
	session := to.session.Load()
	if session == nil {
		return nil, errNoExporter
	}
	started := time.Now()
	needle, err := r.read(ctx, to, session, fileID, rdmaengine.NeedleOptions{Token: r.options.Token(fileID),
		Part: true, Offset: int64(offset), Length: int64(size)})
	if err != nil {
		r.stats.failed(err)
		return nil, err
	}
	defer needle.Release()
	data := make([]byte, size)
	if err := fill(data, &needle, false); err != nil {
		r.stats.failed(err)
		return nil, err
	}
	r.stats.done(started, len(data))
	return data, nil
}

// ReadAll reads a whole file's clear bytes from the volume server at "host:port"; it waits for the session to be dialled.
// Chunk manifests are an error.
func (r *Reader) ReadAll(ctx context.Context, server, fileID string) ([]byte, error) {
	to, err := r.peers.connect(ctx, server)
	if err != nil {
		return nil, err
	}
	session := to.session.Load()
	if session == nil {
		return nil, errNoExporter
	}
	started := time.Now()
	needle, err := r.read(ctx, to, session, fileID, rdmaengine.NeedleOptions{Token: r.options.Token(fileID)})
	if err != nil {
		r.stats.failed(err)
		return nil, err
	}
	defer needle.Release()
	data := bytes.Clone(needle.Bytes())
	if needle.Compressed {
		if data, err = util.DecompressData(data); err != nil {
			r.stats.failed(err)
			return nil, err
		}
	}
	r.stats.done(started, len(data))
	return data, nil
}

// GetStats are counters by name, in the names that the mount logs.
func (c *MountClient) GetStats() map[string]interface{} {
	s := c.reader.Stats()
	failed := s.Failed + s.Refused + s.Ineligible
	stats := map[string]interface{}{
		"total_requests":   int64(s.Reads + failed),
		"successful_reads": int64(s.Reads),
		"failed_reads":     int64(failed),
		"total_bytes_read": int64(s.Bytes),
		"avg_latency_ns":   int64(0),
	}
	if s.Reads > 0 {
		stats["avg_latency_ns"] = s.Time.Nanoseconds() / int64(s.Reads)
	}
	return stats
}

// IsHealthy says whether reads may go through the engine: it is open. Whether a volume server has an exporter is found out
// for each.
func (c *MountClient) IsHealthy() bool { return !c.reader.closed.Load() }

// Close ends it. A second Close does nothing.
func (c *MountClient) Close() error { return c.reader.Close() }
