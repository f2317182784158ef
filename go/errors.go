package rdmaengine

import (
	"context"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

// Status is what a call or an operation ended with: 0 is OK, above 0 is not an error, below 0 is one. A later version of
// the library may return others. A Status is itself an error, for use with errors.Is.
type Status int32

// ErrUnsupported: this machine or this build has not what it takes; the message says what is missing.
const ErrUnsupported = StatusUnsupported

// ErrClosed: the engine, session, listener or buffer was closed or released by this program. It is fs.ErrClosed, too.
var ErrClosed error = closedError{}

type closedError struct{}

func (closedError) Error() string        { return "closed" }
func (closedError) Is(target error) bool { return target == fs.ErrClosed }

// Error is the meaning of a status in a few words.
func (s Status) Error() string {
	if row, ok := statusTable[s]; ok {
		return row.text
	}
	return fmt.Sprintf("unknown status %d", int32(s))
}

// Name is the status's name in the C header without its prefix, such as "CONNECTION_LOST".
func (s Status) Name() string {
	if row, ok := statusTable[s]; ok {
		return row.name
	}
	return "UNKNOWN"
}

// Is matches the errors of the standard library that mean the same.
func (s Status) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return s == StatusTimedOut
	case fs.ErrNotExist:
		return s == StatusNotFound || s == StatusDeleted
	case fs.ErrExist:
		return s == StatusAlreadyExists
	case fs.ErrPermission:
		return s == StatusPermissionDenied || s == StatusUnauthorized
	}
	return false
}

// Timeout says whether a deadline passed, as net.Error has it.
func (s Status) Timeout() bool { return s == StatusTimedOut }

// Error is a failed call. errors.Is finds its Status, its Errno when the operating system failed, and what made it fail
// on this side: ErrClosed, or the cause of the context's end.
type Error struct {
	// Op is what was called, such as "dial".
	Op string
	// Status is the class of the failure.
	Status Status
	// Errno is set when the operating system failed a call.
	Errno syscall.Errno
	// Transport is UCX's status when UCX failed a call.
	Transport int
	// Message says what happened and what to do; it may be empty.
	Message string
	// Cause is ErrClosed, or the cause of the context's end; nil otherwise.
	Cause error
	// RetryAfter is set when a peer refused a call for now (StatusBusy, StatusQueueFull): when to try again.
	RetryAfter time.Duration
}

// Error is the message, or the status's words.
func (e *Error) Error() string {
	text := e.Message
	switch {
	case text != "":
	case e.Cause != nil:
		text = e.Cause.Error()
	case e.Errno != 0:
		text = e.Status.Error() + ": " + e.Errno.Error()
	default:
		text = e.Status.Error()
	}
	return "rdmaengine: " + e.Op + ": " + text
}

// Unwrap hands out the status, the errno and the cause, as far as there are any.
func (e *Error) Unwrap() []error {
	all := []error{e.Status}
	if e.Errno != 0 {
		all = append(all, e.Errno)
	}
	if e.Cause != nil {
		all = append(all, e.Cause)
	}
	return all
}

// Timeout says whether a deadline passed, as net.Error has it.
func (e *Error) Timeout() bool { return e.Status.Timeout() }

func fail(op string, status Status) error { return &Error{Op: op, Status: status} }

func closedFailure(op string) error {
	return &Error{Op: op, Status: StatusCanceled, Cause: ErrClosed}
}

// interrupted is the error of a call whose context ended.
func interrupted(op string, ctx context.Context) error {
	status := StatusCanceled
	if ctx.Err() == context.DeadlineExceeded {
		status = StatusTimedOut
	}
	return &Error{Op: op, Status: status, Cause: context.Cause(ctx)}
}

// err is the error of an operation that ended like this, nil if it went well.
func (r *result) err(op string, ctx context.Context) error {
	switch {
	case r.status >= 0:
		return nil
	case r.status == StatusCanceled && ctx.Err() != nil:
		return interrupted(op, ctx)
	case r.status == StatusCanceled:
		return closedFailure(op)
	}
	e := &Error{Op: op, Status: r.status}
	switch r.status {
	case StatusIO:
		e.Errno = syscall.Errno(r.detail)
	case StatusTransport:
		e.Transport = int(r.detail)
	}
	return e
}
