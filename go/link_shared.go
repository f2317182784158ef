//go:build cgo && linux && !rdma_engine_static

package rdmaengine

// #cgo pkg-config: rdma_engine
import "C"
