package seaweedfs

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seaweedfs/seaweedfs/weed/security"

	"rdma-engine/rdmaengine"
)

// Transport wraps the transport of SeaweedFS's HTTP client, so that a mount, a filer or an S3 gateway reads chunks through
// the engine without a change to SeaweedFS:
//
//	client := util_http.GetGlobalHttpClient().Client
//	client.Transport = reader.Transport(client.Transport)
//
// It answers requests for a needle as SeaweedFS's readers of chunks make them: GET /volume,fileid?readDeleted=true, whole or
// one range. Everything else, and everything that the engine does not answer in full, goes to `next`.
func (r *Reader) Transport(next http.RoundTripper) http.RoundTripper {
	return &transport{reader: r, next: next}
}

type transport struct {
	reader *Reader
	next   http.RoundTripper
}

func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	wanted, eligible := wantedOf(request)
	if eligible {
		if response := t.reader.answer(request, &wanted); response != nil {
			return response, nil
		}
	}
	if eligible || strings.Contains(request.URL.Path, ",") && request.Method == http.MethodGet {
		t.reader.stats.passed.Add(1)
	}
	return t.next.RoundTrip(request)
}

// CloseIdleConnections is for http.Client's.
func (t *transport) CloseIdleConnections() {
	if next, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

// wanted is what a request asks for.
type wanted struct {
	fileID, token string
	part          bool
	offset, end   int64 // the last byte
	gzip          bool  // compressed data may be answered as it is
}

// wantedOf says what a request asks for, if it is one that the engine may answer.
func wantedOf(request *http.Request) (w wanted, ok bool) {
	if request.Method != http.MethodGet || request.URL.Scheme != "http" || request.Body != nil && request.Body != http.NoBody {
		return w, false
	}
	w.fileID = strings.TrimPrefix(request.URL.Path, "/")
	if volume, file, found := strings.Cut(w.fileID, ","); !found || volume == "" || strings.ContainsAny(file, "/.,") {
		return w, false
	}
	query := request.URL.RawQuery
	if query != "readDeleted=true" {
		values, err := url.ParseQuery(query)
		if err != nil || values.Get("readDeleted") != "true" {
			return w, false
		}
		for name := range values {
			if name != "readDeleted" && name != "jwt" {
				return w, false
			}
		}
	}
	for name := range request.Header {
		switch name {
		case "Authorization", "User-Agent", "Range", "Accept-Encoding", "X-Amz-Request-Id", "X-Request-Id":
		default:
			return w, false
		}
	}
	w.token = string(security.GetJwt(request))
	w.gzip = strings.Contains(request.Header.Get("Accept-Encoding"), "gzip")
	if text := request.Header.Get("Range"); text != "" {
		return w, w.ranged(text)
	}
	return w, true
}

// ranged takes a range with both ends.
func (w *wanted) ranged(text string) bool {
	first, last, found := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	var firstErr, lastErr error
	w.offset, firstErr = strconv.ParseInt(first, 10, 64)
	w.end, lastErr = strconv.ParseInt(last, 10, 64)
	w.part = true
	return found && strings.HasPrefix(text, "bytes=") && firstErr == nil && lastErr == nil && w.offset <= w.end &&
		w.end-w.offset < 1<<31
}

// answer reads what is wanted and makes a response of it; nil: use HTTP.
func (r *Reader) answer(request *http.Request, w *wanted) *http.Response {
	if r.closed.Load() || !r.take() {
		return nil
	}
	defer r.give()
	to, session := r.peers.open(request.URL.Host)
	if session == nil {
		return nil
	}
	started := time.Now()
	options := rdmaengine.NeedleOptions{Token: w.token}
	if w.part {
		options.Part, options.Offset, options.Length = true, w.offset, w.end-w.offset+1
	}
	needle, err := r.read(request.Context(), to, session, w.fileID, options)
	if err != nil {
		r.stats.failed(err)
		return nil
	}
	if needle.Manifest || needle.Compressed && (w.part || !w.gzip) || !w.fits(&needle) {
		needle.Release()
		r.stats.failed(errLength)
		return nil
	}
	r.stats.done(started, needle.Length)
	return respond(request, w, needle)
}

// fits says whether an answer has all that is wanted, as far as the needle goes.
func (w *wanted) fits(needle *rdmaengine.Needle) bool {
	length := needle.DataLength
	if w.part {
		length = min(w.end+1, needle.DataLength) - w.offset
	}
	return length >= 0 && int64(needle.Length) == length && len(needle.Bytes()) == needle.Length
}

func respond(request *http.Request, w *wanted, needle rdmaengine.Needle) *http.Response {
	header := http.Header{"Content-Type": {"application/octet-stream"}, "Accept-Ranges": {"bytes"}}
	response := &http.Response{Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, ContentLength: int64(needle.Length), Request: request}
	header.Set("Content-Length", strconv.Itoa(needle.Length))
	if needle.LastModified > 0 {
		header.Set("Last-Modified", time.Unix(needle.LastModified, 0).UTC().Format(http.TimeFormat))
	}
	if needle.Compressed {
		header.Set("Content-Encoding", "gzip")
	}
	if w.part {
		response.Status, response.StatusCode = "206 Partial Content", http.StatusPartialContent
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", w.offset, w.offset+int64(needle.Length)-1, needle.DataLength))
	}
	response.Body = &body{needle: needle, rest: needle.Bytes()}
	return response
}

// body gives out a needle's bytes until it is closed, and then their memory back.
type body struct {
	mu     sync.Mutex
	needle rdmaengine.Needle
	rest   []byte
	closed bool
}

var errBodyClosed = errors.New("seaweedfs: read of a body that is closed")

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0, errBodyClosed
	}
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed, b.rest = true, nil
		b.needle.Release()
	}
	return nil
}
