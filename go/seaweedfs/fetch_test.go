package seaweedfs

import (
	"context"
	"errors"
	"testing"
	"time"

	util_http "github.com/seaweedfs/seaweedfs/weed/util/http"

	"rdma-engine/rdmaengine"
)

func must[T any](t testing.TB) func(value T, err error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// pair is an exporter of an empty folder, and a reader that finds it whatever the volume server.
func pair(t *testing.T) (*Exporter, *Reader) {
	x := must[*Exporter](t)(Export(ExportOptions{Address: "tcp://127.0.0.1:0", Dirs: []string{t.TempDir(), t.TempDir()}}))
	t.Cleanup(func() { x.Close() })
	r := must[*Reader](t)(NewReader(Options{Address: func(string) string { return x.Address() }}))
	t.Cleanup(func() { r.Close() })
	if err := r.Connect(context.Background(), "127.0.0.1:8080"); err != nil {
		t.Fatal(err)
	}
	return x, r
}

func TestWhatIsNotEligibleNeverReachesTheEngine(t *testing.T) {
	_, r := pair(t)
	sentinel, calls := errors.New("this is HTTP's"), 0
	fetch := r.FetchChunk(func(_ context.Context, buffer []byte, urls []string, cipherKey []byte, isGzipped, isFullChunk bool,
		offset int64, fileID string, _ util_http.RefreshUrlsFunc) (int, error) {
		calls++
		return len(buffer) + len(cipherKey) + int(offset), sentinel
	})
	url := []string{"http://127.0.0.1:8080/3,01637037d6"}
	for i, one := range []struct {
		urls           []string
		cipher         []byte
		gzipped, whole bool
		asked          uint64
	}{
		{url, []byte("key"), false, true, 0},
		{url, []byte{}, false, true, 0},
		{url, nil, true, false, 0},
		{nil, nil, false, true, 0},
		{[]string{"http://127.0.0.1:8888/?proxyChunkId=3,01637037d6"}, nil, false, true, 0},
		{[]string{"%"}, nil, false, true, 0},
		{url, nil, false, true, 1},
		{url, nil, true, true, 1},
		{url, nil, false, false, 1},
	} {
		before := r.Stats()
		n, err := fetch(context.Background(), make([]byte, 10), one.urls, one.cipher, one.gzipped, one.whole, 5, "3,01637037d6", nil)
		if err != sentinel || n != 15+len(one.cipher) || calls != i+1 {
			t.Fatalf("%d: %d, %v, %d calls", i, n, err, calls)
		}
		if after := r.Stats(); after.Refused-before.Refused != one.asked || after.Passed-before.Passed != 1 || after.Reads != 0 {
			t.Fatalf("%d: %+v", i, after)
		}
	}
}

func TestServersWithoutAnExporterAreLeftAlone(t *testing.T) {
	x, _ := pair(t)
	address := x.Address()
	x.Close()
	r := must[*Reader](t)(NewReader(Options{Address: func(string) string { return address }, Forget: time.Hour}))
	defer r.Close()
	const server = "192.0.2.1:8080"
	for range 3 {
		if err := r.Connect(context.Background(), server); !errors.Is(err, errNoExporter) && !errors.Is(err, rdmaengine.StatusUnreachable) {
			t.Fatal(err)
		}
	}
	for range 1000 {
		if _, session := r.peers.open(server); session != nil {
			t.Fatal("there is no exporter")
		}
	}
	failed := must[rdmaengine.Stats](t)(r.engine.Stats()).ConnectsFailed
	if failed == 0 || failed > 20 {
		t.Fatalf("%d dials", failed)
	}
	// One that comes is found.
	x = must[*Exporter](t)(Export(ExportOptions{Address: address, Dirs: []string{t.TempDir()}}))
	defer x.Close()
	for end := time.Now().Add(time.Minute); r.Connect(context.Background(), server) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the exporter is not found")
		}
	}
}

func TestClosedAndWrongOptions(t *testing.T) {
	_, r := pair(t)
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, session := r.first([]string{"http://127.0.0.1:8080/3,01"}); r.fetch(context.Background(), make([]byte, 1), nil, true, 0, "3,01") {
		t.Fatal("a closed reader reads", session)
	}
	if _, err := NewReader(Options{Timeout: -1}); err == nil {
		t.Fatal("a negative timeout")
	}
	if _, err := Export(ExportOptions{}); err == nil {
		t.Fatal("an exporter without a folder")
	}
	if _, err := Export(ExportOptions{Address: "tcp://127.0.0.1:0", Dirs: []string{t.TempDir() + "/none"}}); !errors.Is(err, rdmaengine.StatusIO) {
		t.Fatal(err)
	}
	r2 := must[*Reader](t)(NewReader(Options{}))
	defer r2.Close()
	for server, want := range map[string]string{"10.0.0.1:8080": "tcp://10.0.0.1:28080", "[::1]:80": "tcp://[::1]:20080",
		"10.0.0.1:60000": "", "10.0.0.1": "", "": ""} {
		if got := r2.peers.address(server); got != want {
			t.Fatalf("%q: %q, not %q", server, got, want)
		}
	}
}
