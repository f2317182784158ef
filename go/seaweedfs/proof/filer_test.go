package proof

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// TestFiler: a filer of the same program reads its chunks through the engine, without a change to SeaweedFS.
func TestFiler(t *testing.T) {
	t.Parallel()
	filerReads(t)
}

// TestFilerThatEncrypts: the engine carries what is stored, and the filer decrypts it.
func TestFilerThatEncrypts(t *testing.T) {
	t.Parallel()
	filerReads(t, "-filer.encryptVolumeData")
}

func filerReads(t *testing.T, more ...string) {
	filer, metrics := freePort(t), freePort(t)
	c := start(t, "", append(more, "-filer", "-filer.maxMB=1", fmt.Sprintf("-filer.port=%d", filer),
		fmt.Sprintf("-metricsPort=%d", metrics))...)
	at := fmt.Sprintf("http://127.0.0.1:%d/some/file.bin", filer)
	data := content(seedOf(t), 10<<20+12345, false)
	c.wait("the filer to store a file", func() bool { return put(at, data) == nil })
	reads := func() int {
		a, err := getBy(client, fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if a.gzip {
			a.data, _ = clear(a.data)
		}
		found := regexp.MustCompile(`SeaweedFS_rdma_reads_total\{by="engine"\} (\d+)`).FindSubmatch(a.data)
		if found == nil {
			return 0
		}
		n, _ := strconv.Atoi(string(found[1]))
		return n
	}
	ask := func(ranged string, want []byte) {
		request, _ := http.NewRequest(http.MethodGet, at, nil)
		if ranged != "" {
			request.Header.Set("Range", ranged)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s: %d bytes of %d, %v", ranged, len(got), len(want), err)
		}
	}
	// The first read has the session dialled; HTTP serves it.
	c.wait("the filer to read through the engine", func() bool {
		ask("", data)
		return reads() > 0
	})
	before := reads()
	ask("", data)
	ask("bytes=1000000-3000000", data[1_000_000:3_000_001])
	if after := reads(); after < before+11 {
		t.Errorf("the engine has read %d chunks of 14", after-before)
	}
	t.Run("mount", func(t *testing.T) { c.mounted(t, filer) })
}

// put stores a file by a filer.
func put(at string, data []byte) error {
	request, err := http.NewRequest(http.MethodPut, at, bytes.NewReader(data))
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s: %s", at, response.Status)
	}
	return nil
}

// mounted reads files of the filer through a mount of the same program.
func (c *cluster) mounted(t *testing.T, filer int) {
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil || os.Geteuid() != 0 {
		t.Skip("a mount needs /dev/fuse and root: ", err)
	}
	device.Close()
	where, logged := t.TempDir(), filepath.Join(c.dir, "mount.log")
	log, err := os.Create(logged)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	mount := exec.Command(os.Getenv("RDE_WEED"), "-logtostderr", "mount", fmt.Sprintf("-filer=127.0.0.1:%d", filer), "-dir="+where)
	mount.Dir, mount.Env, mount.Stdout, mount.Stderr = c.dir, append(os.Environ(), "HOME="+c.dir), log, log
	mount.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := mount.Start(); err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(func() {
		mount.Process.Signal(syscall.SIGTERM)
		mount.Wait()
		syscall.Unmount(where, syscall.MNT_DETACH) // nothing, if it went in order
	})
	defer end()
	said := func(pattern string) [][]byte {
		text, err := os.ReadFile(logged)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(pattern).FindSubmatch(text)
	}
	c.wait("the mount", func() bool {
		_, err := os.Stat(filepath.Join(where, "some", "file.bin"))
		return err == nil
	})
	seed, files := seedOf(t), 0
	// A file of its own each time: no cache has it. The first read has the session dialled; HTTP serves it.
	read := func() {
		files++
		name := fmt.Sprintf("some/mounted-%d.bin", files)
		data := content(seed+uint64(files), 3<<20+files, false)
		if err := put(fmt.Sprintf("http://127.0.0.1:%d/%s", filer, name), data); err != nil {
			t.Fatal(err)
		}
		c.wait("the mount to see a new file", func() bool {
			about, err := os.Stat(filepath.Join(where, name))
			return err == nil && about.Size() == int64(len(data))
		})
		if got, err := os.ReadFile(filepath.Join(where, name)); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%s: %d bytes of %d, %v", name, len(got), len(data), err)
		}
	}
	c.wait("the mount to reach the volume server", func() bool {
		read()
		return said(`rdma: chunks are read from tcp://`) != nil
	})
	read()
	end()
	counted := said(`rdma: \{Reads:([1-9]\d*) `)
	if counted == nil {
		text, _ := os.ReadFile(logged)
		t.Fatalf("the mount has read nothing through the engine:\n%s", text)
	}
	t.Logf("the mount has read %s chunks of %d files through the engine", counted[1], files)
}
