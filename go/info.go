package rdmaengine

import "strings"

// Info is what an engine found and is bound by.
type Info struct {
	// Version of the library that was loaded.
	Version string
	// UCX is UCX's version, UCXPath where it was loaded from.
	UCX, UCXPath string
	// Transports are UCX's, as far as the options allow them and this machine has them; Devices are theirs.
	Transports, Devices []string
	// Sessions now, and their limit.
	Sessions, MaxSessions int
	// MemoryLimit bounds registered memory; MemoryUsed is handed out; MemoryRetired is revoked, but a peer may still
	// have it mapped; MemoryHuge lies on huge pages. Bytes.
	MemoryLimit, MemoryUsed, MemoryRetired, MemoryHuge int64
}

// SessionInfo is what a session tells about itself.
type SessionInfo struct {
	// Local: the peer runs on this host and shared memory carries the session.
	Local bool
	// Accepted: the peer dialled us.
	Accepted bool
	// State of its life.
	State SessionState
	// PeerPID is the peer's process id as it told us.
	PeerPID int
	// PeerName is the name of the peer's engine.
	PeerName string
	// Transport names the UCX transports below.
	Transport string
	// Address that was dialled, or the peer's own.
	Address string
	// Operations and Bytes of gets and puts that went each way: mapped, RMA, message.
	Operations, Bytes [3]uint64
}

// SessionState is a place in a session's life.
type SessionState uint32

const (
	// SessionConnecting: dialling, or waiting for the peer's worker.
	SessionConnecting SessionState = iota
	// SessionOpen: operations may go.
	SessionOpen
	// SessionClosing: closed by us; its operations are ending.
	SessionClosing
	// SessionClosed: ended in order.
	SessionClosed
	// SessionLost: the peer was lost.
	SessionLost
)

// RegionInfo is what a region tells about itself.
type RegionInfo struct {
	// Length in bytes of the range that its key grants.
	Length int64
	// Rights that its key grants.
	Rights Rights
	// Way that its gets and puts go.
	Way Way
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return c == ',' })
}
