//go:build !cgo || !linux

package rdmaengine

import (
	"errors"
	"testing"
)

func TestWithoutCgoNothingOpens(t *testing.T) {
	e, err := Open(Options{})
	if e != nil || !errors.Is(err, ErrUnsupported) {
		t.Fatal(e, err)
	}
}
