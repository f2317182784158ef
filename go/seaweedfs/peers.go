package seaweedfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seaweedfs/seaweedfs/weed/glog"

	"rdma-engine/rdmaengine"
)

// peersMax bounds the volume servers that are known; those beyond are read over HTTP.
const peersMax = 10_000

// forgetFirst: how long a volume server is left alone after its first failure; it doubles up to Options.Forget.
const forgetFirst = 100 * time.Millisecond

var (
	errNoExporter = errors.New("seaweedfs: the volume server has no exporter")
	errTooMany    = errors.New("seaweedfs: too many volume servers, or reads at once")
)

// peers are the volume servers that were asked for an exporter, and the sessions to those that have one.
type peers struct {
	engine  *rdmaengine.Engine
	options *Options
	all     sync.Map // "host:port" of a volume server to its *peer
	count   atomic.Int64
}

// peer is a volume server. Its session is shared by all reads; the engine's sessions to one peer share what lies below.
type peer struct {
	owner   *peers
	address string
	session atomic.Pointer[rdmaengine.Session]

	mu       sync.Mutex
	dialing  chan struct{} // closed when the dial that runs has ended
	until    time.Time     // not asked again before
	failures int
	why      error // of the last failure
}

func (p *peers) init(engine *rdmaengine.Engine, options *Options) {
	p.engine, p.options = engine, options
}

// find returns the volume server's peer, nil when there are too many.
func (p *peers) find(server string) *peer {
	if known, ok := p.all.Load(server); ok {
		return known.(*peer)
	}
	if p.count.Load() >= peersMax {
		return nil
	}
	known, found := p.all.LoadOrStore(server, &peer{owner: p, address: p.address(server)})
	if !found {
		p.count.Add(1)
	}
	return known.(*peer)
}

// address is where a volume server's exporter listens, "" if it cannot have one.
func (p *peers) address(server string) string {
	if p.options.Address != nil {
		return p.options.Address(server)
	}
	host, port, err := net.SplitHostPort(server)
	number, numberErr := strconv.Atoi(port)
	if err != nil || numberErr != nil || number+p.options.PortOffset > 65535 {
		return ""
	}
	return "tcp://" + net.JoinHostPort(host, strconv.Itoa(number+p.options.PortOffset))
}

// open returns the session to a volume server's exporter if there is one; else it has one dialled, unless that failed a
// short time ago, and returns nil. It never waits.
func (p *peers) open(server string) (*peer, *rdmaengine.Session) {
	to := p.find(server)
	if to == nil || to.address == "" {
		return nil, nil
	}
	if s := to.session.Load(); s != nil {
		return to, s
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.dialing == nil && to.session.Load() == nil && time.Now().After(to.until) {
		to.dial()
	}
	return to, nil
}

// connect returns the session to a volume server's exporter, and waits for it to be dialled.
func (p *peers) connect(ctx context.Context, server string) (*peer, error) {
	to := p.find(server)
	switch {
	case to == nil:
		return nil, errTooMany
	case to.address == "":
		return nil, errNoExporter
	}
	for to.session.Load() == nil {
		to.mu.Lock()
		if to.session.Load() != nil {
			to.mu.Unlock()
			break
		}
		if to.dialing == nil {
			if time.Now().Before(to.until) {
				defer to.mu.Unlock()
				return nil, fmt.Errorf("%w at %s: %w", errNoExporter, to.address, to.why)
			}
			to.dial()
		}
		dialing := to.dialing
		to.mu.Unlock()
		select {
		case <-dialing:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return to, nil
}

// dial starts a dial. The caller holds mu.
func (to *peer) dial() {
	done := make(chan struct{})
	to.dialing = done
	go func() {
		defer close(done)
		s, err := to.owner.engine.Dial(context.Background(), to.address)
		to.mu.Lock()
		defer to.mu.Unlock()
		to.dialing, to.why = nil, err
		if err == nil {
			to.session.Store(s)
			to.failures = 0
			glog.V(0).Infof("rdma: chunks are read from %s", to.address)
			return
		}
		to.until = time.Now().Add(min(forgetFirst<<min(to.failures, 20), to.owner.options.Forget))
		to.failures++
	}()
}

// drop lets a session go that is of no use any more; the next read has another one dialled.
func (to *peer) drop(s *rdmaengine.Session) {
	if to.session.CompareAndSwap(s, nil) {
		go s.Close()
	}
}
