package main

import (
	"context"
	"fmt"
	"os"

	"github.com/seaweedfs/seaweedfs/weed/util"

	"rdma-engine/seaweedfs"
)

// cat writes files to the output, read through the engine and nothing else: that it works shows that the engine does.
func cat(args []string, s settings) int {
	if len(args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: weed-rdma [-rdma.…] rdma.cat HOST:PORT FILE_ID…    the address is the volume server's own, of HTTP")
		return 2
	}
	util.LoadSecurityConfiguration()
	reader, err := seaweedfs.NewReader(seaweedfs.Options{Engine: s.engine, PortOffset: s.offset, Timeout: s.timeout, Plain: s.plain})
	if err == nil {
		defer reader.Close()
		for _, fileID := range args[1:] {
			var data []byte
			if data, err = reader.ReadAll(context.Background(), args[0], fileID); err != nil {
				break
			}
			if _, err = os.Stdout.Write(data); err != nil {
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "weed-rdma:", err)
		return 1
	}
	return 0
}
