package seaweedfs

import (
	"net/http"
	"strings"
	"testing"
)

func TestWhichRequestsAreForNeedles(t *testing.T) {
	const plain = "http://127.0.0.1:8080/3,01637037d6?readDeleted=true"
	for _, one := range []struct {
		method, url, headers string
		want                 string // file id, token, range; "" is none
	}{
		{"GET", plain, "", "3,01637037d6  0-0"},
		{"GET", plain + "&jwt=a.b.c", "", "3,01637037d6 a.b.c 0-0"},
		{"GET", plain, "Authorization: Bearer t", "3,01637037d6 t 0-0"},
		{"GET", plain, "Range: bytes=5-9", "3,01637037d6  5-9"},
		{"GET", plain, "X-Amz-Request-Id: 1\nAccept-Encoding: gzip", "3,01637037d6  0-0"},
		{"GET", plain, "Range: bytes=5-", ""},
		{"GET", plain, "Range: bytes=-5", ""},
		{"GET", plain, "Range: bytes=9-5", ""},
		{"GET", plain, "Range: bytes=1-2,4-5", ""},
		{"GET", plain, "Range: lines=1-2", ""},
		{"GET", plain, "If-None-Match: x", ""},
		{"GET", plain + "&width=100", "", ""},
		{"HEAD", plain, "", ""},
		{"DELETE", plain, "", ""},
		{"GET", "http://127.0.0.1:8080/3,01637037d6", "", ""},
		{"GET", "http://127.0.0.1:8080/3,01637037d6.jpg?readDeleted=true", "", ""},
		{"GET", "http://127.0.0.1:8080/3/01637037d6?readDeleted=true", "", ""},
		{"GET", "http://127.0.0.1:8080/status?readDeleted=true", "", ""},
		{"GET", "https://127.0.0.1:8080/3,01637037d6?readDeleted=true", "", ""},
		{"GET", "http://127.0.0.1:8888/a,b/c?readDeleted=true", "", ""},
	} {
		request := must[*http.Request](t)(http.NewRequest(one.method, one.url, nil))
		for _, line := range strings.Split(one.headers, "\n") {
			if name, value, found := strings.Cut(line, ": "); found {
				request.Header.Set(name, value)
			}
		}
		got := ""
		if w, ok := wantedOf(request); ok {
			got = strings.Join([]string{w.fileID, w.token, rangeOf(w)}, " ")
		}
		if got != one.want {
			t.Errorf("%s %s %q: %q, not %q", one.method, one.url, one.headers, got, one.want)
		}
	}
}

func rangeOf(w wanted) string {
	text := func(n int64) string { return string(rune('0' + n)) }
	return text(w.offset) + "-" + text(w.end)
}
