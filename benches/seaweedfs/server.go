package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// With the ports 10,000 (gRPC) and 20,000 (engine) above them, below those that the kernel gives to clients.
const (
	masterPort = 11_333
	volumePort = 11_080
	engineAt   = "tcp://127.0.0.1:31080"
)

var server struct {
	process *exec.Cmd
	folder  string
}

// startServer starts a real volume server with its exporter.
func startServer(weed string) {
	weed, err := filepath.Abs(weed)
	check(err)
	server.folder, err = os.MkdirTemp("", "rdweed-bench-")
	check(err)
	log, err := os.Create(filepath.Join(server.folder, "weed.log"))
	check(err)
	server.process = exec.Command(weed, "-logtostderr", "server", "-dir="+server.folder, "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
		"-master.peers=none", "-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=8", "-volume.preStopSeconds=0", "-volume.minFreeSpace=100MiB",
		fmt.Sprintf("-master.port=%d", masterPort), fmt.Sprintf("-volume.port=%d", volumePort))
	server.process.Stdout, server.process.Stderr, server.process.Dir = log, log, server.folder
	server.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	check(server.process.Start())
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err := assign(); err == nil {
			return
		}
		if time.Now().After(end) {
			check(fmt.Errorf("weed does not come up; see %s", log.Name()))
		}
	}
}

func stopServer() {
	if server.process != nil && server.process.Process != nil {
		server.process.Process.Kill()
		server.process.Wait()
		server.process = nil
		os.RemoveAll(server.folder)
		// SeaweedFS makes it at a fixed place, and leaves it there.
		os.Remove(fmt.Sprintf("/tmp/seaweedfs-volume-grpc-%d.sock", volumePort+10000))
	}
}

func assign() (string, error) {
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/dir/assign", masterPort))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var assigned struct{ Fid, Error string }
	if err := json.NewDecoder(response.Body).Decode(&assigned); err != nil || assigned.Fid == "" {
		return "", fmt.Errorf("no file id: %s %v", assigned.Error, err)
	}
	return assigned.Fid, nil
}

// files of one length.
type files struct {
	size int
	ids  []string
	urls []string
	next int
}

// inParallel has some goroutines read, a file each at a time.
func (f *files) inParallel(goroutines int, read func(goroutine, file int)) sample {
	const each = 10
	return measure(each*goroutines, f.size, func(*[]float64) {
		var group sync.WaitGroup
		for goroutine := range goroutines {
			group.Add(1)
			first := f.turn()
			go func() {
				defer group.Done()
				for i := range each {
					read(goroutine, (first+i*goroutines)%len(f.ids))
				}
			}()
		}
		group.Wait()
	})
}

// turn is the place of the next file, one after the other.
func (f *files) turn() int {
	f.next = (f.next + 1) % len(f.ids)
	return f.next
}

// upload stores files of noise.
func upload(size, count int) *files {
	f := &files{size: size}
	random := rand.New(rand.NewPCG(uint64(size), 1))
	data := make([]byte, size)
	for range count {
		for at := range data {
			data[at] = byte(random.Uint32())
		}
		id, err := assign()
		check(err)
		url := fmt.Sprintf("http://127.0.0.1:%d/%s", volumePort, id)
		var form bytes.Buffer
		writer := multipart.NewWriter(&form)
		part, err := writer.CreateFormFile("file", "noise.bin")
		check(err)
		part.Write(data)
		writer.Close()
		response, err := http.Post(url, writer.FormDataContentType(), &form)
		check(err)
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusCreated {
			check(fmt.Errorf("upload: %s", response.Status))
		}
		f.ids, f.urls = append(f.ids, id), append(f.urls, url+"?readDeleted=true")
	}
	return f
}

// processorTime is what this process and the server have used, in seconds.
func processorTime() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	own := time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	if server.process == nil {
		return own
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", server.process.Process.Pid))
	check(err)
	// After the name in parentheses, user and system time are the 12th and 13th; a hundred ticks are a second.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err := strconv.ParseFloat(fields[11], 64)
	check(err)
	system, err := strconv.ParseFloat(fields[12], 64)
	check(err)
	return own + (user+system)/100
}
