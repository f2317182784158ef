// The same gets from Go as c/get.c makes from C, and the process that both read from.
//
//	rdego-bench serve                                prints ADDRESS KEY, and serves until its input ends
//	rdego-bench ADDRESS KEY TRANSPORTS DRIVER SIZE   prints nanoseconds an operation: one in flight, a batch of 64, 64
//	                                                 goroutines; DRIVER is caller or thread
package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"rdma-engine/rdmaengine"
)

const (
	warmUp  = 100 * time.Millisecond
	measure = 300 * time.Millisecond
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "rdego-bench:", err)
		os.Exit(1)
	}
}

func serve() {
	engine, err := rdmaengine.Open(rdmaengine.Options{})
	check(err)
	listener, err := engine.Listen("tcp://127.0.0.1:0")
	check(err)
	memory, err := engine.Alloc(1<<20, rdmaengine.BufferExportable)
	check(err)
	key, err := memory.Export(0, 1<<20, rdmaengine.RightRead)
	check(err)
	fmt.Println(listener.Address(), hex.EncodeToString(key[:]))
	os.Stdout.Close()
	io.Copy(io.Discard, os.Stdin)
	check(engine.Close())
}

// median is that of blocks of `each` operations, in nanoseconds an operation.
func median(each int, block func()) float64 {
	for start := time.Now(); time.Since(start) < warmUp; {
		block()
	}
	var blocks []float64
	for start := time.Now(); time.Since(start) < measure; {
		began := time.Now()
		block()
		blocks = append(blocks, float64(time.Since(began).Nanoseconds())/float64(each))
	}
	slices.Sort(blocks)
	return blocks[len(blocks)/2]
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		serve()
		return
	}
	ctx := context.Background()
	transports, err := strconv.Atoi(os.Args[3])
	check(err)
	size, err := strconv.ParseInt(os.Args[5], 10, 64)
	check(err)
	engine, err := rdmaengine.Open(rdmaengine.Options{
		Transports: rdmaengine.Transport(transports), DialThread: os.Args[4] == "thread"})
	check(err)
	session, err := engine.Dial(ctx, os.Args[1])
	check(err)
	var key rdmaengine.Key
	_, err = hex.Decode(key[:], []byte(os.Args[2]))
	check(err)
	region, err := session.Import(ctx, key)
	check(err)
	to, err := engine.Alloc(64*int(size), rdmaengine.BufferPrivate)
	check(err)

	const some = 20
	one := median(some, func() {
		for range some {
			check(region.Get(ctx, to, 0, 0, size))
		}
	})
	batch := session.NewBatch(64)
	for i := range int64(64) {
		batch.Get(region, to, i*size, 0, size)
	}
	many := median(64, func() { check(batch.Run(ctx)) })
	const each = 20
	goroutines := median(64*each, func() {
		var group sync.WaitGroup
		for i := range int64(64) {
			group.Add(1)
			go func() {
				defer group.Done()
				for range each {
					check(region.Get(ctx, to, i*size, 0, size))
				}
			}()
		}
		group.Wait()
	})
	fmt.Printf("%.1f %.1f %.1f\n", one, many, goroutines)
	check(engine.Close())
}
