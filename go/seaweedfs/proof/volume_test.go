package proof

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"rdma-engine/seaweedfs"
)

// TestVolumeCommand: `weed-rdma volume` beside the cluster's own server, and `weed-rdma rdma.cat`. The one has an exporter,
// the other was told to have none: files of both are read.
func TestVolumeCommand(t *testing.T) {
	t.Parallel()
	c := start(t, "", "-rdma.serve=false")
	port, dir := freePort(t), t.TempDir()
	log := &bytes.Buffer{}
	volume := exec.Command(os.Getenv("RDE_WEED"), "-logtostderr", "volume", "-dir="+dir, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-max=8",
		fmt.Sprintf("-port=%d", port), fmt.Sprintf("-master=127.0.0.1:%d", c.master), "-preStopSeconds=0", "-minFreeSpace=100MiB")
	volume.Dir, volume.Env, volume.Stdout, volume.Stderr = c.dir, append(os.Environ(), "HOME="+c.dir), log, log
	volume.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := volume.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		volume.Process.Signal(syscall.SIGTERM)
		if err := volume.Wait(); err != nil || !strings.Contains(log.String(), "rdma: needles of "+dir+" are served at") {
			t.Errorf("weed-rdma volume: %v\n%s", err, log)
		}
	}()
	server := fmt.Sprintf("127.0.0.1:%d", port)
	data := content(seedOf(t), 300_000, false)
	var fileIDs []string
	for _, node := range []string{server, c.server()} {
		c.wait("a volume at "+node, func() bool {
			fileID, err := c.assign("?dataNode=" + node)
			if err != nil {
				return false
			}
			other := *c
			fmt.Sscanf(node, "127.0.0.1:%d", &other.volume)
			if err := other.upload(fileID, "", "noise.bin", data); err != nil {
				return false
			}
			fileIDs = append(fileIDs, fileID)
			return true
		})
	}
	reader, err := seaweedfs.NewReader(seaweedfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := reader.Connect(context.Background(), server); err != nil {
		t.Fatal(err)
	}
	if err := reader.Connect(context.Background(), c.server()); err == nil {
		t.Error("-rdma.serve=false serves")
	}
	wrapped := &http.Client{Transport: reader.Transport(client.Transport)}
	for i, node := range []string{server, c.server()} {
		a, err := getBy(wrapped, "http://"+node+"/"+fileIDs[i]+readDeleted, "", "")
		if err != nil || !bytes.Equal(a.data, data) {
			t.Errorf("%s of %s: %d, %d bytes, %v", fileIDs[i], node, a.status, len(a.data), err)
		}
	}
	if s := reader.Stats(); s.Reads != 1 || s.Passed != 1 {
		t.Errorf("%+v", s)
	}
	cat := exec.Command(os.Getenv("RDE_WEED"), "rdma.cat", server, fileIDs[0])
	if out, err := cat.Output(); err != nil || !bytes.Equal(out, data) {
		t.Errorf("rdma.cat: %d bytes, %v", len(out), err)
	}
	cat = exec.Command(os.Getenv("RDE_WEED"), "rdma.cat", c.server(), fileIDs[1])
	if out, err := cat.CombinedOutput(); err == nil || !strings.Contains(string(out), "has no exporter") && !strings.Contains(string(out), "nobody") {
		t.Errorf("rdma.cat without an exporter: %s, %v", out, err)
	}
}
