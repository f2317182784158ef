package seaweedfs

import "github.com/prometheus/client_golang/prometheus"

// Collector gives the reader's counters to Prometheus, under names that begin with SeaweedFS_rdma.
func (r *Reader) Collector() prometheus.Collector { return collector{r} }

type collector struct{ reader *Reader }

var (
	readsDesc = prometheus.NewDesc("SeaweedFS_rdma_reads_total",
		"Chunk reads by who answered: the engine, or HTTP in its place.", []string{"by"}, nil)
	bytesDesc = prometheus.NewDesc("SeaweedFS_rdma_read_bytes_total", "Bytes of the chunk reads that the engine answered.", nil, nil)
	leftDesc  = prometheus.NewDesc("SeaweedFS_rdma_left_total", "Reads that the engine was asked for and left to HTTP.", []string{"why"}, nil)
)

func (c collector) Describe(to chan<- *prometheus.Desc) {
	to <- readsDesc
	to <- bytesDesc
	to <- leftDesc
}

func (c collector) Collect(to chan<- prometheus.Metric) {
	s := c.reader.Stats()
	count := func(desc *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	count(readsDesc, s.Reads, "engine")
	count(readsDesc, s.Passed, "http")
	count(bytesDesc, s.Bytes)
	count(leftDesc, s.Ineligible, "ineligible")
	count(leftDesc, s.Refused, "verdict")
	count(leftDesc, s.Failed, "failed")
}
