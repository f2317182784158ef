package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rdma-engine/rdmaengine"
)

func TestOurSettingsAreTakenAndTheOthersLeft(t *testing.T) {
	environment := func(name string) (string, bool) {
		value, ok := map[string]string{"WEED_RDMA_TIMEOUT": "2s", "WEED_RDMA_MEMORY": "64MiB"}[name]
		return value, ok
	}
	args := strings.Fields("-v=1 -rdma.read=false rdma.cat server --rdma.timeout=3s -dir=/a -rdma.transports=shared,tcp -rdma.plain -- -rdma.serve=false")
	s, rest, err := takeSettings(args, environment)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Fields("-v=1 rdma.cat server -dir=/a -- -rdma.serve=false"); !slices.Equal(rest, want) {
		t.Fatalf("%q", rest)
	}
	if !s.serve || s.read || !s.plain || s.timeout != 3*time.Second || s.engine.MemoryLimit != 64<<20 || s.offset != 20000 ||
		s.engine.Transports != rdmaengine.TransportShared|rdmaengine.TransportTCP {
		t.Fatalf("%+v", s)
	}
	for _, wrong := range []string{"-rdma.nothing=1", "-rdma.threads=x", "-rdma.transports=pigeon", "-rdma.memory=1TiB", "-rdma.serve=maybe"} {
		if _, _, err := takeSettings([]string{wrong}, environment); err == nil {
			t.Error(wrong)
		}
	}
}
