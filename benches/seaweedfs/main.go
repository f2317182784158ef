// Needles through the engine beside HTTP: one SeaweedFS volume server, the same files, in turn, in one run. run.sh builds what it
// needs. Figures go to target/bench.json, `docs` puts them into docs/performance.md.
//
//	rdweed-bench run WEED NEEDLE_C TARGET    WEED is weed-rdma, NEEDLE_C the reader in C, TARGET the folder of bench.json
//	rdweed-bench docs TARGET PAGE
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	rounds = 5
	warmUp = 100 * time.Millisecond
	period = 500 * time.Millisecond
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "rdweed-bench:", err)
		stopServer()
		os.Exit(1)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// sample is one run of one side.
type sample struct {
	rate float64 // operations a second
	p99  float64 // microseconds
	cpu  float64 // seconds a GiB, of both processes
}

// measure calls `block`, which does `each` operations and may keep their times, for a while.
func measure(each int, size int, block func(times *[]float64)) sample {
	for start := time.Now(); time.Since(start) < warmUp; {
		block(nil)
	}
	var times []float64
	operations := 0
	before, start := processorTime(), time.Now()
	for time.Since(start) < period {
		block(&times)
		operations += each
	}
	took, used := time.Since(start).Seconds(), processorTime()-before
	s := sample{rate: float64(operations) / took, cpu: used / (float64(operations) * float64(size)) * (1 << 30)}
	if len(times) > 0 {
		slices.Sort(times)
		s.p99 = times[len(times)*99/100]
	}
	return s
}

// side is one way to read.
type side struct {
	name string
	run  func() sample
	got  []sample
}

func (s *side) of(what func(sample) float64) (all []float64) {
	for _, one := range s.got {
		all = append(all, what(one))
	}
	return all
}

// interleave runs all sides in turn.
func interleave(sides []*side) {
	for range rounds {
		for _, s := range sides {
			s.got = append(s.got, s.run())
		}
	}
}

// best is the peer whose median is the best.
func best(peers []*side, what func(sample) float64, more bool) *side {
	return slices.MaxFunc(peers, func(a, b *side) int {
		order := 0
		if x, y := median(a.of(what)), median(b.of(what)); x < y {
			order = -1
		} else if x > y {
			order = 1
		}
		if !more {
			order = -order
		}
		return order
	})
}

func rate(s sample) float64 { return s.rate }
func p99(s sample) float64  { return s.p99 }
func cpu(s sample) float64  { return s.cpu }

func run(weed, needleC, target string) {
	startServer(weed)
	defer stopServer()
	small, large := upload(4<<10, 4096), upload(1<<20, 64)
	shared, tcp := openEngine(0), openEngine(2)
	clients := []httpClient{tuned(), fast()}
	var rows []row

	one := []*side{{name: "ours", run: func() sample { return shared.one(small) }}}
	for _, client := range clients {
		one = append(one, &side{name: client.name(), run: func() sample { return httpOne(client, small) }})
	}
	interleave(one)
	rows = append(rows, compare("seaweedfs 4 KiB, one in flight", "1/s", one, rate, true, 8),
		compare("seaweedfs 4 KiB, one in flight, p99", "µs", one, p99, false, 0.2),
		compare("seaweedfs 4 KiB, one in flight, processor time a GiB, both sides", "s", one, cpu, false, 1.0/3))

	many := []*side{{name: "ours", run: func() sample { return shared.batch(small, 64) }}}
	for _, client := range clients {
		many = append(many, &side{name: client.name(), run: func() sample { return httpMany(client, small, 64) }})
	}
	interleave(many)
	rows = append(rows, compare("seaweedfs 4 KiB, batch of 64", "1/s", many, rate, true, 15),
		compare("seaweedfs 4 KiB, batch of 64, processor time a GiB, both sides", "s", many, cpu, false, 1.0/3))

	for _, road := range []struct {
		name   string
		engine *engine
		goal   float64
	}{{"", shared, 3}, {", TCP", tcp, 1.3}} {
		eight := []*side{{name: "ours", run: func() sample { return road.engine.parallel(large, 8) }}}
		for _, client := range clients {
			eight = append(eight, &side{name: client.name(), run: func() sample { return httpMany(client, large, 8) }})
		}
		interleave(eight)
		gigabytes := func(s sample) float64 { return s.rate * (1 << 20) / 1e9 }
		rows = append(rows, compare("seaweedfs 1 MiB, 8 in flight"+road.name, "GB/s", eight, gigabytes, true, road.goal),
			compare("seaweedfs 1 MiB, 8 in flight"+road.name+", processor time a GiB, both sides", "s", eight, cpu, false, 1.0/3))
	}
	rows = append(rows, overC(needleC, shared, small)...)
	stopServer()
	rows = append(rows, openMillions()...)
	show(rows)
	check(save(filepath.Join(target, "bench.json"), rows))
}

func main() {
	switch {
	case len(os.Args) == 5 && os.Args[1] == "run":
		run(os.Args[2], os.Args[3], os.Args[4])
	case len(os.Args) == 4 && os.Args[1] == "docs":
		check(docs(filepath.Join(os.Args[2], "bench.json"), os.Args[3]))
	default:
		fmt.Fprintln(os.Stderr, "usage: rdweed-bench run WEED NEEDLE_C TARGET | docs TARGET PAGE")
		os.Exit(2)
	}
}
