package rdmaengine

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"testing"
)

func TestErrorsMatch(t *testing.T) {
	for _, match := range []struct {
		err    error
		target error
		want   bool
	}{
		{fail("get", StatusRevoked), StatusRevoked, true},
		{fail("get", StatusRevoked), StatusTimedOut, false},
		{fail("get", StatusTimedOut), context.DeadlineExceeded, true},
		{fail("get", StatusCanceled), context.Canceled, false},
		{fail("open", StatusNotFound), fs.ErrNotExist, true},
		{fail("open", StatusUnauthorized), fs.ErrPermission, true},
		{fail("open", StatusUnsupported), ErrUnsupported, true},
		{closedFailure("get"), ErrClosed, true},
		{closedFailure("get"), fs.ErrClosed, true},
		{fail("get", StatusCanceled), ErrClosed, false},
		{&Error{Op: "open", Status: StatusIO, Errno: syscall.ENOENT}, syscall.ENOENT, true},
		{&Error{Op: "open", Status: StatusIO, Errno: syscall.ENOENT}, fs.ErrNotExist, true},
	} {
		if errors.Is(match.err, match.target) != match.want {
			t.Error(match)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := interrupted("get", ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, StatusCanceled) {
		t.Error(err)
	}
	if !errors.As(error(&Error{Status: StatusTimedOut}), new(*Error)) {
		t.Error("errors.As finds no *Error")
	}
}

func TestErrorsSayWhat(t *testing.T) {
	for _, want := range []struct {
		err  error
		text string
	}{
		{fail("get", StatusRevoked), "rdmaengine: get: the key was revoked"},
		{closedFailure("get"), "rdmaengine: get: closed"},
		{&Error{Op: "dial", Status: StatusUnreachable, Message: "nobody there"}, "rdmaengine: dial: nobody there"},
		{&Error{Op: "open", Status: StatusIO, Errno: syscall.EMFILE}, "rdmaengine: open: the operating system reported an error: too many open files"},
		{Status(-12345), "unknown status -12345"},
	} {
		if want.err.Error() != want.text {
			t.Errorf("%q", want.err.Error())
		}
	}
	if StatusConnectionLost.Name() != "CONNECTION_LOST" || Status(99).Name() != "UNKNOWN" {
		t.Error(StatusConnectionLost.Name())
	}
}
