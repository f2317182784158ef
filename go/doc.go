// Package rdmaengine is the rdma-engine library for Go: registered memory, one-sided get and put, and messages between
// processes, over InfiniBand, RoCE, shared memory and TCP. It is the data plane in the process, not a daemon beside it.
//
// An [Engine] holds memory, limits and the threads below. [Engine.Listen] accepts and [Engine.Dial] opens a [Session] to
// a peer. [Engine.Alloc] hands out a [Buffer], registered memory that is a []byte; [Buffer.Export] makes a [Key] of a
// range of it, which a peer turns into a [Region] with [Session.Import], and then gets from and puts to. Sessions also
// carry messages, [Session.Send] and [Session.Receive], and calls, [Session.Call] and [Engine.Handle].
//
// # Contexts
//
// What takes time takes a [context.Context]. When it is cancelled the operation is cancelled, its end is waited for, and
// only then does the call return: memory that was lent to an operation is the caller's again when the call is over, also
// after an error. A write whose context was cancelled may have happened.
//
// # Memory
//
// Nothing is freed by the garbage collector: what was allocated, received or opened is released or closed by name, and
// everything that is left when its engine closes goes with it. The bytes of a buffer lie outside of Go's heap: using a
// slice of [Buffer.Bytes] or [Message.Bytes] after the release, or after the engine's close, is a fault, as with any
// unmapped memory.
//
// # Errors
//
// A failure is an [*Error], which holds a [Status]. Compare with errors.Is(err, rdmaengine.StatusConnectionLost); the
// errors of package context, io/fs and net match where they mean the same.
//
// # Building
//
// The package links the installed library, found by pkg-config ("rdma_engine"). The tag rdma_engine_static links
// librdma_engine.a into the program instead. Without cgo everything compiles, and [Open] returns [ErrUnsupported].
package rdmaengine
