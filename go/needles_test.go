//go:build cgo && linux

package rdmaengine

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

func name(volume, id int) string { return fmt.Sprintf("%d,%02x%08x", volume, id, id) }

// sign makes a token as a SeaweedFS cluster with a read key does.
func sign(key, claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

func longData(id, length int) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = byte(i>>8 ^ i*7 ^ id)
	}
	return data
}

func TestManyNeedlesInOneRoundTrip(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		dir, ctx := t.TempDir(), patient(t)
		w := newVolume(t, dir, "3")
		for id := 1; id <= 1500; id++ {
			w.put(t, uint64(id), uint32(id), 0, needleData(id%60))
		}
		w.put(t, 2000, 2000, 1, []byte("gzip, they say"))
		w.put(t, 2001, 2001, 0, longData(1, 100_000))
		// Answers of 64 KiB: of these reads there are many.
		server := open(t, Options{Transports: options.Transports, MaxMessage: 64 << 10})
		client := open(t, options)
		x := must[*Exporter](t)(server.Export("tcp://127.0.0.1:0", dir, ExportOptions{}))
		s := must[*Session](t)(client.Dial(ctx, x.Address()))
		into := must[*Buffer](t)(client.Alloc(1000, BufferPrivate))
		reads := []NeedleRead{{FileID: "nonsense"}, {FileID: "3,0100000002"}, {FileID: name(4, 1)}, {FileID: name(3, 3000)},
			{name(3, 2000), NeedleOptions{Part: true, Offset: 3, Length: 4}}, {name(3, 2000), NeedleOptions{}},
			{name(3, 50), NeedleOptions{Part: true, Offset: 10, Length: 20}}, {name(3, 2001), NeedleOptions{}},
			{name(3, 50), NeedleOptions{Part: true, Length: -1}}, {FileID: strings.Repeat("7,", 40_000)},
			{name(3, 51), NeedleOptions{Part: true, Offset: 1, Length: 100, Into: BufferRange{into, 7, 200}}},
			{name(3, 51), NeedleOptions{Into: BufferRange{into, 7, 200}}}}
		verdicts := []Status{StatusInvalidArgument, StatusCookieMismatch, StatusNotFound, StatusNotFound, StatusIneligible,
			StatusOK, StatusOK, StatusOK, StatusInvalidArgument, StatusInvalidArgument, StatusOK, StatusTruncated}
		special := len(reads)
		for id := 1; id <= 1500; id++ {
			reads = append(reads, NeedleRead{FileID: name(3, id)})
		}
		results := s.ReadNeedles(ctx, reads)
		for i, want := range verdicts {
			if got := results[i].Err; want == StatusOK && got != nil || want != StatusOK && !errors.Is(got, want) {
				t.Errorf("%d: %v, not %v", i, got, want)
			}
		}
		if !results[5].Compressed || string(results[5].Bytes()) != "gzip, they say" {
			t.Errorf("%+v", results[5])
		}
		if !bytes.Equal(results[6].Bytes(), needleData(50)[10:30]) || results[6].DataLength != int64(len(needleData(50))) {
			t.Errorf("%+v", results[6])
		}
		if !bytes.Equal(results[7].Bytes(), longData(1, 100_000)) {
			t.Error("one that is longer than an answer is not itself")
		}
		if results[10].Length != 100 || !bytes.Equal(into.Bytes()[7:107], needleData(51)[1:101]) {
			t.Errorf("%+v", results[10])
		}
		for i, result := range results[special:] {
			if want := needleData((i + 1) % 60); result.Err != nil || !bytes.Equal(result.Bytes(), want) || result.Length != len(want) {
				t.Fatal(i+1, result.Err, result.Length)
			}
		}
		before := must[Info](t)(client.Info()).MemoryUsed
		for i := range results {
			results[i].Release()
			results[i].Release()
		}
		after := must[Info](t)(client.Info()).MemoryUsed
		if !s.lends() && after >= before {
			t.Error("releases gave nothing back:", before, after)
		}
		if used := slotsInUse(s); used != 0 {
			t.Error("slots that were not given back:", used)
		}
		if len(s.ReadNeedles(ctx, nil)) != 0 {
			t.Error("results of nothing")
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		for _, result := range s.ReadNeedles(canceled, reads[special:special+2]) {
			if !errors.Is(result.Err, context.Canceled) {
				t.Error(result.Err)
			}
		}
	})
}

func TestNeedlesLongerThanAMessage(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		dir, ctx := t.TempDir(), patient(t)
		w := newVolume(t, dir, "1")
		lengths := []int{16<<20 - 1, 16 << 20, 16<<20 + 1, 24<<20 + 12_345}
		for i, length := range lengths {
			w.put(t, uint64(i+1), uint32(i+1), byte(i&1), longData(i, length))
		}
		server, client := open(t, Options{Transports: options.Transports}), open(t, options)
		x := must[*Exporter](t)(server.Export("tcp://127.0.0.1:0", dir, ExportOptions{}))
		s := must[*Session](t)(client.Dial(ctx, x.Address()))
		for i, length := range lengths {
			want := longData(i, length)
			needle := must[Needle](t)(s.ReadNeedle(ctx, name(1, i+1), NeedleOptions{}))
			if needle.Length != length || needle.Compressed != (i&1 == 1) || !bytes.Equal(needle.Bytes(), want) {
				t.Fatal(length, needle.Length, needle.Compressed)
			}
			needle.Release()
			into := must[*Buffer](t)(client.Alloc(length+8, BufferPrivate))
			needle = must[Needle](t)(s.ReadNeedle(ctx, name(1, i+1), NeedleOptions{Into: BufferRange{into, 3, int64(length)}}))
			if needle.Length != length || !bytes.Equal(into.Bytes()[3:length+3], want) {
				t.Fatal(length, needle.Length)
			}
			_, err := s.ReadNeedle(ctx, name(1, i+1), NeedleOptions{Into: BufferRange{into, 0, int64(length) - 1}})
			if !errors.Is(err, StatusTruncated) {
				t.Fatal(length, err)
			}
			into.Release()
		}
		part := must[Needle](t)(s.ReadNeedle(ctx, name(1, 3), NeedleOptions{Part: true, Offset: 5, Length: 1 << 40}))
		if !bytes.Equal(part.Bytes(), longData(2, lengths[2])[5:]) {
			t.Fatal("a part is not itself:", part.Length)
		}
		part.Release()
		long := NeedleOptions{Part: true, Offset: 5, Length: 1 << 40}
		if _, err := s.ReadNeedle(ctx, name(1, 4), long); !errors.Is(err, StatusIneligible) {
			t.Fatal("a part of compressed data:", err)
		}
	})
}

// While a long needle is overwritten, a reader has the old one or the new one, whole, or is told to try again.
func TestALongNeedleThatIsOverwritten(t *testing.T) {
	dir, ctx := t.TempDir(), patient(t)
	w := newVolume(t, dir, "1")
	const length = 300_000
	w.put(t, 1, 1, 0, longData(0, length))
	server, client := open(t, Options{MaxMessage: 32 << 10}), open(t, Options{})
	x := must[*Exporter](t)(server.Export("tcp://127.0.0.1:0", dir, ExportOptions{}))
	s := must[*Session](t)(client.Dial(ctx, x.Address()))
	var version atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
				w.put(t, 1, 1, 0, longData(i, length))
				version.Store(int64(i))
			}
		}
	}()
	whole := 0
	for range 60 {
		from := version.Load()
		needle, err := s.ReadNeedle(ctx, name(1, 1), NeedleOptions{})
		if err != nil {
			if !errors.Is(err, StatusStale) {
				t.Error(err)
			}
			continue
		}
		found := false
		for i := from; i <= version.Load()+1 && !found; i++ {
			found = bytes.Equal(needle.Bytes(), longData(int(i), length))
		}
		if !found {
			t.Error("neither the old one nor the new one")
		}
		needle.Release()
		whole++
	}
	close(stop)
	<-done
	t.Log(whole, "of 60 were whole")
	needle := must[Needle](t)(s.ReadNeedle(ctx, name(1, 1), NeedleOptions{}))
	if !bytes.Equal(needle.Bytes(), longData(int(version.Load()), length)) {
		t.Error("the last one is not itself")
	}
	needle.Release()
}

func TestTokensOfAReadKey(t *testing.T) {
	dir, ctx := t.TempDir(), patient(t)
	w := newVolume(t, dir, "3")
	w.put(t, 1, 1, 0, []byte("secret"))
	w.put(t, 2, 1, 0, []byte("of the same name"))
	w.put(t, 3, 3, 0, longData(3, 20<<20))
	e := open(t, Options{})
	x := must[*Exporter](t)(e.Export("tcp://127.0.0.1:0", dir, ExportOptions{ReadKey: []byte("key")}))
	s := must[*Session](t)(e.Dial(ctx, x.Address()))
	good := sign("key", `{"fid":"3,0100000001","exp":4102444800}`)
	tokens := []struct {
		fileID, token string
		want          Status
	}{
		{"3,0100000001", good, StatusOK}, {"/3/0100000001/photo.jpg", good, StatusOK}, {"3,0100000001_1", good, StatusOK},
		{"3,0100000001", "", StatusUnauthorized}, {"3,0300000003", good, StatusUnauthorized},
		{"3,0100000001", sign("kez", `{"fid":"3,0100000001"}`), StatusUnauthorized},
		{"3,0100000001", sign("key", `{"fid":"3,0100000001","exp":1}`), StatusUnauthorized},
		{"3,0100000001", sign("key", `{"fid":"3,0100000001","nbf":4102444800}`), StatusUnauthorized},
		{"3,0100000001", sign("key", `{"fid":"3,0200000001"}`), StatusUnauthorized},
		{"3,0300000003", sign("key", `{"fid":"3,0300000003"}`), StatusOK},
	}
	var reads []NeedleRead
	for _, one := range tokens {
		options := NeedleOptions{Token: one.token}
		needle, err := s.ReadNeedle(ctx, one.fileID, options)
		if one.want == StatusOK && err != nil || one.want != StatusOK && !errors.Is(err, one.want) {
			t.Error(one, err)
		}
		needle.Release()
		reads = append(reads, NeedleRead{one.fileID, options})
	}
	for i, result := range s.ReadNeedles(ctx, reads) {
		if want := tokens[i].want; want == StatusOK && result.Err != nil || want != StatusOK && !errors.Is(result.Err, want) {
			t.Error(tokens[i], result.Err)
		}
		result.Release()
	}
	if _, err := e.Export("tcp://127.0.0.1:0", dir, ExportOptions{ReadKey: make([]byte, 1025)}); !errors.Is(err, StatusInvalidArgument) {
		t.Error(err)
	}
}

// The same bytes as in src/needles/batch.rs.
func TestGoldenBytesOfABatch(t *testing.T) {
	payload, count := encodeNeedles(nil, []NeedleRead{{FileID: "3,01637037d6"},
		{"4,02deadbeef", NeedleOptions{Token: "a.b.c", Live: true, Part: true, Offset: 0x102, Length: 0x304}}})
	golden := strings.Repeat("00", 16) + "000000000c000000" + "0201000000000000" + "0403000000000000" + "0500000016000000" +
		hex.EncodeToString([]byte("3,01637037d64,02deadbeef?jwt=a.b.c"))
	if hex.EncodeToString(payload) != golden || count != 2 {
		t.Error(hex.EncodeToString(payload))
	}
	row, _ := hex.DecodeString("f5ffffff01010000" + "0500000000000000" + "0706000000000000" + "0800000000000000" +
		"0900000000000000" + "0d0c0b0a00000000" + "4000000000000000" + "0400000000000000")
	got := decodeRow(row)
	want := needleRow{status: StatusTruncated, flags: 0x101, dataLength: 5, lastModified: 0x607, appendedAtNS: 8, generation: 9,
		checksum: 0x0a0b0c0d, offset: 64, length: 4}
	if got != want || !got.fits(append(row, 1, 2, 3, 4)) || got.fits(row) {
		t.Errorf("%+v", got)
	}
	for _, wrong := range []needleRow{{offset: 65, dataLength: 9, length: 4}, {offset: 1 << 63, dataLength: 1 << 63, length: 1 << 63},
		{dataLength: 3, length: 4}, {dataLength: 1 << 40, length: 1 << 40}} {
		if wrong.fits(append(row, 1, 2, 3, 4)) {
			t.Errorf("a row that points outside was taken: %+v", wrong)
		}
	}
}
