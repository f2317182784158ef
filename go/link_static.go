//go:build cgo && linux && rdma_engine_static

package rdmaengine

// In a file of its own: Go's cache tells builds apart by their files, not by what pkg-config says.

// #cgo pkg-config: rdma_engine_static
import "C"
