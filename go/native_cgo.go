//go:build cgo && linux

package rdmaengine

// #cgo noescape rdego_cross
// #cgo nocallback rdego_cross
// #include "native.h"
import "C"

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

const requestBytes = unsafe.Sizeof(request{})

// The layout of what lies in C memory: these do not compile unless each difference is zero.
const (
	_ = -(uintptr(unsafe.Sizeof(request{})) ^ uintptr(C.sizeof_rde_request))
	_ = -(uintptr(unsafe.Sizeof(completion{})) ^ uintptr(C.sizeof_rde_completion))
	_ = -(uintptr(unsafe.Sizeof(exchange{})) ^ uintptr(C.sizeof_rdego_exchange))
	_ = -(uintptr(unsafe.Sizeof(Histogram{})) ^ uintptr(C.sizeof_rde_histogram))
	_ = -(uintptr(pieceBytes) ^ uintptr(C.sizeof_rde_piece))
	_ = -(uintptr(unsafe.Sizeof(uintptr(0))) ^ 8)
	_ = -(uintptr(keyBytes) ^ uintptr(C.RDE_KEY_BYTES))
	_ = -(uintptr(inlineBytes) ^ uintptr(C.RDE_INLINE_BYTES))
	_ = -(uintptr(completedSum) ^ uintptr(C.RDE_COMPLETION_CHECKSUM))
	_ = -(uintptr(requestSum) ^ uintptr(C.RDE_REQUEST_CHECKSUM))
	_ = -(uintptr(batchMax) ^ uintptr(C.RDE_BATCH_MAX))
	_ = -(uintptr(unsafe.Offsetof(request{}.op)) ^ uintptr(unsafe.Offsetof(C.rde_request{}.op)))
	_ = -(uintptr(unsafe.Offsetof(request{}.timeoutUS)) ^ uintptr(unsafe.Offsetof(C.rde_request{}.timeout_us)))
	_ = -(uintptr(unsafe.Offsetof(request{}.regionOffset)) ^ uintptr(unsafe.Offsetof(C.rde_request{}.region_offset)))
	_ = -(uintptr(unsafe.Offsetof(request{}.data)) ^ uintptr(unsafe.Offsetof(C.rde_request{}.data)))
	_ = -(uintptr(unsafe.Offsetof(request{}.compare)) ^ uintptr(unsafe.Offsetof(C.rde_request{}.compare)))
	_ = -(uintptr(unsafe.Offsetof(completion{}.value)) ^ uintptr(unsafe.Offsetof(C.rde_completion{}.value)))
	_ = -(uintptr(unsafe.Offsetof(completion{}.data)) ^ uintptr(unsafe.Offsetof(C.rde_completion{}.data)))
	_ = -(uintptr(unsafe.Offsetof(exchange{}.interrupt)) ^ uintptr(unsafe.Offsetof(C.rdego_exchange{}.interrupt)))
	_ = -(uintptr(unsafe.Offsetof(exchange{}.pollStatus)) ^ uintptr(unsafe.Offsetof(C.rdego_exchange{}.poll_status)))
	_ = -(uintptr(unsafe.Offsetof(Counters{}.ServedGets)) ^ uintptr(unsafe.Offsetof(C.rde_counters{}.served_gets)))
	_ = -(uintptr(unsafe.Offsetof(Counters{}.LogsDropped)) ^ uintptr(unsafe.Offsetof(C.rde_counters{}.logs_dropped)))
)

// failure is the error that a control call left, nil if it went well.
func failure(op string, status C.rde_status, e *C.rde_error) error {
	if status >= 0 {
		return nil
	}
	err := &Error{Op: op, Status: Status(status)}
	if e != nil && e.status == C.int32_t(status) {
		err.Errno, err.Transport = syscall.Errno(e.os_errno), int(e.transport_status)
		err.Message = C.GoStringN(&e.message[0], C.int(e.message_len))
	}
	return err
}

// text lends a string to one call.
func text(s string) C.rde_bytes {
	return C.rdego_bytes(unsafe.Pointer(unsafe.StringData(s)), C.size_t(len(s)))
}

func crossing(x *exchange) { C.rdego_cross((*C.rdego_exchange)(unsafe.Pointer(x))) }

func contextOpen(o *Options) (uint64, error) {
	if version := uint32(C.rde_abi_version()); version != C.RDE_ABI_VERSION {
		return 0, &Error{Op: "open", Status: StatusABIMismatch, Message: fmt.Sprintf(
			"the library that was loaded has version %d of the ABI, this program was built for %d", version, C.RDE_ABI_VERSION)}
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	lend := func(s string) C.rde_bytes {
		if s != "" {
			pin.Pin(unsafe.StringData(s))
		}
		return text(s)
	}
	options := C.rde_context_options{
		struct_size:        C.sizeof_rde_context_options,
		name:               lend(o.Name),
		devices:            lend(o.Devices),
		transports:         C.uint32_t(o.Transports),
		ways:               C.uint32_t(o.Ways),
		memory_limit_bytes: C.uint64_t(o.MemoryLimit),
		max_sessions:       C.uint32_t(o.MaxSessions),
		max_exports:        C.uint32_t(o.MaxExports),
		keepalive_ns:       C.uint64_t(o.Keepalive),
		connect_timeout_ns: C.uint64_t(o.ConnectTimeout),
		idle_timeout_ns:    C.uint64_t(o.IdleTimeout),
		max_message_bytes:  C.uint64_t(o.MaxMessage),
	}
	var context C.rde_context
	var e C.rde_error
	status := C.rde_context_open(&options, &context, &e)
	return uint64(context.id), failure("open", status, &e)
}

func contextClose(context uint64) error {
	return failure("close", C.rde_context_close(C.rde_context{C.uint64_t(context)}), nil)
}

func contextInfo(context uint64) (Info, error) {
	details := C.rde_context_details{struct_size: C.sizeof_rde_context_details}
	var e C.rde_error
	status := C.rde_context_info(C.rde_context{C.uint64_t(context)}, &details, &e)
	return Info{
		UCX:           fmt.Sprintf("%d.%d.%d", details.ucx_major, details.ucx_minor, details.ucx_patch),
		UCXPath:       C.GoString(&details.ucx_path[0]),
		Transports:    list(C.GoString(&details.transports[0])),
		Devices:       list(C.GoString(&details.devices[0])),
		Sessions:      int(details.sessions),
		MaxSessions:   int(details.max_sessions),
		MemoryLimit:   int64(details.memory_limit_bytes),
		MemoryUsed:    int64(details.memory_used_bytes),
		MemoryRetired: int64(details.memory_retired_bytes),
		MemoryHuge:    int64(details.memory_huge_bytes),
	}, failure("info", status, &e)
}

func libraryVersion() string { return C.GoString(C.rde_version_string()) }

func contextMetrics(context uint64) (string, error) {
	for room := C.size_t(16 << 10); ; {
		text := (*C.char)(C.malloc(room))
		var length C.size_t
		status := C.rde_context_metrics(C.rde_context{C.uint64_t(context)}, text, room, &length)
		metrics := ""
		if status == C.RDE_STATUS_OK {
			metrics = C.GoStringN(text, C.int(length))
		}
		C.free(unsafe.Pointer(text))
		if Status(status) != StatusTruncated {
			return metrics, failure("metrics", status, nil)
		}
		room = 2*length + 1
	}
}

func stats(op string, ask func(*C.rde_stats) C.rde_status) (Stats, error) {
	all := C.rde_stats{struct_size: C.sizeof_rde_stats}
	status := ask(&all)
	histogram := func(h *C.rde_histogram) Histogram { return *(*Histogram)(unsafe.Pointer(h)) }
	return Stats{
		Counters: *(*Counters)(unsafe.Pointer(&all.counters)),
		Get:      histogram(&all.get),
		Put:      histogram(&all.put),
		Message:  histogram(&all.message),
		Connect:  histogram(&all.connect),
	}, failure(op, status, nil)
}

func contextStats(context uint64) (Stats, error) {
	return stats("stats", func(to *C.rde_stats) C.rde_status {
		return C.rde_context_stats(C.rde_context{C.uint64_t(context)}, to)
	})
}

func sessionStats(session uint64) (Stats, error) {
	return stats("stats", func(to *C.rde_stats) C.rde_status {
		return C.rde_session_stats(C.rde_session{C.uint64_t(session)}, to)
	})
}

func workerOpen(context uint64, flags uint32) (uint64, error) {
	options := C.rde_worker_options{struct_size: C.sizeof_rde_worker_options, flags: C.uint32_t(flags)}
	var worker C.rde_worker
	var e C.rde_error
	status := C.rde_worker_open(C.rde_context{C.uint64_t(context)}, &options, &worker, &e)
	return uint64(worker.id), failure("open", status, &e)
}

func workerClose(worker uint64) { C.rde_worker_close(C.rde_worker{C.uint64_t(worker)}) }

func workerArm(worker uint64) Status {
	return Status(C.rde_worker_arm(C.rde_worker{C.uint64_t(worker)}))
}

func workerCancel(worker, userData uint64) Status {
	return Status(C.rde_worker_cancel(C.rde_worker{C.uint64_t(worker)}, C.uint64_t(userData)))
}

func workerEventFD(worker uint64) (int, error) {
	var fd C.int
	var e C.rde_error
	status := C.rde_worker_event_fd(C.rde_worker{C.uint64_t(worker)}, &fd, &e)
	return int(fd), failure("open", status, &e)
}

func listenerOpen(worker uint64, address string, userData uint64) (uint64, error) {
	var listener C.rde_listener
	var e C.rde_error
	status := C.rde_listener_open(C.rde_worker{C.uint64_t(worker)}, text(address), C.uint64_t(userData), &listener, &e)
	return uint64(listener.id), failure("listen", status, &e)
}

func listenerAddress(listener uint64) string {
	var text [C.RDE_ADDRESS_MAX + 1]C.char
	var length C.size_t
	if C.rde_listener_address(C.rde_listener{C.uint64_t(listener)}, &text[0], C.size_t(len(text)), &length) != C.RDE_STATUS_OK {
		return ""
	}
	return C.GoStringN(&text[0], C.int(length))
}

func listenerClose(listener uint64) { C.rde_listener_close(C.rde_listener{C.uint64_t(listener)}) }

func sessionConnect(worker uint64, address string, userData uint64) error {
	var session C.rde_session
	var e C.rde_error
	status := C.rde_session_connect(C.rde_worker{C.uint64_t(worker)}, text(address), C.uint64_t(userData), &session, &e)
	return failure("dial", status, &e)
}

func sessionClose(session, userData uint64) Status {
	return Status(C.rde_session_close(C.rde_session{C.uint64_t(session)}, C.uint64_t(userData)))
}

func sessionInfo(session uint64) (SessionInfo, error) {
	details := C.rde_session_details{struct_size: C.sizeof_rde_session_details}
	var e C.rde_error
	status := C.rde_session_info(C.rde_session{C.uint64_t(session)}, &details, &e)
	info := SessionInfo{
		Local:     details.flags&C.RDE_SESSION_LOCAL != 0,
		Accepted:  details.flags&C.RDE_SESSION_ACCEPTED != 0,
		State:     SessionState(details.state),
		PeerPID:   int(details.peer_pid),
		PeerName:  C.GoString(&details.peer_name[0]),
		Transport: C.GoString(&details.transport[0]),
		Address:   C.GoString(&details.address[0]),
	}
	for way := range info.Operations {
		info.Operations[way], info.Bytes[way] = uint64(details.way_operations[way]), uint64(details.way_bytes[way])
	}
	return info, failure("info", status, &e)
}

func bufferAlloc(context uint64, length int, flags uint32) (uint64, []byte, error) {
	var buffer C.rde_buffer
	var data unsafe.Pointer
	var e C.rde_error
	status := C.rde_buffer_alloc(C.rde_context{C.uint64_t(context)}, C.uint64_t(length), C.uint32_t(flags), &buffer, &data, &e)
	if err := failure("alloc", status, &e); err != nil {
		return 0, nil, err
	}
	return uint64(buffer.id), unsafe.Slice((*byte)(data), length), nil
}

func bufferData(buffer uint64) []byte {
	var data unsafe.Pointer
	var length C.uint64_t
	if C.rde_buffer_data(C.rde_buffer{C.uint64_t(buffer)}, &data, &length) != C.RDE_STATUS_OK {
		return nil
	}
	return unsafe.Slice((*byte)(data), int(length))
}

func bufferRelease(buffer uint64) { C.rde_buffer_release(C.rde_buffer{C.uint64_t(buffer)}) }

func bufferExport(buffer uint64, offset, length int64, rights Rights) (key Key, err error) {
	var e C.rde_error
	status := C.rde_buffer_export(C.rde_buffer{C.uint64_t(buffer)}, C.uint64_t(offset), C.uint64_t(length),
		C.uint32_t(rights), (*C.rde_key)(unsafe.Pointer(&key)), &e)
	return key, failure("export", status, &e)
}

func keyRevoke(context uint64, key Key) error {
	var e C.rde_error
	return failure("revoke", C.rde_key_revoke(C.rde_context{C.uint64_t(context)}, (*C.rde_key)(unsafe.Pointer(&key)), &e), &e)
}

func regionRelease(region uint64) { C.rde_region_release(C.rde_region{C.uint64_t(region)}) }

func regionInfo(region uint64) (RegionInfo, error) {
	details := C.rde_region_details{struct_size: C.sizeof_rde_region_details}
	status := C.rde_region_info(C.rde_region{C.uint64_t(region)}, &details)
	return RegionInfo{Length: int64(details.length), Rights: Rights(details.rights), Way: Way(details.way)},
		failure("info", status, nil)
}

// newArrays allocates what a pump exchanges through, in C memory: Go's checks of pointers have nothing to look at there.
func newArrays(worker uint64) (*arrays, error) {
	const requests, completions = queued * requestBytes, taken * unsafe.Sizeof(completion{})
	const all = 64 + 2*requests + completions + 2*textBytes
	memory := C.calloc(1, C.size_t(all))
	if memory == nil {
		return nil, fail("open", StatusOutOfMemory)
	}
	a := &arrays{exchange: (*exchange)(memory)}
	at := unsafe.Add(memory, 64)
	a.completions = unsafe.Slice((*completion)(at), taken)
	*a.exchange = exchange{worker: worker, completions: uintptr(at), capacity: taken}
	at = unsafe.Add(at, completions)
	for i := range a.requests {
		a.requests[i], a.requestsAt[i] = unsafe.Slice((*request)(at), queued), uintptr(at)
		at = unsafe.Add(at, requests)
		a.text[i], a.textAt[i] = unsafe.Slice((*byte)(at), textBytes), uintptr(at)
		at = unsafe.Add(at, textBytes)
	}
	return a, nil
}

func freeArrays(a *arrays) {
	if a != nil {
		C.free(unsafe.Pointer(a.exchange))
	}
}
