// Package seaweedfs reads SeaweedFS needles through rdma-engine instead of HTTP, and serves them from a volume server's own
// process.
//
// A [Reader] is the client: [Reader.FetchChunk] wraps SeaweedFS's function that fetches a chunk, [Reader.Transport] its HTTP
// client's transport. What is not eligible, and whatever fails, goes to what is wrapped, so that a program reads the same
// bytes with a reader as without one. An [Exporter] is the server; the command weed-rdma is SeaweedFS's own weed with both.
package seaweedfs
