package seaweedfs

import (
	"errors"
	"fmt"
	"sync"

	"rdma-engine/rdmaengine"
)

// ExportOptions say what an exporter serves; the zero value of each field but Dirs takes its default.
type ExportOptions struct {
	// Engine options, for the engine that the exporter opens.
	Engine rdmaengine.Options
	// Address to listen at, in the form of rdmaengine.Listen, such as "tcp://192.0.2.1:28080"; readers look at PortOffset
	// above the volume server's HTTP port.
	Address string
	// Dirs are the volume server's folders.
	Dirs []string
	// IndexDir is the volume server's -dir.idx; empty is beside the data.
	IndexDir string
	// Threads that read the disk; 0 is rdmaengine's default.
	Threads int
	// ReadKey is SeaweedFS's jwt.signing.read.key: reads need a token that was made with it. Empty: a file id with its cookie
	// is enough.
	ReadKey string
}

// Exporter serves a volume server's needles from the same process. It only reads what the volume server writes. Its methods
// may be called by many goroutines.
type Exporter struct {
	engine  *rdmaengine.Engine
	mu      sync.Mutex
	options ExportOptions
	serving *rdmaengine.Exporter
	closed  bool
}

// Export opens an engine and serves.
func Export(options ExportOptions) (*Exporter, error) {
	if len(options.Dirs) == 0 {
		return nil, errors.New("seaweedfs: an exporter needs a folder")
	}
	engine, err := rdmaengine.Open(options.Engine)
	if err != nil {
		return nil, err
	}
	x := &Exporter{engine: engine, options: options}
	if err := x.serve(); err != nil {
		engine.Close()
		return nil, err
	}
	return x, nil
}

// serve opens what serves. The caller holds mu, or is the only one.
func (x *Exporter) serve() error {
	o := &x.options
	serving, err := x.engine.Export(o.Address, o.Dirs[0],
		rdmaengine.ExportOptions{IndexDir: o.IndexDir, Threads: o.Threads, ReadKey: []byte(o.ReadKey)})
	if err != nil {
		return fmt.Errorf("seaweedfs: %w", err)
	}
	for _, dir := range o.Dirs[1:] {
		if err := serving.Add(dir, o.IndexDir); err != nil {
			serving.Close()
			return fmt.Errorf("seaweedfs: %w", err)
		}
	}
	x.serving = serving
	// A port that was picked is kept.
	o.Address = serving.Address()
	return nil
}

// Address is where it listens, in the form to dial.
func (x *Exporter) Address() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.options.Address
}

// SetReadKey changes the key. Sessions end, and readers come back.
func (x *Exporter) SetReadKey(key string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || x.serving != nil && key == x.options.ReadKey {
		return nil
	}
	// Without a key that is asked for nobody may read: what serves goes first.
	if x.serving != nil {
		x.serving.Close()
		x.serving = nil
	}
	x.options.ReadKey = key
	return x.serve()
}

// Stats tells what the exporter's engine counted.
func (x *Exporter) Stats() (rdmaengine.Stats, error) { return x.engine.Stats() }

// Close ends it: reads that run end first. A second Close does nothing.
func (x *Exporter) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return nil
	}
	x.closed = true
	return x.engine.Close()
}
