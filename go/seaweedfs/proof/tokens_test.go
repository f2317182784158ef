package proof

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seaweedfs/seaweedfs/weed/security"

	"rdma-engine/rdmaengine"
	"rdma-engine/seaweedfs"
)

func securityWith(key string) string {
	return "[jwt.signing.read]\nkey = \"" + key + "\"\nexpires_after_seconds = 600\n"
}

func tokenOf(key, fileID string) string {
	return string(security.GenJwtForVolumeServer(security.SigningKey(key), 600, fileID))
}

// TestReadKey: with SeaweedFS's read key a token is needed, and it is for one file.
func TestReadKey(t *testing.T) {
	t.Parallel()
	c := start(t, securityWith("first key"))
	random := seedOf(t)
	files := make([]*file, 40)
	for at := range files {
		files[at] = &file{seed: random + uint64(at), length: 1 + at*at*100, text: at%3 == 0}
		if err := store(c, files[at], false); err != nil {
			t.Fatal(err)
		}
	}
	engine, session := c.dial(roads[0])
	defer engine.Close()
	for at, f := range files {
		tokens := map[string]string{"no token": "", "the right one": tokenOf("first key", f.id), "another key's": tokenOf("a key", f.id),
			"another file's": tokenOf("first key", files[(at+1)%len(files)].id), "nonsense": "a.b.c"}
		for name, token := range tokens {
			want := c.overHTTP(f.id, "", token)
			if (want.status == rdmaengine.StatusOK) != (name == "the right one") {
				t.Fatalf("%s with %s: HTTP says %v", f.id, name, want)
			}
			options := rdmaengine.NeedleOptions{Token: token}
			needle, err := session.ReadNeedle(context.Background(), f.id, options)
			c.same(f, name, true, want, ofNeedle(&needle, err))
			needle.Release()
			batch := session.ReadNeedles(context.Background(), []rdmaengine.NeedleRead{{FileID: f.id, Options: options}})
			c.same(f, name+" in a batch", true, want, ofNeedle(&batch[0].Needle, batch[0].Err))
			batch[0].Release()
		}
	}
	key := "first key"
	reader := c.reader(seaweedfs.Options{Token: func(fileID string) string { return tokenOf(key, fileID) }})
	defer reader.Close()
	wrapped := &http.Client{Transport: reader.Transport(client.Transport)}
	readAll := func(what string) {
		before := reader.Stats()
		for _, f := range files {
			a, err := getBy(wrapped, c.url(f.id)+readDeleted, "", tokenOf(key, f.id))
			if err == nil && a.gzip {
				a.data, err = clear(a.data)
			}
			if err != nil || a.status != http.StatusOK || string(a.data) != string(f.bytes()) {
				t.Errorf("%s, %s: %d %v", what, f.id, a.status, err)
			}
		}
		if after := reader.Stats(); after.Reads-before.Reads != uint64(len(files)) {
			t.Errorf("%s: the engine has read %d of %d", what, after.Reads-before.Reads, len(files))
		}
	}
	readAll("first key")
	// A new key counts from the moment that the server is told of it.
	if err := os.WriteFile(filepath.Join(c.dir, "security.toml"), []byte(securityWith("second key")), 0o600); err != nil {
		t.Fatal(err)
	}
	c.process.Process.Signal(syscall.SIGHUP)
	f := files[1]
	c.wait("HTTP and the engine to take the new key alone", func() bool {
		again, err := engine.Dial(context.Background(), c.engine())
		if err != nil {
			return false
		}
		defer again.Close()
		_, old := again.ReadNeedle(context.Background(), f.id, rdmaengine.NeedleOptions{Token: tokenOf("first key", f.id)})
		needle, err := again.ReadNeedle(context.Background(), f.id, rdmaengine.NeedleOptions{Token: tokenOf("second key", f.id)})
		needle.Release()
		return old != nil && err == nil && c.overHTTP(f.id, "", tokenOf("first key", f.id)).status == rdmaengine.StatusUnauthorized
	})
	key = "second key"
	c.wait("the reader to be connected again", func() bool { return reader.Connect(context.Background(), c.server()) == nil })
	if _, err := getBy(wrapped, c.url(f.id)+readDeleted, "", tokenOf(key, f.id)); err != nil {
		t.Fatal(err) // the session of before, if it still was there, is gone now
	}
	c.wait("the reader to be connected again", func() bool { return reader.Connect(context.Background(), c.server()) == nil })
	readAll("second key")
}
