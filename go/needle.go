package rdmaengine

import (
	"context"
	"sync"
)

// NeedlePortOffset is how far an exporter's port is from its volume server's HTTP port, unless somebody chose another one.
const NeedlePortOffset = 20000

const (
	methodNeedle = 0x5357_0001 // RDE_METHOD_NEEDLE
	methodMemory = 0x5357_0003 // RDE_METHOD_NEEDLE_MEMORY

	readLive      = 1 << 0
	readStored    = 1 << 1
	readRange     = 1 << 2
	readStat      = 1 << 3
	readPlaced    = 1 << 4
	readUnchecked = 1 << 5

	needleCompressed = 1 << 0
	needleManifest   = 1 << 7
	needleDeleted    = 1 << 8
	needlePlaced     = 1 << 9
	needleUnchecked  = 1 << 10
)

// Exporter serves the needles of every SeaweedFS volume in a folder to other processes, with threads of the library: no
// byte goes through Go. It never writes there.
type Exporter struct {
	id      uint64
	address string
	once    sync.Once
}

// ExportOptions of an exporter; zero fields take their defaults.
type ExportOptions struct {
	// IndexDir is where the indexes are; empty is beside the data.
	IndexDir string
	// Threads for reads that wait for the disk, at most 256; 0 is 4.
	Threads int
	// ReadKey is SeaweedFS's jwt.signing.read.key, at most 1,024 bytes: each read needs a token that was signed with it and
	// names its file id. Empty: the cookie is all that a read needs.
	ReadKey []byte
}

// Export serves the volumes of a folder at an address, as of Listen. Volumes that come and go are noticed. Whoever reaches
// the address may read what he has a file id with its cookie for, unless there is a read key. Close it before the engine.
func (e *Engine) Export(address, dir string, options ExportOptions) (*Exporter, error) {
	if options.Threads < 0 {
		return nil, fail("export", StatusInvalidArgument)
	}
	id, err := exporterOpen(e.context, address, dir, &options)
	if err != nil {
		return nil, e.plain("export", err)
	}
	x := &Exporter{id: id, address: exporterAddress(id)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		x.Close()
		return nil, closedFailure("export")
	}
	e.exporters = append(e.exporters, x)
	return x, nil
}

// Add serves the volumes of another folder, too; `indexDir` is where its indexes are, empty is beside the data. Of a volume
// that is in several folders, the first one's is served.
func (x *Exporter) Add(dir, indexDir string) error { return exporterAdd(x.id, dir, indexDir) }

// Address is where the exporter is, in the form to dial, with the port that was picked.
func (x *Exporter) Address() string { return x.address }

// Close ends it: reads that run end first. A second Close does nothing.
func (x *Exporter) Close() error {
	x.once.Do(func() { exporterClose(x.id) })
	return nil
}

// NeedleOptions say how to read a needle. The zero value reads it whole, deleted or not, as SeaweedFS's own readers do.
type NeedleOptions struct {
	// Token is what SeaweedFS gave out for this file id, if the cluster has a read key.
	Token string
	// Live: a needle that was deleted is StatusDeleted, also while its bytes are there.
	Live bool
	// Stored: chunk manifests, and parts of compressed data, are given out as they are stored.
	Stored bool
	// Part: Length bytes from Offset on, as far as the data goes; parts are not checked against the checksum.
	// Without it, Length says how long the needle is thought to be, 0 that nobody knows: what is right needs fewer steps.
	Part           bool
	Offset, Length int64
	// Into is where the data goes; zero: it has memory of its own. An exporter on this host puts them straight into a buffer
	// that is BufferExportable; then its answer is waited for also when the context has ended, because the buffer is its to
	// write until then, and after StatusConnectionLost the buffer takes no needles any more: release it.
	Into BufferRange
}

// Needle is what an exporter answered. Its bytes are the caller's until the release.
type Needle struct {
	Message
	// Length in bytes of what was read, also into a buffer of the caller's.
	Length int
	// DataLength is the length in bytes of all stored data.
	DataLength int64
	// Compressed: the data is gzip. Manifest: it is a list of chunks. Deleted: it was deleted.
	Compressed, Manifest, Deleted bool
	// LastModified in Unix seconds; 0 is unknown.
	LastModified int64
}

func (o *NeedleOptions) flags() (flags uint32) {
	for bit, on := range []bool{o.Live, o.Stored, o.Part} {
		if on {
			flags |= 1 << bit
		}
	}
	return flags
}

// text is a file id as it travels.
func (o *NeedleOptions) text(fileID string) string {
	if o.Token == "" {
		return fileID
	}
	return fileID + "?jwt=" + o.Token
}

func (o *NeedleOptions) call(fileID string) *Call {
	c := &Call{Method: methodNeedle, Payload: []byte(o.text(fileID)), Header: Header{Flags: o.flags()}, Into: o.Into}
	if o.Part {
		c.Header.Offset, c.Header.Len = uint64(o.Offset), uint64(o.Length)
	}
	return c
}

// ReadNeedle reads a needle, such as "3,01637037d6", from the exporter that the session goes to. Whole needles are checked,
// there or here; one that is longer than a message comes in parts. On one host the exporter puts it straight into memory of
// the session's, up to 64 MiB of results that are not released. Why one is not served is an *Error:
// StatusNotFound, StatusDeleted, StatusCookieMismatch, StatusExpired, StatusIneligible (use HTTP), StatusCorrupted,
// StatusStale and StatusBusy (try again, or use HTTP), StatusOutOfRange, StatusUnauthorized.
func (s *Session) ReadNeedle(ctx context.Context, fileID string, options NeedleOptions) (Needle, error) {
	if options.Part && (options.Offset < 0 || options.Length < 0) {
		return Needle{}, fail("read needle", StatusInvalidArgument)
	}
	if ctx.Err() != nil {
		return Needle{}, interrupted("read needle", ctx)
	}
	if len(fileID)+len(options.Token)+len("?jwt=")+placeBytes <= textMax {
		var needle Needle
		var v verdict
		var err error
		if options.Into.Buffer != nil {
			needle, v, err = s.readToBuffer(ctx, fileID, &options)
		} else if needle, v, err = s.readToSlot(ctx, fileID, &options); v == verdictShort {
			return s.readAside(ctx, fileID, options)
		}
		if v == verdictLong {
			return s.readInParts(ctx, fileID, options)
		}
		return needle, err
	}
	return s.readAside(ctx, fileID, options)
}

// readInParts has options of its own: those of a short read stay on the stack.
func (s *Session) readInParts(ctx context.Context, fileID string, options NeedleOptions) (Needle, error) {
	return s.readLong(ctx, fileID, &options)
}

// readAside reads a needle to memory that comes with the answer.
func (s *Session) readAside(ctx context.Context, fileID string, options NeedleOptions) (Needle, error) {
	reply, err := s.Call(ctx, options.call(fileID))
	if err != nil {
		return Needle{}, err
	}
	if reply.Status != 0 {
		reply.Release()
		if Status(reply.Status) == StatusTruncated {
			return s.readInParts(ctx, fileID, options)
		}
		return Needle{}, fail("read needle", Status(reply.Status))
	}
	needle := Needle{Message: reply.Message, Length: reply.Length,
		DataLength: int64(reply.Header.Offset), LastModified: int64(reply.Header.Len)}
	needle.mark(reply.Header.Flags)
	return needle, nil
}

func (n *Needle) mark(flags uint32) {
	n.Compressed, n.Manifest, n.Deleted = flags&needleCompressed != 0, flags&needleManifest != 0, flags&needleDeleted != 0
}
