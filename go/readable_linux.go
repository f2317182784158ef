package rdmaengine

import (
	"syscall"
	"unsafe"
)

// readable looks whether an event descriptor is, and empties it. The netpoller tells of changes only; what a polled
// worker's descriptor, an epoll, already was before it was armed has to be asked for.
func readable(fd uintptr, polled bool) bool {
	if !polled {
		var count [8]byte
		_, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&count)), 8)
		return errno == 0
	}
	ask := struct {
		fd      int32
		events  int16
		revents int16
	}{int32(fd), 1, 0}
	var now syscall.Timespec
	ready, _, _ := syscall.RawSyscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&ask)), 1,
		uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return int(ready) > 0
}
