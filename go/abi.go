package rdmaengine

// Structures of the C ABI, in Go: arrays of them lie in C memory. native_cgo.go asserts that they are laid out alike.

// request is rde_request. Addresses are numbers here: they point to C memory only.
type request struct {
	userData     uint64
	session      uint64
	op           uint16
	flags        uint16
	timeoutUS    uint32
	buffer       uint64
	bufferOffset uint64
	length       uint64
	region       uint64
	regionOffset uint64
	data         uintptr
	dataLen      uint64
	operand      uint64
	compare      uint64
}

// completion is rde_completion.
type completion struct {
	userData uint64
	op       uint32
	status   int32
	length   uint64
	value    uint64
	flags    uint32
	detail   int32
	data     [inlineBytes]byte
}

// exchange is rdego_exchange of native.h: what one crossing into C takes and brings.
type exchange struct {
	worker       uint64
	requests     uintptr
	completions  uintptr
	count        uint32 // requests to submit
	capacity     uint32 // of completions
	rounds       uint32 // polls to try for a first completion
	interrupt    uint32 // set by others, atomically: leave, there is something to submit
	accepted     uint32
	got          uint32
	submitStatus Status
	pollStatus   Status
}

const (
	inlineBytes = 24
	keyBytes    = 64

	opGet           = 1
	opPut           = 2
	opFlush         = 3
	opFetchAdd      = 4
	opCompareSwap   = 5
	opSend          = 6
	opRegionImport  = 7
	opConnect       = 8
	opCall          = 9
	opOneWay        = 10
	eventAccepted   = 32
	eventClosed     = 33
	eventMessage    = 34
	eventCalled     = 35
	eventCanceled   = 36
	completedInline = 1 << 0
	completedEvent  = 1 << 1
	completedSum    = 1 << 2 // `value` is the CRC-32C of what came

	requestSum = 1 << 1 // of a call: count its reply's payload, where that is cheap

	workerPolled = 1 << 0
	workerCalls  = 1 << 2
)

const (
	queued    = 256      // requests of one array
	taken     = 256      // completions of one poll
	textBytes = 64 << 10 // bytes of messages and keys beside an array of requests
	textMax   = 4 << 10  // longest message that is copied there
)

// arrays is the C memory that a pump exchanges through. Two arrays of requests: one is filled while the other is
// submitted. Addresses are beside the slices because Go must not hold them in requests as pointers.
type arrays struct {
	exchange    *exchange
	requests    [2][]request
	requestsAt  [2]uintptr
	text        [2][]byte
	textAt      [2]uintptr
	completions []completion
}
