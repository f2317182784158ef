package proof

import (
	"os"
	"strconv"
	"testing"
)

func count(t testing.TB) int {
	if text := os.Getenv("RDE_FILES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return filesCount
}

// TestSameBytesAndVerdicts: one cluster, from its first file to its restart.
func TestSameBytesAndVerdicts(t *testing.T) {
	c := start(t, "")
	seed := seedOf(t)
	files := fill(c, seed, count(t))
	e := c.expect(files)
	step := func(name string, one func(c *cluster)) {
		t.Run(name, func(t *testing.T) {
			c.t = t
			one(c)
		})
		c.t = t
	}
	for _, r := range roads {
		step("one by one, "+r.name, func(c *cluster) { c.oneByOne(r, files, e) })
		step("batches, "+r.name, func(c *cluster) { c.batches(r, files, e) })
		step("C, one by one, "+r.name, func(c *cluster) { c.fromC(r, "one", files, e) })
		step("C, batches, "+r.name, func(c *cluster) { c.fromC(r, "batch", files, e) })
		step("reader, "+r.name, func(c *cluster) { c.throughReader(r, files) })
	}
	step("wrong cookies", func(c *cluster) { c.wrongCookies(files[:min(len(files), 200)]) })
	step("as the mount did", func(c *cluster) { c.asMount(files[:min(len(files), 200)]) })
	step("a flipped bit", func(c *cluster) { c.flippedBit(files[:min(len(files), 60)]) })
	step("while a writer overwrites and volumes are vacuumed", func(c *cluster) { c.whileWriting(seed) })
	step("vacuumed", func(c *cluster) { c.oneByOne(roads[0], files, c.expect(files)) })
	for _, r := range roads {
		step("the exporter is killed, "+r.name, func(c *cluster) { c.exporterKilled(r, files) })
	}
	step("while the server restarts", func(c *cluster) { c.whileRestarting(files) })
	step("restarted", func(c *cluster) { c.oneByOne(roads[1], files, c.expect(files)) })
}
