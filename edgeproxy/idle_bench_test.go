package edgeproxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sync/errgroup"
)

// The clients are another process: it is told an address and a number in its environment, and ends
// with its standard input.
const idleClients = "LOCKSTEP_TEST_IDLE"

// BenchmarkIdleConnections reports the memory (resident set) of connections that have made one
// request and keep quiet, half of HTTP/1.1 and half of HTTP/2.
func BenchmarkIdleConnections(b *testing.B) {
	const n = 10_000
	for b.Loop() {
		r := to(b, nil, origin(b, "http", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") }))
		before := resident(b)
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", idleClients, r.addrs[0], n))
		c.Stderr = os.Stderr
		hold, err := c.StdinPipe()
		check(b, err)
		out, err := c.StdoutPipe()
		check(b, err)
		check(b, c.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
			b.Fatal(line, err)
		}
		b.ReportMetric(float64(resident(b)-before)/n, "KB/connection")
		hold.Close()
		check(b, c.Wait())
		r.stop()
	}
	b.ReportMetric(0, "ns/op")
}

// resident is the memory of this process in KB.
func resident(b *testing.B) int {
	status, err := os.ReadFile("/proc/self/status")
	check(b, err)
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(after)[0])
	check(b, err)
	return kb
}

// keepIdle is the other process.
func keepIdle(order string) error {
	var addr string
	var n int
	if _, err := fmt.Sscan(order, &addr, &n); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(16)
	for i := range n {
		g.Go(func() error { return once(addr, protos[i%2]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	fmt.Println("open")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// once makes a request on a connection that is left open.
func once(addr, proto string) error {
	// nothing is sent that matters
	c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: shop, InsecureSkipVerify: true,
		NextProtos: []string{proto}})
	if err != nil {
		return err
	}
	keep.Store(c, true)
	c.SetDeadline(time.Now().Add(time.Minute))
	if proto == "http/1.1" {
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", shop)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	f.WriteSettings()
	var head bytes.Buffer
	e := hpack.NewEncoder(&head)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/"}, {":authority", shop}} {
		e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: true,
		EndHeaders: true})
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return err
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				f.WriteSettingsAck()
			}
		case *http2.DataFrame:
			if fr.StreamEnded() {
				return nil
			}
		}
	}
}

var keep sync.Map // connections, so that no finalizer closes them
