package rdmaengine

import (
	"encoding/hex"
	"io"
	"sync"
	"sync/atomic"
)

// Buffer is registered memory outside of Go's heap.
type Buffer struct {
	engine   *Engine
	id       uint64
	data     []byte
	kind     BufferKind
	released atomic.Bool
	lost     atomic.Bool // a peer that was lost may still write to it
	mu       sync.Mutex
	lent     []*Session // whose exporters have it mapped
}

// lentTo notes who is to be told of the release.
func (b *Buffer) lentTo(s *Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent = append(b.lent, s)
}

// BufferKind says what a buffer is for.
type BufferKind uint32

const (
	// BufferPrivate: for gets, puts and messages of this side; exported, it is reached by messages.
	BufferPrivate BufferKind = 0
	// BufferExportable: peers on this host may map it once it is exported, which makes their gets loads. Costs whole
	// pages and a file descriptor.
	BufferExportable BufferKind = 1
	// BufferUninitialised: its bytes are whatever they were, and it cannot be exported.
	BufferUninitialised BufferKind = 2
)

const bufferUninitialised = uint32(BufferUninitialised)

// Alloc allocates `length` bytes of registered memory, zero unless the kind says otherwise.
func (e *Engine) Alloc(length int, kind BufferKind) (*Buffer, error) {
	if length <= 0 {
		return nil, &Error{Op: "alloc", Status: StatusInvalidArgument, Message: "a buffer has at least one byte"}
	}
	id, data, err := bufferAlloc(e.context, length, uint32(kind))
	if err != nil {
		return nil, e.plain("alloc", err)
	}
	return &Buffer{engine: e, id: id, data: data, kind: kind}, nil
}

// Bytes are the buffer's memory. A slice of it must not be used after the release, nor after the engine's close.
func (b *Buffer) Bytes() []byte { return b.data }

// Len is its length in bytes.
func (b *Buffer) Len() int { return len(b.data) }

// Release gives the memory back and revokes its keys. Operations in flight keep it alive until they end. A second
// Release does nothing.
func (b *Buffer) Release() {
	if !b.released.Swap(true) {
		bufferRelease(b.id)
		b.data = nil
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, s := range b.lent {
			go s.takeBack(b.id)
		}
		b.lent = nil
	}
}

// ReadAt copies from the buffer, as io.ReaderAt has it.
func (b *Buffer) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fail("read", StatusInvalidArgument)
	}
	if offset >= int64(len(b.data)) {
		return 0, io.EOF
	}
	n := copy(p, b.data[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Export makes a key with which a peer may touch `length` bytes from `offset` on. Send it there by a way that others
// cannot read. The buffer must not be BufferUninitialised.
func (b *Buffer) Export(offset, length int64, rights Rights) (Key, error) {
	if offset < 0 || length < 0 {
		return Key{}, fail("export", StatusInvalidArgument)
	}
	key, err := bufferExport(b.id, offset, length, rights)
	return key, b.engine.plain("export", err)
}

// Key is a capability to touch a range of a peer's buffer: whoever has it may do what it grants, until it is revoked.
type Key [keyBytes]byte

// String hides the key: it is a secret. Use EncodeToString of encoding/hex on key[:] to write it down.
func (k Key) String() string { return "key " + hex.EncodeToString(k[:4]) + "…" }
