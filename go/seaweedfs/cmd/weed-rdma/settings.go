package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"rdma-engine/rdmaengine"
	"rdma-engine/seaweedfs"
)

const settingsHelp = `Settings of the engine, anywhere among the arguments as -rdma.NAME=VALUE, or in the environment as WEED_RDMA_NAME:

  -rdma.serve=true          volume, server: serve needles through the engine beside HTTP
  -rdma.address=            where, as tcp://host:port; default: ip.bind (or ip) and the HTTP port + rdma.offset
  -rdma.threads=0           threads that read the disk; 0 is 4
  -rdma.read=true           mount, filer, s3 and the like: read chunks through the engine from volume servers that serve it
  -rdma.offset=20000        from a volume server's HTTP port to its engine's
  -rdma.timeout=5s          of a read through the engine; HTTP takes over then
  -rdma.plain=false         use the engine although security.toml asks for https: it does not encrypt
  -rdma.memory=0            bytes of registered memory, with KiB, MiB or GiB; 0 is 1 GiB
  -rdma.transports=         of shared, tcp, rdma, with commas; default: all
  -rdma.devices=            UCX's network devices; default: those of the addresses in use
`

// settings are ours, as opposed to SeaweedFS's flags.
type settings struct {
	serve, read, plain bool
	address            string
	threads, offset    int
	timeout            time.Duration
	engine             rdmaengine.Options
}

// takeSettings takes ours out of the arguments; the environment has those that are not there.
func takeSettings(args []string, environment func(string) (string, bool)) (settings, []string, error) {
	s := settings{serve: true, read: true, offset: seaweedfs.PortOffset, timeout: 5 * time.Second}
	names := []string{"serve", "address", "threads", "read", "offset", "timeout", "plain", "memory", "transports", "devices"}
	for _, name := range names {
		if value, ok := environment("WEED_RDMA_" + strings.ToUpper(name)); ok {
			if err := s.set(name, value); err != nil {
				return s, nil, err
			}
		}
	}
	var rest []string
	for i, arg := range args {
		name, ours := strings.CutPrefix(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "rdma.")
		if arg == "--" {
			return s, append(rest, args[i:]...), nil
		}
		if !ours || arg[0] != '-' {
			rest = append(rest, arg)
			continue
		}
		name, value, found := strings.Cut(name, "=")
		if !found {
			value = "true"
		}
		if err := s.set(name, value); err != nil {
			return s, nil, err
		}
	}
	return s, rest, nil
}

func (s *settings) set(name, value string) (err error) {
	switch name {
	case "serve":
		s.serve, err = strconv.ParseBool(value)
	case "read":
		s.read, err = strconv.ParseBool(value)
	case "plain":
		s.plain, err = strconv.ParseBool(value)
	case "address":
		s.address = value
	case "threads":
		s.threads, err = strconv.Atoi(value)
	case "offset":
		s.offset, err = strconv.Atoi(value)
	case "timeout":
		s.timeout, err = time.ParseDuration(value)
	case "memory":
		s.engine.MemoryLimit, err = parseBytes(value)
	case "transports":
		s.engine.Transports, err = parseTransports(value)
	case "devices":
		s.engine.Devices = value
	default:
		return fmt.Errorf("there is no setting -rdma.%s; weed-rdma help rdma lists them", name)
	}
	if err != nil {
		return fmt.Errorf("-rdma.%s=%s: %w", name, value, err)
	}
	return nil
}

func parseBytes(text string) (int64, error) {
	for unit, shift := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if digits, found := strings.CutSuffix(text, unit); found {
			n, err := strconv.ParseInt(digits, 10, 32)
			return n << shift, err
		}
	}
	return strconv.ParseInt(text, 10, 64)
}

func parseTransports(text string) (all rdmaengine.Transport, err error) {
	known := map[string]rdmaengine.Transport{"shared": rdmaengine.TransportShared, "tcp": rdmaengine.TransportTCP,
		"rdma": rdmaengine.TransportRDMA}
	for _, name := range strings.Split(text, ",") {
		transport, ok := known[strings.TrimSpace(name)]
		if !ok {
			return 0, fmt.Errorf("%q is none of shared, tcp, rdma", name)
		}
		all |= transport
	}
	return all, nil
}
