// Package proof holds what is read through the engine against what a real SeaweedFS answers over HTTP: same bytes, same
// verdicts. tests/seaweedfs.sh runs it; it needs RDE_WEED, the command weed-rdma, and RDE_NEEDLES, a reader in C.
package proof

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rdma-engine/seaweedfs"
)

// patience bounds every wait; a test that needs it has failed.
const patience = 60 * time.Second

// cluster is a real `weed-rdma server` on loopback.
type cluster struct {
	t              testing.TB
	dir            string
	master, volume int
	more           []string
	process        *exec.Cmd
	exited         chan struct{}
}

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}, Timeout: patience}

var portsTried atomic.Int64 // from the process id on, so that two runs rarely meet

// freePort is a port whose gRPC and exporter ports are free, too, all below those that the kernel gives to clients.
func freePort(t testing.TB) int {
	for range 1000 {
		port := 10_000 + (os.Getpid()+int(portsTried.Add(1)))*101%2_700
		all := true
		for _, offset := range []int{0, 10_000, seaweedfs.PortOffset} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+offset))
			if err != nil {
				all = false
				break
			}
			defer l.Close()
		}
		if all {
			return port
		}
	}
	t.Fatal("no free ports")
	return 0
}

// start starts a cluster in a folder of its own; `security` is its security.toml, if any.
func start(t testing.TB, security string, more ...string) *cluster {
	if os.Getenv("RDE_WEED") == "" {
		t.Skip("RDE_WEED is not set: tests/seaweedfs.sh does it all")
	}
	c := &cluster{t: t, dir: t.TempDir(), more: more}
	c.master, c.volume = freePort(t), freePort(t)
	for _, dir := range c.dirs() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if security != "" {
		if err := os.WriteFile(filepath.Join(c.dir, "security.toml"), []byte(security), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(c.kill)
	c.run()
	return c
}

// dirs are the volume server's folders: two disks.
func (c *cluster) dirs() []string {
	return []string{filepath.Join(c.dir, "disk1"), filepath.Join(c.dir, "disk2")}
}

func (c *cluster) run() {
	log, err := os.OpenFile(filepath.Join(c.dir, "weed.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	args := append([]string{"-logtostderr", "server", "-dir=" + strings.Join(c.dirs(), ","), "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
		"-master.peers=none", "-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-master.dir=" + c.dir,
		"-volume.max=32,32", "-volume.preStopSeconds=0", "-volume.minFreeSpace=100MiB",
		fmt.Sprintf("-master.port=%d", c.master), fmt.Sprintf("-volume.port=%d", c.volume)}, c.more...)
	c.process = exec.Command(os.Getenv("RDE_WEED"), args...)
	c.process.Dir, c.process.Env = c.dir, append(os.Environ(), "HOME="+c.dir)
	c.process.Stdout, c.process.Stderr = log, log
	c.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.process.Start(); err != nil {
		c.t.Fatal(err)
	}
	exited := make(chan struct{})
	c.exited = exited
	go func(process *exec.Cmd) {
		process.Wait()
		close(exited)
	}(c.process)
	c.wait("weed to hand out file ids", func() bool {
		_, err := c.assign("")
		return err == nil
	})
}

// kill ends the server as a crash would.
func (c *cluster) kill() {
	if c.process != nil {
		c.process.Process.Kill()
		<-c.exited
		c.process = nil
		// SeaweedFS makes it at a fixed place, and leaves it there.
		os.Remove(fmt.Sprintf("/tmp/seaweedfs-volume-grpc-%d.sock", c.volume+10000))
	}
	if c.t.Failed() && c.dir != "" {
		if log, err := os.ReadFile(filepath.Join(c.dir, "weed.log")); err == nil {
			c.t.Logf("weed's log ends:\n%s", log[max(0, len(log)-4000):])
		}
	}
}

func (c *cluster) wait(what string, done func() bool) {
	c.t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("waited too long for %s", what)
		}
		select {
		case <-c.exited:
			log, _ := os.ReadFile(filepath.Join(c.dir, "weed.log"))
			c.t.Fatalf("weed has ended:\n%s", log[max(0, len(log)-4000):])
		default:
		}
	}
}

// server is "host:port" of the volume server.
func (c *cluster) server() string { return "127.0.0.1:" + strconv.Itoa(c.volume) }

// engine is the address of its exporter.
func (c *cluster) engine() string {
	return "tcp://127.0.0.1:" + strconv.Itoa(c.volume+seaweedfs.PortOffset)
}

func (c *cluster) url(fileID string) string { return "http://" + c.server() + "/" + fileID }

// assign asks for a file id.
func (c *cluster) assign(query string) (string, error) {
	answer, err := c.ask("/dir/assign" + query)
	var assigned struct{ Fid, Error string }
	if err == nil {
		err = json.Unmarshal(answer, &assigned)
	}
	if err == nil && assigned.Fid == "" {
		err = fmt.Errorf("no file id: %s", answer)
	}
	return assigned.Fid, err
}

// ask asks the master.
func (c *cluster) ask(path string) ([]byte, error) {
	response, err := client.Get("http://127.0.0.1:" + strconv.Itoa(c.master) + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

// upload stores a file, as a form would; the server compresses by its name.
func (c *cluster) upload(fileID, query, name string, data []byte) error {
	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	part, _ := writer.CreateFormFile("file", name)
	part.Write(data)
	writer.Close()
	response, err := client.Post(c.url(fileID)+query, writer.FormDataContentType(), &form)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != 201 && response.StatusCode != 204 {
		err = fmt.Errorf("upload of %s: %s: %s", fileID, response.Status, text)
	}
	return err
}

func (c *cluster) remove(fileID string) error {
	request, _ := http.NewRequest(http.MethodDelete, c.url(fileID), nil)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode >= 300 {
		return fmt.Errorf("delete of %s: %s", fileID, response.Status)
	}
	return nil
}

// answer is what HTTP says.
type answer struct {
	status int
	gzip   bool
	data   []byte
}

// get reads over HTTP as SeaweedFS's readers do: compressed data as it is stored, unless a range is asked for.
func (c *cluster) get(fileID, query, ranged, token string) (answer, error) {
	return getBy(client, c.url(fileID)+query, ranged, token)
}

func getBy(by *http.Client, url, ranged, token string) (answer, error) {
	request, _ := http.NewRequest(http.MethodGet, url, nil)
	if ranged != "" {
		request.Header.Set("Range", ranged)
	} else {
		request.Header.Set("Accept-Encoding", "gzip")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := by.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header.Get("Content-Encoding") == "gzip", data}, err
}

// vacuum has the master vacuum every volume that has garbage.
func (c *cluster) vacuum() {
	if _, err := c.ask("/vol/vacuum?garbageThreshold=0.0001"); err != nil {
		c.t.Fatal(err)
	}
}
