package seaweedfs

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	util_http "github.com/seaweedfs/seaweedfs/weed/util/http"

	"rdma-engine/rdmaengine"
)

// FetchFunc is the type of SeaweedFS's util_http.RetriedFetchChunkData: it fills `buffer` with a chunk's clear bytes from
// `offset` on, from one of the volume servers that the URLs name.
type FetchFunc func(ctx context.Context, buffer []byte, urlStrings []string, cipherKey []byte, isGzipped bool,
	isFullChunk bool, offset int64, fileId string, refreshUrls util_http.RefreshUrlsFunc) (n int, err error)

// FetchChunk wraps a function that fetches chunks, util_http.RetriedFetchChunkData if `next` is nil. The engine reads what is
// neither encrypted nor a part of something compressed, from the first volume server with an exporter; everything else goes
// to `next`, and so does every read that the engine does not fill `buffer` with exactly. What `next` says is returned as it
// is.
func (r *Reader) FetchChunk(next FetchFunc) FetchFunc {
	if next == nil {
		next = util_http.RetriedFetchChunkData
	}
	return func(ctx context.Context, buffer []byte, urls []string, cipherKey []byte, isGzipped, isFullChunk bool,
		offset int64, fileID string, refresh util_http.RefreshUrlsFunc) (int, error) {
		if cipherKey == nil && (isFullChunk || !isGzipped) && r.fetch(ctx, buffer, urls, isFullChunk, offset, fileID) {
			return len(buffer), nil
		}
		r.stats.passed.Add(1)
		return next(ctx, buffer, urls, cipherKey, isGzipped, isFullChunk, offset, fileID, refresh)
	}
}

// fetch fills the buffer, or says that it has not.
func (r *Reader) fetch(ctx context.Context, buffer []byte, urls []string, whole bool, offset int64, fileID string) bool {
	if r.closed.Load() || len(buffer) == 0 || offset < 0 || !r.take() {
		return false
	}
	defer r.give()
	to, session := r.first(urls)
	if session == nil {
		return false
	}
	started := time.Now()
	options := rdmaengine.NeedleOptions{Token: r.options.Token(fileID), Length: int64(len(buffer))}
	if !whole {
		options.Part, options.Offset = true, offset
	}
	needle, err := r.read(ctx, to, session, fileID, options)
	if err != nil {
		r.stats.failed(err)
		return false
	}
	defer needle.Release()
	if err := fill(buffer, &needle, whole); err != nil {
		r.stats.failed(err)
		return false
	}
	r.stats.done(started, len(buffer))
	return true
}

// first returns the session to the first volume server that has one, in the order in which SeaweedFS would ask.
func (r *Reader) first(urls []string) (*peer, *rdmaengine.Session) {
	if len(urls) == 0 || util_http.IsProxyChunkUrl(urls[0]) {
		return nil, nil
	}
	for _, text := range util_http.ReachableFirst(urls) {
		server := serverOf(text)
		if server == "" {
			continue
		}
		if to, session := r.peers.open(server); session != nil {
			return to, session
		}
	}
	return nil, nil
}

// serverOf is "host:port" of a chunk's URL, "" if there is none.
func serverOf(text string) string {
	_, rest, _ := strings.Cut(text, "://")
	host, _, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(host, "@?#%") {
		return ""
	}
	return host
}

var errLength = errors.New("seaweedfs: the needle has another length than what is asked for")

// fill copies exactly len(buffer) clear bytes, or fails.
func fill(buffer []byte, needle *rdmaengine.Needle, whole bool) error {
	data := needle.Bytes()
	if needle.Compressed && whole {
		return inflate(buffer, data)
	}
	if needle.Compressed || len(data) != len(buffer) || needle.Length != len(data) ||
		whole && needle.DataLength != int64(len(buffer)) {
		return errLength
	}
	copy(buffer, data)
	return nil
}

// inflate fills the buffer with what gzip data is, to its end.
func inflate(buffer, data []byte) error {
	from, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(from, buffer); err != nil {
		return err
	}
	// The end is read as well: the checksum is there.
	var more [1]byte
	if n, err := from.Read(more[:]); n != 0 || err != io.EOF {
		return errLength
	}
	return nil
}
