package proof

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"testing"
)

// TestFiler: a filer of the same program reads its chunks through the engine, without a change to SeaweedFS.
func TestFiler(t *testing.T) {
	filer, metrics := freePort(t), freePort(t)
	c := start(t, "", "-filer", "-filer.maxMB=1", fmt.Sprintf("-filer.port=%d", filer), fmt.Sprintf("-metricsPort=%d", metrics))
	at := fmt.Sprintf("http://127.0.0.1:%d/some/file.bin", filer)
	data := content(seedOf(t), 10<<20+12345, false)
	c.wait("the filer to store a file", func() bool {
		request, _ := http.NewRequest(http.MethodPut, at, bytes.NewReader(data))
		response, err := client.Do(request)
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode < 300
	})
	reads := func() int {
		a, err := getBy(client, fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if a.gzip {
			a.data, _ = clear(a.data)
		}
		found := regexp.MustCompile(`SeaweedFS_rdma_reads_total\{by="engine"\} (\d+)`).FindSubmatch(a.data)
		if found == nil {
			return 0
		}
		n, _ := strconv.Atoi(string(found[1]))
		return n
	}
	ask := func(ranged string, want []byte) {
		request, _ := http.NewRequest(http.MethodGet, at, nil)
		if ranged != "" {
			request.Header.Set("Range", ranged)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %d bytes of %d, %v", ranged, len(got), len(want), err)
		}
	}
	// The first read has the session dialled; HTTP serves it.
	c.wait("the filer to read through the engine", func() bool {
		ask("", data)
		return reads() > 0
	})
	before := reads()
	ask("", data)
	ask("bytes=1000000-3000000", data[1_000_000:3_000_001])
	if after := reads(); after < before+11 {
		t.Errorf("the engine has read %d chunks of 14", after-before)
	}
}
