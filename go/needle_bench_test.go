//go:build cgo && linux

package rdmaengine

import (
	"context"
	"fmt"
	"testing"
)

// benchmarkNeedles runs with an exporter of 1,000 needles of this length in the same process, in the page cache.
func benchmarkNeedles(b *testing.B, length int, run func(b *testing.B, s *Session, names []string)) {
	for _, way := range []struct {
		name    string
		options Options
	}{{"shared", Options{}}, {"tcp", Options{Transports: TransportTCP}}} {
		b.Run(way.name, func(b *testing.B) {
			dir, ctx := b.TempDir(), context.Background()
			w := newVolume(b, dir, "1")
			names := make([]string, min(1000, 256<<20/length))
			for i := range names {
				w.put(b, uint64(i+1), uint32(i+1), 0, longData(i, length))
				names[i] = name(1, i+1)
			}
			server, client := open(b, Options{Transports: way.options.Transports}), open(b, way.options)
			x := must[*Exporter](b)(server.Export("tcp://127.0.0.1:0", dir, ExportOptions{}))
			s := must[*Session](b)(client.Dial(ctx, x.Address()))
			b.SetBytes(int64(length))
			b.ReportAllocs()
			run(b, s, names)
			b.StopTimer()
			ok(b, s.Close())
			ok(b, x.Close())
		})
	}
}

func BenchmarkNeedleOne(b *testing.B) {
	for _, length := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			benchmarkNeedles(b, length, func(b *testing.B, s *Session, names []string) {
				for i := 0; b.Loop(); i++ {
					needle, err := s.ReadNeedle(context.Background(), names[i%len(names)], NeedleOptions{})
					if err != nil || needle.Length != length {
						b.Fatal(err, needle.Length)
					}
					needle.Release()
				}
			})
		})
	}
}

func BenchmarkNeedles64(b *testing.B) {
	benchmarkNeedles(b, 4<<10, func(b *testing.B, s *Session, names []string) {
		reads := make([]NeedleRead, 64)
		for n := 0; n < b.N; n += len(reads) {
			for i := range reads {
				reads[i].FileID = names[(n+i)%len(names)]
			}
			for _, result := range s.ReadNeedles(context.Background(), reads) {
				if result.Err != nil || result.Length != 4<<10 {
					b.Fatal(result.Err, result.Length)
				}
				result.Release()
			}
		}
	})
}
