package main

import (
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/seaweedfs/seaweedfs/weed/command"
	"github.com/seaweedfs/seaweedfs/weed/glog"
	"github.com/seaweedfs/seaweedfs/weed/stats"
	"github.com/seaweedfs/seaweedfs/weed/util"
	"github.com/seaweedfs/seaweedfs/weed/util/grace"
	util_http "github.com/seaweedfs/seaweedfs/weed/util/http"

	"rdma-engine/seaweedfs"
)

// readers are the commands that read chunks all the time.
var readers = map[string]bool{"server": true, "filer": true, "s3": true, "webdav": true, "sftp": true, "mount": true,
	"mq.broker": true, "filer.backup": true, "filer.cat": true, "filer.replicate": true, "filer.sync": true,
	"filer.remote.sync": true}

// start starts what the command is to have of the engine. That it cannot is a warning: SeaweedFS works without. The caller
// calls `end` when the command has ended; it may be called again, and then waits for the first.
func start(cmd *command.Command, s settings) (end func()) {
	end = func() {}
	util.LoadSecurityConfiguration()
	if s.serve {
		if volume, ok := volumeOf(cmd); ok {
			serve(volume, s)
		}
	}
	if s.read && readers[cmd.Name()] {
		end = read(s)
	}
	return end
}

// volume is what the flags say of a volume server.
type volume struct {
	dirs         []string
	indexDir     string
	host         string
	port         int
	encryptsHTTP bool
}

// volumeOf reads the flags of a command that runs a volume server.
func volumeOf(cmd *command.Command) (v volume, ok bool) {
	prefix := "volume."
	switch cmd.Name() {
	case "volume":
		prefix = ""
	case "server":
		if text(cmd, "volume") != "true" {
			return v, false
		}
	default:
		return v, false
	}
	for _, dir := range strings.Split(text(cmd, "dir"), ",") {
		v.dirs = append(v.dirs, util.ResolvePath(dir))
	}
	v.indexDir = util.ResolvePath(text(cmd, prefix+"dir.idx"))
	v.host = text(cmd, "ip.bind")
	if v.host == "" {
		v.host = text(cmd, "ip")
	}
	v.port, _ = strconv.Atoi(text(cmd, prefix+"port"))
	v.encryptsHTTP = util.GetViper().GetString("https.volume.key") != ""
	return v, true
}

// text is a flag's value; empty when there is no such flag.
func text(cmd *command.Command, name string) string {
	if known := cmd.Flag.Lookup(name); known != nil {
		return known.Value.String()
	}
	return ""
}

func serve(v volume, s settings) {
	if v.encryptsHTTP && !s.plain {
		glog.Warningf("rdma: not served: security.toml has https.volume, and the engine does not encrypt (-rdma.plain permits it)")
		return
	}
	if s.address == "" {
		if v.port+s.offset > 65535 {
			glog.Warningf("rdma: not served: port %d + %d is none; set -rdma.address", v.port, s.offset)
			return
		}
		s.address = "tcp://" + net.JoinHostPort(v.host, strconv.Itoa(v.port+s.offset))
	}
	exporter, err := seaweedfs.Export(seaweedfs.ExportOptions{Engine: s.engine, Address: s.address, Dirs: v.dirs,
		IndexDir: v.indexDir, Threads: s.threads, ReadKey: readKey()})
	if err != nil {
		glog.Warningf("rdma: not served, HTTP is: %v", err)
		return
	}
	glog.V(0).Infof("rdma: needles of %s are served at %s", strings.Join(v.dirs, ","), exporter.Address())
	grace.OnReload(func() {
		// SeaweedFS's own hook has not run yet.
		util.LoadConfiguration("security", false)
		if err := exporter.SetReadKey(readKey()); err != nil {
			glog.Errorf("rdma: not served any more, HTTP is: %v", err)
		}
	})
	grace.OnInterrupt(func() { exporter.Close() })
}

func readKey() string { return util.GetViper().GetString("jwt.signing.read.key") }

func read(s settings) (end func()) {
	reader, err := seaweedfs.NewReader(seaweedfs.Options{Engine: s.engine, PortOffset: s.offset, Timeout: s.timeout, Plain: s.plain})
	if err != nil {
		glog.Warningf("rdma: chunks are read over HTTP: %v", err)
		return func() {}
	}
	client := util_http.GetGlobalHttpClient().Client
	client.Transport = reader.Transport(client.Transport)
	stats.Gather.MustRegister(reader.Collector())
	glog.V(0).Infof("rdma: chunks are read through the engine from volume servers that serve it at their port + %d", s.offset)
	// A mount that is interrupted returns while the hooks still run: the first of both to come here does it.
	end = sync.OnceFunc(func() {
		glog.V(0).Infof("rdma: %+v", reader.Stats())
		reader.Close()
	})
	grace.OnInterrupt(end)
	return end
}
