//go:build cgo && linux

package rdmaengine

// #include "native.h"
import "C"

import (
	"runtime"
	"time"
	"unsafe"
)

func incoming(call uint64) C.rde_incoming_call { return C.rde_incoming_call{C.uint64_t(call)} }

func callInfo(call uint64) (*IncomingCall, time.Duration, error) {
	details := C.rde_call_details{struct_size: C.sizeof_rde_call_details}
	var e C.rde_error
	if err := failure("call", C.rde_call_info(incoming(call), &details, &e), &e); err != nil {
		return nil, 0, err
	}
	header := Header{uint64(details.header.offset), uint64(details.header.len), uint32(details.header.flags)}
	known := &IncomingCall{Method: uint32(details.method), Header: header, id: call,
		OneWay: details.flags&C.RDE_CALL_ONE_WAY != 0}
	if details.payload.len > 0 {
		known.payload = unsafe.Slice((*byte)(details.payload.data), int(details.payload.len))
	}
	return known, time.Duration(details.left_ns), nil
}

func callReply(call uint64, status int32, header Header, payload []byte, ranges []BufferRange) Status {
	if len(ranges) >= C.RDE_PIECES_MAX {
		return StatusInvalidArgument
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	pieces := make([]C.rde_piece, 0, 4)
	if len(payload) > 0 {
		pin.Pin(unsafe.SliceData(payload))
		pieces = append(pieces, C.rde_piece{data: unsafe.Pointer(unsafe.SliceData(payload)), length: C.size_t(len(payload))})
	}
	for _, r := range ranges {
		pieces = append(pieces, C.rde_piece{length: C.size_t(r.Length), buffer: C.rde_buffer{C.uint64_t(r.Buffer.id)},
			buffer_offset: C.uint64_t(r.Offset)})
	}
	travels := C.rde_rpc_header{offset: C.uint64_t(header.Offset), len: C.uint64_t(header.Len), flags: C.uint32_t(header.Flags)}
	return Status(C.rde_call_reply(incoming(call), C.int32_t(status), &travels, unsafe.SliceData(pieces), C.uint32_t(len(pieces))))
}

func callRefuse(call uint64, status Status, retryAfter time.Duration) Status {
	return Status(C.rde_call_refuse(incoming(call), C.int32_t(status), C.uint32_t(retryAfter.Microseconds())))
}

func callRelease(call uint64) { C.rde_call_release(incoming(call)) }

// prepared is the request that the library itself makes of a call's numbers, for a test of ours.
func prepared(session uint64, method uint32, header Header, timeoutUS uint32, reply uint64) (r request) {
	arguments := C.rde_call_arguments{struct_size: C.sizeof_rde_call_arguments, method: C.uint32_t(method),
		timeout_us: C.uint32_t(timeoutUS), reply: C.rde_buffer{C.uint64_t(reply)}, reply_offset: 3, reply_capacity: 4,
		header: C.rde_rpc_header{C.uint64_t(header.Offset), C.uint64_t(header.Len), C.uint32_t(header.Flags), 0}}
	C.rde_call_prepare(C.rde_session{C.uint64_t(session)}, &arguments, (*C.rde_request)(unsafe.Pointer(&r)))
	return r
}

// Go's numbers of an exporter's method and flags are the header's.
const (
	_ = -(uintptr(methodNeedle) ^ uintptr(C.RDE_METHOD_NEEDLE))
	_ = -(uintptr(methodMemory) ^ uintptr(C.RDE_METHOD_NEEDLE_MEMORY))
	_ = -(uintptr(placeBytes) ^ uintptr(C.sizeof_rde_needle_place))
	_ = -(uintptr(readPlaced) ^ uintptr(C.RDE_VOLUME_PLACED))
	_ = -(uintptr(readUnchecked) ^ uintptr(C.RDE_VOLUME_UNCHECKED))
	_ = -(uintptr(needlePlaced) ^ uintptr(C.RDE_NEEDLE_PLACED))
	_ = -(uintptr(needleUnchecked) ^ uintptr(C.RDE_NEEDLE_UNCHECKED))
	_ = -(uintptr(methodNeedles) ^ uintptr(C.RDE_METHOD_NEEDLES))
	_ = -(uintptr(NeedlePortOffset) ^ uintptr(C.RDE_NEEDLE_PORT_OFFSET))
	_ = -(uintptr(needlesMax) ^ uintptr(C.RDE_NEEDLES_MAX))
	_ = -(uintptr(needlesBytesMax) ^ uintptr(C.RDE_NEEDLES_BYTES_MAX))
	_ = -(uintptr(rowBytes) ^ uintptr(C.sizeof_rde_needle_result))
	_ = -(uintptr(readLive) ^ uintptr(C.RDE_VOLUME_LIVE))
	_ = -(uintptr(readStored) ^ uintptr(C.RDE_VOLUME_STORED))
	_ = -(uintptr(readRange) ^ uintptr(C.RDE_VOLUME_RANGE))
	_ = -(uintptr(readStat) ^ uintptr(C.RDE_VOLUME_STAT))
	_ = -(uintptr(needleCompressed) ^ uintptr(C.RDE_NEEDLE_COMPRESSED))
	_ = -(uintptr(needleManifest) ^ uintptr(C.RDE_NEEDLE_CHUNK_MANIFEST))
	_ = -(uintptr(needleDeleted) ^ uintptr(C.RDE_NEEDLE_DELETED))
)

func exporterOpen(context uint64, address, dir string, o *ExportOptions) (uint64, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	options := C.rde_exporter_options{struct_size: C.sizeof_rde_exporter_options, threads: C.uint32_t(o.Threads)}
	if o.IndexDir != "" {
		pin.Pin(unsafe.StringData(o.IndexDir))
		options.index_dir = text(o.IndexDir)
	}
	if len(o.ReadKey) > 0 {
		pin.Pin(unsafe.SliceData(o.ReadKey))
		options.read_key = C.rdego_bytes(unsafe.Pointer(unsafe.SliceData(o.ReadKey)), C.size_t(len(o.ReadKey)))
	}
	var exporter C.rde_exporter
	var e C.rde_error
	status := C.rde_exporter_open(C.rde_context{C.uint64_t(context)}, text(address), text(dir), &options, &exporter, &e)
	return uint64(exporter.id), failure("export", status, &e)
}

func exporterAdd(exporter uint64, dir, indexDir string) error {
	var e C.rde_error
	return failure("export", C.rde_exporter_add(C.rde_exporter{C.uint64_t(exporter)}, text(dir), text(indexDir), &e), &e)
}

func exporterAddress(exporter uint64) string {
	var text [C.RDE_ADDRESS_MAX + 1]C.char
	var length C.size_t
	if C.rde_exporter_address(C.rde_exporter{C.uint64_t(exporter)}, &text[0], C.size_t(len(text)), &length) != C.RDE_STATUS_OK {
		return ""
	}
	return C.GoStringN(&text[0], C.int(length))
}

func exporterClose(exporter uint64) { C.rde_exporter_close(C.rde_exporter{C.uint64_t(exporter)}) }
