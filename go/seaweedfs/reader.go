package seaweedfs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seaweedfs/seaweedfs/weed/security"
	"github.com/seaweedfs/seaweedfs/weed/util"
	util_http "github.com/seaweedfs/seaweedfs/weed/util/http"

	"rdma-engine/rdmaengine"
)

// PortOffset is where a volume server's exporter listens: this much above its HTTP port.
const PortOffset = rdmaengine.NeedlePortOffset

// Options of a reader; the zero value of each field takes its default.
type Options struct {
	// Engine options, for the engine that the reader opens.
	Engine rdmaengine.Options
	// PortOffset from a volume server's HTTP port to its exporter's; 0 is PortOffset.
	PortOffset int
	// Address of the exporter of the volume server at "host:port", in the form to dial; "" is none. nil: the port offset.
	Address func(server string) string
	// Timeout of one read through the engine; 0 is 5 s.
	Timeout time.Duration
	// MaxConcurrent reads through the engine; FetchChunk's and Transport's that are more go to HTTP. 0 is 1024.
	MaxConcurrent int
	// Forget: how long at most a volume server without an exporter is not asked again; 0 is 30 s. It is 100 ms at first and
	// doubles with each failure.
	Forget time.Duration
	// Token that authorises the read of a file id; nil: made with the read key of SeaweedFS's security.toml, if it has one.
	Token func(fileID string) string
	// Plain permits the engine although SeaweedFS is set up for https: the engine's bytes are not encrypted.
	Plain bool
}

// Reader reads needles from volume servers through the engine. Its methods may be called by many goroutines.
type Reader struct {
	engine  *rdmaengine.Engine
	options Options
	peers   peers
	slots   chan struct{}
	stats   counters
	closed  atomic.Bool
	once    sync.Once
}

// NewReader opens an engine and a reader over it. Without the library or without UCX the error is
// rdmaengine.ErrUnsupported.
func NewReader(options Options) (*Reader, error) {
	if options.PortOffset == 0 {
		options.PortOffset = PortOffset
	}
	if options.Timeout == 0 {
		options.Timeout = 5 * time.Second
	}
	if options.MaxConcurrent == 0 {
		options.MaxConcurrent = 1024
	}
	if options.Forget == 0 {
		options.Forget = 30 * time.Second
	}
	if options.PortOffset < 0 || options.Timeout < 0 || options.MaxConcurrent < 0 || options.Forget < 0 {
		return nil, errors.New("seaweedfs: an option of the reader is negative")
	}
	if !options.Plain && util_http.GetGlobalHttpClient().GetHttpScheme() == "https" {
		return nil, errors.New("seaweedfs: security.toml asks for https, and the engine does not encrypt; Plain permits it")
	}
	if options.Token == nil {
		util.LoadSecurityConfiguration()
		options.Token = readToken
	}
	engine, err := rdmaengine.Open(options.Engine)
	if err != nil {
		return nil, err
	}
	r := &Reader{engine: engine, options: options, slots: make(chan struct{}, options.MaxConcurrent)}
	r.peers.init(engine, &r.options)
	return r, nil
}

// Close ends every session; reads that run fail, or go to HTTP. A second Close does nothing.
func (r *Reader) Close() error {
	var err error
	r.once.Do(func() {
		r.closed.Store(true)
		err = r.engine.Close()
	})
	return err
}

// Connect makes sure that there is a session to the exporter of the volume server at "host:port", or says why not. Nobody
// has to call it: reads connect by themselves.
func (r *Reader) Connect(ctx context.Context, server string) error {
	_, err := r.peers.connect(ctx, server)
	return err
}

// readKey is what security.toml says of reads; it is looked at once a second, because it can be changed.
type readKey struct {
	key     string
	expires int
	until   time.Time
}

var readKeyNow atomic.Pointer[readKey]

// readToken makes the token of a file id, as SeaweedFS does for its own reads.
func readToken(fileID string) string {
	known := readKeyNow.Load()
	if known == nil || time.Now().After(known.until) {
		config := util.GetViper()
		known = &readKey{config.GetString("jwt.signing.read.key"),
			config.GetInt("jwt.signing.read.expires_after_seconds"), time.Now().Add(time.Second)}
		readKeyNow.Store(known)
	}
	if known.key == "" {
		return ""
	}
	return string(security.GenJwtForVolumeServer(security.SigningKey(known.key), known.expires, fileID))
}

// take takes a place among the reads that may run at once.
func (r *Reader) take() bool {
	select {
	case r.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (r *Reader) give() { <-r.slots }

// lost tells whether a session that answered like this is of no use any more.
func lost(err error) bool {
	for _, status := range []rdmaengine.Status{rdmaengine.StatusConnectionLost, rdmaengine.StatusStaleHandle,
		rdmaengine.StatusUnknownMethod} {
		if errors.Is(err, status) {
			return true
		}
	}
	return errors.Is(err, rdmaengine.ErrClosed)
}

// read reads a needle through a peer's session.
func (r *Reader) read(ctx context.Context, to *peer, s *rdmaengine.Session, fileID string,
	options rdmaengine.NeedleOptions) (rdmaengine.Needle, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.options.Timeout)
		defer cancel()
	}
	needle, err := s.ReadNeedle(ctx, fileID, options)
	if err != nil && lost(err) {
		to.drop(s)
	}
	return needle, err
}
