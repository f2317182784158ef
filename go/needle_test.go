//go:build cgo && linux

package rdmaengine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// volumeWriter writes a SeaweedFS volume of version 3, from the description of the format alone.
type volumeWriter struct {
	dat, idx *os.File
	end      int64
}

func newVolume(t testing.TB, dir, base string) *volumeWriter {
	create := func(extension string) *os.File {
		return must[*os.File](t)(os.OpenFile(filepath.Join(dir, base+extension), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600))
	}
	w := &volumeWriter{dat: create(".dat"), idx: create(".idx"), end: 8}
	must[int](t)(w.dat.WriteAt([]byte{3, 0, 0, 0, 0, 0, 0, 0}, 0))
	t.Cleanup(func() { w.dat.Close(); w.idx.Close() })
	return w
}

func (w *volumeWriter) put(t testing.TB, id uint64, cookie uint32, flags byte, data []byte) {
	var size uint32
	if len(data) > 0 {
		size = uint32(len(data)) + 5
	}
	record := binary.BigEndian.AppendUint32(nil, cookie)
	record = binary.BigEndian.AppendUint64(record, id)
	record = binary.BigEndian.AppendUint32(record, size)
	if len(data) > 0 {
		record = binary.BigEndian.AppendUint32(record, uint32(len(data)))
		record = append(append(record, data...), flags)
	}
	record = binary.BigEndian.AppendUint32(record, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	record = binary.BigEndian.AppendUint64(record, 1)
	record = append(record, make([]byte, 8-len(record)%8)...)
	must[int](t)(w.dat.WriteAt(record, w.end))
	row := binary.BigEndian.AppendUint64(nil, id)
	row = binary.BigEndian.AppendUint32(row, uint32(w.end/8))
	must[int](t)(w.idx.Write(binary.BigEndian.AppendUint32(row, size)))
	w.end += int64(len(record))
}

func needleData(id int) []byte {
	data := make([]byte, id*id*37%50_000)
	for i := range data {
		data[i] = byte(i*7 + id)
	}
	return data
}

func TestNeedlesOfAnExporter(t *testing.T) {
	everyWay(t, func(t *testing.T, options Options) {
		dir, ctx := t.TempDir(), patient(t)
		w := newVolume(t, dir, "photos_3")
		const needles = 200
		for id := 1; id <= needles; id++ {
			w.put(t, uint64(id), uint32(id), 0, needleData(id))
		}
		w.put(t, 1000, 7, 1, []byte("gzip, they say"))
		server, client := open(t, Options{Transports: options.Transports}), open(t, options)
		x := must[*Exporter](t)(server.Export("tcp://127.0.0.1:0", dir, ExportOptions{Threads: 2}))
		s := must[*Session](t)(client.Dial(ctx, x.Address()))
		var group sync.WaitGroup
		for start := range 4 {
			group.Add(1)
			go func() {
				defer group.Done()
				for id := 1 + start; id <= needles; id += 4 {
					needle, err := s.ReadNeedle(ctx, fmt.Sprintf("3,%02x%08x", id, id), NeedleOptions{})
					if err != nil || !bytes.Equal(needle.Bytes(), needleData(id)) || needle.DataLength != int64(needle.Length) {
						t.Error(id, err, needle.Length)
						return
					}
					needle.Release()
				}
			}()
		}
		group.Wait()
		into := must[*Buffer](t)(client.Alloc(100_000, BufferPrivate))
		part := must[Needle](t)(s.ReadNeedle(ctx, "3,1e0000001e", NeedleOptions{Part: true, Offset: 100, Length: 50,
			Into: BufferRange{into, 10, 90_000}}))
		if part.Length != 50 || part.DataLength != 33_300 || !bytes.Equal(into.Bytes()[10:60], needleData(30)[100:150]) {
			t.Fatalf("%+v", part)
		}
		zipped := must[Needle](t)(s.ReadNeedle(ctx, "3,3e800000007", NeedleOptions{}))
		if !zipped.Compressed || string(zipped.Bytes()) != "gzip, they say" {
			t.Fatalf("%+v", zipped)
		}
		zipped.Release()
		for _, refused := range []struct {
			fileID  string
			options NeedleOptions
			want    Status
		}{
			{"3,3e800000007", NeedleOptions{Part: true, Offset: 2, Length: 3}, StatusIneligible},
			{"3,0100000002", NeedleOptions{}, StatusCookieMismatch},
			{"3,ff00000001", NeedleOptions{}, StatusNotFound},
			{"4,0100000001", NeedleOptions{}, StatusNotFound},
			{"nonsense", NeedleOptions{}, StatusInvalidArgument},
			{"3,1e0000001e", NeedleOptions{Part: true, Offset: 1 << 40, Length: 1}, StatusOutOfRange},
		} {
			if _, err := s.ReadNeedle(ctx, refused.fileID, refused.options); !errors.Is(err, refused.want) {
				t.Error(refused, err)
			}
		}
		// Another folder, and the first one goes first.
		second := t.TempDir()
		newVolume(t, second, "9").put(t, 1, 1, 0, []byte("elsewhere"))
		newVolume(t, second, "3").put(t, 1, 1, 0, []byte("hidden"))
		ok(t, x.Add(second, ""))
		if err := x.Add(filepath.Join(second, "none"), ""); !errors.Is(err, StatusIO) {
			t.Fatal(err)
		}
		for fileID, want := range map[string]string{"9,0100000001": "elsewhere", "3,0100000001": string(needleData(1))} {
			needle := must[Needle](t)(s.ReadNeedle(ctx, fileID, NeedleOptions{}))
			if string(needle.Bytes()) != want {
				t.Fatal(fileID, string(needle.Bytes()))
			}
			needle.Release()
		}
		// What is appended is there at once.
		w.put(t, 5000, 5, 0, []byte("new"))
		fresh := must[Needle](t)(s.ReadNeedle(ctx, "3,138800000005", NeedleOptions{}))
		if string(fresh.Bytes()) != "new" {
			t.Fatal(string(fresh.Bytes()))
		}
		fresh.Release()
		ok(t, x.Close())
		ok(t, x.Close())
		if _, err := s.ReadNeedle(ctx, "3,138800000005", NeedleOptions{}); !errors.Is(err, StatusConnectionLost) {
			t.Fatal(err)
		}
	})
}
