package rdmaengine

import "time"

// Options of an engine. The zero value of each field takes its default.
type Options struct {
	// Name is shown to peers and in metrics; at most 64 bytes.
	Name string
	// Devices are UCX network devices, such as "mlx5_0:1,eth0"; empty takes those that the addresses in use belong to.
	Devices string
	// Transports that may be used; 0 is all.
	Transports Transport
	// Ways that gets and puts may go; 0 is all.
	Ways Way
	// MemoryLimit is how many bytes of registered memory may be allocated; 0 is 1 GiB.
	MemoryLimit int64
	// MaxSessions bounds sessions, dialled and accepted; 0 is 10,000.
	MaxSessions int
	// MaxExports bounds keys that are exported at a time; 0 is 100,000.
	MaxExports int
	// MaxMessage is the longest message that a session sends or takes, in bytes; 0 is 16 MiB.
	MaxMessage int64
	// Keepalive: a peer that is silent for this long is lost; 0 is 3 s.
	Keepalive time.Duration
	// ConnectTimeout: until a dial gives up; 0 is 5 s.
	ConnectTimeout time.Duration
	// IdleTimeout: a session without an operation for this long is closed; 0 is never.
	IdleTimeout time.Duration
	// Spin is how long a goroutine that waits polls by itself before it parks; 0 is 50 µs, negative is not at all. For a batch
	// of needles it polls longer, by 3 µs a needle and at most by 500 µs. Once several waits of a kind in a row took longer, it
	// polls less and then not at all, until one does not.
	Spin time.Duration
	// DialThread: sessions that are dialled make progress in a thread of the library, as accepted ones always do. By
	// default they make it in the goroutines that wait: faster, but a process whose goroutines keep every processor
	// busy then serves its peers on those sessions only now and then.
	DialThread bool
}

// Transport is a set of transports.
type Transport uint32

const (
	// TransportShared is shared memory, for peers on this host.
	TransportShared Transport = 1 << iota
	// TransportTCP is TCP.
	TransportTCP
	// TransportRDMA is InfiniBand and RoCE, where UCX finds a device.
	TransportRDMA
)

// Way is a way that gets and puts go, or a set of them.
type Way uint32

const (
	// WayMapped: the peer's memory is mapped, and a get is a load.
	WayMapped Way = 1 << iota
	// WayRMA: UCX RMA.
	WayRMA
	// WayMessage: messages to the peer's engine, which checks and copies.
	WayMessage
)

// Rights are what a key grants.
type Rights uint32

const (
	// RightRead grants gets.
	RightRead Rights = 1 << iota
	// RightWrite grants puts.
	RightWrite
	// RightAtomic grants FetchAdd and CompareSwap.
	RightAtomic
)
