package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"
)

// httpClient reads a file of a known length into memory of the caller's, over connections that are kept.
type httpClient interface {
	name() string
	get(url string, into []byte) error
}

type netHTTP struct{ client http.Client }

// tuned is net/http without what it does not need here.
func tuned() httpClient {
	return &netHTTP{http.Client{Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, DisableCompression: true,
		ReadBufferSize: 64 << 10, WriteBufferSize: 4 << 10}}}
}

func (*netHTTP) name() string { return "net/http" }

func (c *netHTTP) get(url string, into []byte) error {
	response, err := c.client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.ContentLength != int64(len(into)) {
		return fmt.Errorf("%s, %d bytes", response.Status, response.ContentLength)
	}
	_, err = io.ReadFull(response.Body, into)
	return err
}

type fastHTTP struct{ client fasthttp.HostClient }

func fast() httpClient {
	return &fastHTTP{fasthttp.HostClient{Addr: fmt.Sprintf("127.0.0.1:%d", volumePort), MaxConns: 256, ReadBufferSize: 64 << 10,
		NoDefaultUserAgentHeader: true, DisableHeaderNamesNormalizing: true, DisablePathNormalizing: true}}
}

func (*fastHTTP) name() string { return "fasthttp" }

func (c *fastHTTP) get(url string, into []byte) error {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.SetRequestURI(url)
	if err := c.client.Do(request, response); err != nil {
		return err
	}
	body := response.Body()
	if response.StatusCode() != fasthttp.StatusOK || len(body) != len(into) {
		return fmt.Errorf("status %d, %d bytes", response.StatusCode(), len(body))
	}
	copy(into, body)
	return nil
}

func httpOne(c httpClient, f *files) sample {
	into := make([]byte, f.size)
	return measure(20, f.size, func(times *[]float64) {
		for range 20 {
			began := time.Now()
			check(c.get(f.urls[f.turn()], into))
			if times != nil {
				*times = append(*times, float64(time.Since(began).Nanoseconds())/1e3)
			}
		}
	})
}

// httpMany has some goroutines read, a request each at a time.
func httpMany(c httpClient, f *files, goroutines int) sample {
	into := make([][]byte, goroutines)
	for i := range into {
		into[i] = make([]byte, f.size)
	}
	return f.inParallel(goroutines, func(goroutine, file int) { check(c.get(f.urls[file], into[goroutine])) })
}
