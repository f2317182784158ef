//go:build !cgo || !linux

package rdmaengine

import (
	"time"
	"unsafe"
)

// Without cgo nothing opens, and so nothing below is reached.

const requestBytes = unsafe.Sizeof(request{})

func contextOpen(*Options) (uint64, error) {
	return 0, &Error{Op: "open", Status: StatusUnsupported,
		Message: "this program was built without cgo, or not for Linux: build it with CGO_ENABLED=1 and librdma_engine"}
}

func crossing(*exchange)                                      {}
func contextClose(uint64) error                               { return ErrUnsupported }
func contextInfo(uint64) (Info, error)                        { return Info{}, ErrUnsupported }
func libraryVersion() string                                  { return "" }
func contextMetrics(uint64) (string, error)                   { return "", ErrUnsupported }
func contextStats(uint64) (Stats, error)                      { return Stats{}, ErrUnsupported }
func sessionStats(uint64) (Stats, error)                      { return Stats{}, ErrUnsupported }
func workerOpen(uint64, uint32) (uint64, error)               { return 0, ErrUnsupported }
func workerClose(uint64)                                      {}
func workerArm(uint64) Status                                 { return ErrUnsupported }
func workerCancel(_, _ uint64) Status                         { return ErrUnsupported }
func workerEventFD(uint64) (int, error)                       { return 0, ErrUnsupported }
func listenerOpen(uint64, string, uint64) (uint64, error)     { return 0, ErrUnsupported }
func listenerAddress(uint64) string                           { return "" }
func listenerClose(uint64)                                    {}
func sessionConnect(uint64, string, uint64) error             { return ErrUnsupported }
func sessionClose(_, _ uint64) Status                         { return ErrUnsupported }
func sessionInfo(uint64) (SessionInfo, error)                 { return SessionInfo{}, ErrUnsupported }
func bufferAlloc(uint64, int, uint32) (uint64, []byte, error) { return 0, nil, ErrUnsupported }
func bufferData(uint64) []byte                                { return nil }
func bufferRelease(uint64)                                    {}
func bufferExport(uint64, int64, int64, Rights) (Key, error)  { return Key{}, ErrUnsupported }
func keyRevoke(uint64, Key) error                             { return ErrUnsupported }
func regionRelease(uint64)                                    {}
func regionInfo(uint64) (RegionInfo, error)                   { return RegionInfo{}, ErrUnsupported }
func callInfo(uint64) (*IncomingCall, time.Duration, error)   { return nil, 0, ErrUnsupported }
func callRefuse(uint64, Status, time.Duration) Status         { return ErrUnsupported }
func callRelease(uint64)                                      {}
func callReply(uint64, int32, Header, []byte, []BufferRange) Status {
	return ErrUnsupported
}
func exporterOpen(uint64, string, string, *ExportOptions) (uint64, error) {
	return 0, ErrUnsupported
}
func exporterAdd(uint64, string, string) error { return ErrUnsupported }
func exporterAddress(uint64) string            { return "" }
func exporterClose(uint64)                     {}
func newArrays(uint64) (*arrays, error)        { return nil, ErrUnsupported }
func freeArrays(*arrays)                       {}
