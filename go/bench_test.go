//go:build cgo && linux

package rdmaengine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// Gets of one process from itself; tests/go_bench.sh runs them beside the same in C.
func benchmarkWays(b *testing.B, run func(b *testing.B, p *pair, r *Region, to *Buffer)) {
	for _, way := range []struct {
		name    string
		options Options
	}{
		{"mapped", Options{}},
		{"mapped-thread", Options{DialThread: true}},
		{"tcp", Options{Transports: TransportTCP}},
		{"tcp-thread", Options{Transports: TransportTCP, DialThread: true}},
	} {
		b.Run(way.name, func(b *testing.B) {
			p := dialled(b, way.options)
			_, r := p.region(b, 1<<20, BufferExportable)
			to := must[*Buffer](b)(p.client.Alloc(1<<20, BufferPrivate))
			b.ReportAllocs()
			run(b, p, r, to)
		})
	}
}

func BenchmarkGetOne(b *testing.B) {
	benchmarkWays(b, func(b *testing.B, p *pair, r *Region, to *Buffer) {
		for _, size := range []int64{8, 4096} {
			b.Run(fmt.Sprint(size), func(b *testing.B) {
				ctx := context.Background()
				for b.Loop() {
					if err := r.Get(ctx, to, 0, 0, size); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	})
}

func BenchmarkGetBatch64(b *testing.B) {
	benchmarkWays(b, func(b *testing.B, p *pair, r *Region, to *Buffer) {
		ctx := context.Background()
		batch := p.from.NewBatch(64)
		for range 64 {
			batch.Get(r, to, 0, 0, 8)
		}
		for n := 0; n < b.N; n += 64 {
			if err := batch.Run(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// 64 goroutines, each with one get in flight.
func BenchmarkGetGoroutines64(b *testing.B) {
	benchmarkWays(b, func(b *testing.B, p *pair, r *Region, to *Buffer) {
		ctx := context.Background()
		var left atomic.Int64
		left.Store(int64(b.N))
		var group sync.WaitGroup
		for range 64 {
			group.Add(1)
			go func() {
				defer group.Done()
				for left.Add(-1) >= 0 {
					if err := r.Get(ctx, to, 0, 0, 8); err != nil {
						b.Error(err)
					}
				}
			}()
		}
		group.Wait()
	})
}
