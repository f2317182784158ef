// Code generated from src/status.rs by `make header`. DO NOT EDIT.

package rdmaengine

const (
	// StatusOK: done.
	StatusOK Status = 0
	// StatusNotReady: nothing to do now.
	StatusNotReady Status = 1
	// StatusInvalidArgument: invalid argument.
	StatusInvalidArgument Status = -1
	// StatusStaleHandle: the handle is closed or was never created.
	StatusStaleHandle Status = -2
	// StatusWrongState: the object's state does not allow this.
	StatusWrongState Status = -3
	// StatusQueueFull: a queue is full: poll, then submit again.
	StatusQueueFull Status = -4
	// StatusOutOfMemory: out of memory, or over the context's memory limit.
	StatusOutOfMemory Status = -5
	// StatusOutOfRange: offset or length past the end.
	StatusOutOfRange Status = -6
	// StatusNotFound: not found.
	StatusNotFound Status = -7
	// StatusAlreadyExists: already exists, or address in use.
	StatusAlreadyExists Status = -8
	// StatusPermissionDenied: the key does not grant this.
	StatusPermissionDenied Status = -9
	// StatusUnsupported: not available on this machine.
	StatusUnsupported Status = -10
	// StatusTruncated: the output is too small.
	StatusTruncated Status = -11
	// StatusRevoked: the key was revoked.
	StatusRevoked Status = -12
	// StatusLimitReached: a configured limit is reached.
	StatusLimitReached Status = -13
	// StatusTimedOut: timed out.
	StatusTimedOut Status = -20
	// StatusCanceled: cancelled.
	StatusCanceled Status = -21
	// StatusUnreachable: nobody answers at the address.
	StatusUnreachable Status = -22
	// StatusConnectionLost: the peer died or was cut off.
	StatusConnectionLost Status = -23
	// StatusIO: the operating system reported an error.
	StatusIO Status = -24
	// StatusTransport: UCX reported an error.
	StatusTransport Status = -25
	// StatusProtocol: the peer broke the protocol or speaks another version.
	StatusProtocol Status = -26
	// StatusSettingsMismatch: the peer's UCX settings differ from ours.
	StatusSettingsMismatch Status = -27
	// StatusUnknownMethod: the peer serves no such method.
	StatusUnknownMethod Status = -28
	// StatusABIMismatch: built against another ABI version.
	StatusABIMismatch Status = -90
	// StatusInternal: a defect of the library.
	StatusInternal Status = -98
	// StatusPanic: a defect of the library was contained: close the object.
	StatusPanic Status = -99
	// StatusCorrupted: stored data is damaged.
	StatusCorrupted Status = -30
	// StatusDeleted: it was deleted.
	StatusDeleted Status = -31
	// StatusCookieMismatch: the cookie is not the stored one.
	StatusCookieMismatch Status = -32
	// StatusExpired: its time to live has passed.
	StatusExpired Status = -33
	// StatusIneligible: this path cannot serve it: use HTTP.
	StatusIneligible Status = -35
	// StatusStale: the files changed underneath: look it up again.
	StatusStale Status = -36
	// StatusUnauthorized: the token does not allow this.
	StatusUnauthorized Status = -37
	// StatusBusy: busy: try again, or use HTTP.
	StatusBusy Status = -38
	// StatusExpiredTerm: another writer has taken over.
	StatusExpiredTerm Status = -39
)

var statusTable = map[Status]struct{ name, text string }{
	StatusOK:               {"OK", "done"},
	StatusNotReady:         {"NOT_READY", "nothing to do now"},
	StatusInvalidArgument:  {"INVALID_ARGUMENT", "invalid argument"},
	StatusStaleHandle:      {"STALE_HANDLE", "the handle is closed or was never created"},
	StatusWrongState:       {"WRONG_STATE", "the object's state does not allow this"},
	StatusQueueFull:        {"QUEUE_FULL", "a queue is full: poll, then submit again"},
	StatusOutOfMemory:      {"OUT_OF_MEMORY", "out of memory, or over the context's memory limit"},
	StatusOutOfRange:       {"OUT_OF_RANGE", "offset or length past the end"},
	StatusNotFound:         {"NOT_FOUND", "not found"},
	StatusAlreadyExists:    {"ALREADY_EXISTS", "already exists, or address in use"},
	StatusPermissionDenied: {"PERMISSION_DENIED", "the key does not grant this"},
	StatusUnsupported:      {"UNSUPPORTED", "not available on this machine"},
	StatusTruncated:        {"TRUNCATED", "the output is too small"},
	StatusRevoked:          {"REVOKED", "the key was revoked"},
	StatusLimitReached:     {"LIMIT_REACHED", "a configured limit is reached"},
	StatusTimedOut:         {"TIMED_OUT", "timed out"},
	StatusCanceled:         {"CANCELED", "cancelled"},
	StatusUnreachable:      {"UNREACHABLE", "nobody answers at the address"},
	StatusConnectionLost:   {"CONNECTION_LOST", "the peer died or was cut off"},
	StatusIO:               {"IO", "the operating system reported an error"},
	StatusTransport:        {"TRANSPORT", "UCX reported an error"},
	StatusProtocol:         {"PROTOCOL", "the peer broke the protocol or speaks another version"},
	StatusSettingsMismatch: {"SETTINGS_MISMATCH", "the peer's UCX settings differ from ours"},
	StatusUnknownMethod:    {"UNKNOWN_METHOD", "the peer serves no such method"},
	StatusABIMismatch:      {"ABI_MISMATCH", "built against another ABI version"},
	StatusInternal:         {"INTERNAL", "a defect of the library"},
	StatusPanic:            {"PANIC", "a defect of the library was contained: close the object"},
	StatusCorrupted:        {"CORRUPTED", "stored data is damaged"},
	StatusDeleted:          {"DELETED", "it was deleted"},
	StatusCookieMismatch:   {"COOKIE_MISMATCH", "the cookie is not the stored one"},
	StatusExpired:          {"EXPIRED", "its time to live has passed"},
	StatusIneligible:       {"INELIGIBLE", "this path cannot serve it: use HTTP"},
	StatusStale:            {"STALE", "the files changed underneath: look it up again"},
	StatusUnauthorized:     {"UNAUTHORIZED", "the token does not allow this"},
	StatusBusy:             {"BUSY", "busy: try again, or use HTTP"},
	StatusExpiredTerm:      {"EXPIRED_TERM", "another writer has taken over"},
}
