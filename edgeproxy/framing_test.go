package edgeproxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

// post writes a request of HTTP/1.1 with these fields.
func post(fields, body string) string {
	return "POST /last HTTP/1.1\r\nHost: shop.example\r\n" + fields + "\r\n" + body
}

type doubt struct {
	request string
	status  int
}

// doubtful are requests whose end a proxy and its upstream may see in different places, with the
// status that they get.
var doubtful = map[string]doubt{
	"both":                  {post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
	"both, the other way":   {post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400},
	"both, length 0":        {post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
	"both, apart":           {post("Content-Length: 5\r\nA: b\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
	"both, capitals":        {post("CONTENT-LENGTH: 5\r\nTRANSFER-ENCODING: CHUNKED\r\n", "0\r\n\r\n"), 400},
	"both, small":           {post("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"), 400},
	"both, no space":        {post("Content-Length:5\r\nTransfer-Encoding:chunked\r\n", "0\r\n\r\n"), 400},
	"both, tabs":            {post("Content-Length:\t5\t\r\nTransfer-Encoding:\tchunked\t\r\n", "0\r\n\r\n"), 400},
	"both, bare line feeds": {post("Content-Length: 5\nTransfer-Encoding: chunked\n", "0\r\n\r\n"), 400},
	"both, length twice": {post("Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
		"0\r\n\r\n"), 400},
	"both, length folded": {post("Content-Length:\r\n 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
	"both, coding folded": {post("Content-Length: 5\r\nTransfer-Encoding:\r\n\tchunked\r\n", "0\r\n\r\n"), 400},
	"both, expecting": {post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"+
		"Expect: 100-continue\r\n", ""), 400},
	"both, an upgrade": {post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"+
		"Connection: upgrade\r\nUpgrade: websocket\r\n", "0\r\n\r\n"), 400},
	"both, many spaces": {post("Content-Length: "+strings.Repeat(" ",
		300)+"5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
	"length folded":       {post("Content-Length:\r\n 5\r\n", "12345"), 400},
	"length folded after": {post("Content-Length: 5\r\n 6\r\n", "12345"), 400},
	"coding folded":       {post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), 400},
	"coding folded after": {post("Transfer-Encoding: chunked\r\n , gzip\r\n", "0\r\n\r\n"), 501},
	"two lengths":         {post("Content-Length: 5\r\nContent-Length: 6\r\n", "12345"), 400},
	"two lengths, a zero": {post("Content-Length: 5\r\nContent-Length: 05\r\n", "12345"), 400},
	"a list of lengths":   {post("Content-Length: 5, 5\r\n", "12345"), 400},
	"length with a plus":  {post("Content-Length: +5\r\n", "12345"), 400},
	"length below zero":   {post("Content-Length: -1\r\n", ""), 400},
	"length in hex":       {post("Content-Length: 0x5\r\n", "12345"), 400},
	"no length":           {post("Content-Length: \r\n", ""), 400},
	"length too large":    {post("Content-Length: 99999999999999999999\r\n", ""), 400},
	"gzip, chunked":       {post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501},
	"chunked, chunked":    {post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), 501},
	"chunked twice": {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
		"0\r\n\r\n"), 501},
	"identity":               {post("Transfer-Encoding: identity\r\n", ""), 501},
	"identity and length":    {post("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "12345"), 501},
	"xchunked":               {post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 501},
	"chunked in quotes":      {post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), 501},
	"no coding":              {post("Transfer-Encoding:\r\n", "0\r\n\r\n"), 501},
	"a space in the name":    {post("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400},
	"a space before":         {"POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: shop.example\r\n\r\n", 400},
	"a control in the name":  {post("\x0bTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
	"a control in the value": {post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), 400},
	"HTTP/1.0": {"POST /last HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"0\r\n\r\n", 400},
	"HTTP/1.0, kept alive": {"POST /last HTTP/1.0\r\nHost: shop.example\r\nConnection: keep-alive\r\n" +
		"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	"HTTP/1.0, both": {"POST /last HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n" +
		"Content-Length: 5\r\n\r\n0\r\n\r\n", 400},
	"HTTP/1.0, another coding": {"POST /last HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: gzip\r\n\r\n", 400},
}

// badChunks are bodies that net/http refuses while it reads them.
var badChunks = map[string]string{
	"a bare line feed after a size":  "5\n12345\r\n0\r\n\r\n",
	"a bare line feed after a chunk": "5\r\n12345\n0\r\n\r\n",
	"a size in another notation":     "0x5\r\n12345\r\n0\r\n\r\n",
	"a size with a sign":             "+5\r\n12345\r\n0\r\n\r\n",
	"a size after a space":           " 5\r\n12345\r\n0\r\n\r\n",
	"a size of many digits":          "00000000000000005\r\n12345\r\n0\r\n\r\n",
	"a size that overflows":          "fffffffffffffffff\r\n12345\r\n0\r\n\r\n",
	"a chunk that is too long":       "5\r\n123456\r\n0\r\n\r\n",
	"a chunk that is too short":      "5\r\n1234\r\n0\r\n\r\n",
	"no size":                        "\r\n0\r\n\r\n",
}

func init() {
	for what, body := range badChunks {
		doubtful[what] = doubt{post("Transfer-Encoding: chunked\r\n", body), 400}
	}
}

// before are requests that come first in the same packet.
var before = map[string]string{
	"nothing":  "",
	"a GET":    "GET /first HTTP/1.1\r\nHost: shop.example\r\n\r\n",
	"a length": "POST /first HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 11\r\n\r\nGET / HTTP\n\n",
	"chunks": "POST /first HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"5;a=b\r\n\r\n\r\nx\r\nA;c=\"d\" \t\r\n0123456789\r\n000;e\r\nX-Tail: 1\r\nX-More: 2\r\n\r\n",
	"an empty body": "POST /first HTTP/1.1\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"a fold": "POST /first HTTP/1.1\r\nHost: shop.example\r\nX: a\r\n Transfer-Encoding: chunked\r\n" +
		"Content-Length: 2\r\nContent-Length: 2\r\n\r\n\r\n",
}

func TestARequestWhoseEndIsInDoubtIsRefused(t *testing.T) {
	t.Parallel()
	var last atomic.Int64
	r := to(t, nil, origin(t, "http", func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil && r.URL.Path == "/last" {
			last.Add(1)
		}
	}))
	refused := 0
	var g errgroup.Group // net/http waits for half a second before it closes a connection
	g.SetLimit(100)
	for what, c := range doubtful {
		for first, text := range before {
			for _, piece := range []int{0, 1, 7} {
				if piece > 0 && (first != "nothing" && first != "chunks" || len(c.request) > 300) {
					continue
				}
				refused++
				g.Go(func() error {
					want := []int{200, c.status}
					if text == "" {
						want = want[1:]
					}
					if got := answers(r, text+c.request, piece); fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("%s after %s, in pieces of %d: %d, not %d", what, first, piece, got, want)
					}
					return nil
				})
			}
		}
	}
	g.Wait()
	if n := last.Load(); n > 0 {
		t.Errorf("%d of these requests reached the upstream", n)
	}
	n := 0
	r.until("each is in the access log", func() bool {
		n = strings.Count(r.log.String(), `"status":400`) + strings.Count(r.log.String(), `"status":501`)
		return n >= refused
	})
	if n != refused {
		t.Errorf("%d refusals are logged, of %d", n, refused)
	}
	for _, err := range []error{errTwoLengths, errOldCoding, errUnclear} {
		if !strings.Contains(r.log.String(), err.Error()) {
			t.Errorf("no refusal is logged as %v", err)
		}
	}
}

// answers sends a text over a connection of its own, and returns the statuses that come back until
// the proxy closes the connection. The last response says that it will.
func answers(r *rig, text string, piece int) (all []int) {
	conn := r.dial(shop, "http/1.1")
	defer conn.Close()
	go inPieces(conn, text, piece)
	in := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return append(all, -1)
		}
		all = append(all, resp.StatusCode)
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return append(all, -2)
		}
		if resp.Close {
			break
		}
	}
	if _, err := in.ReadByte(); err == nil || strings.Contains(err.Error(), "i/o timeout") {
		return append(all, -3)
	}
	return all
}

// inPieces writes a text in records of that many bytes.
func inPieces(w io.Writer, text string, size int) {
	if size == 0 {
		size = len(text)
	}
	for len(text) > 0 {
		n := min(size, len(text))
		if _, err := io.WriteString(w, text[:n]); err != nil {
			return
		}
		text = text[n:]
	}
}

func TestRequestsInOnePacketAreTakenOneByOne(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%q %v %d", b, err, len(r.Trailer))
	}))
	text, n := "", 0
	for range 3 {
		for _, b := range before {
			if text += b; b != "" {
				n++
			}
		}
	}
	for _, piece := range []int{0, 1, 13, 100} {
		conn := r.dial(shop, "http/1.1")
		go inPieces(conn, text, piece)
		in := bufio.NewReader(conn)
		for i := range n {
			resp, err := http.ReadResponse(in, nil)
			check(t, err)
			b, err := io.ReadAll(resp.Body)
			check(t, err)
			if resp.StatusCode != 200 || !strings.Contains(string(b), "<nil>") {
				t.Errorf("pieces of %d, response %d: %s %s", piece, i, resp.Status, b)
			}
		}
		conn.Close()
	}
}

// Net/http takes line feeds in trailers that stand alone. Then it may have read on into the next
// request, so that this one is refused.
func TestNoRequestFollowsATrailerInDoubt(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	for trailer, want := range map[string]string{
		"A: b\r\n\r\n": "[200 200]", "A: b\n\r\n\r\n": "[200 400]", "A: b\r\n\n\r\n\r\n": "[200 400]",
	} {
		for _, piece := range []int{0, 1} {
			text := post("Transfer-Encoding: chunked\r\n", "0\r\n"+trailer) +
				post("Transfer-Encoding: chunked\r\nConnection: close\r\n", "0\r\n\r\n")
			if got := answers(r, text, piece); fmt.Sprint(got) != want {
				t.Errorf("%q, in pieces of %d: %d, not %s", trailer, piece, got, want)
			}
		}
	}
}

func TestNoReaderStandsInFrontOfHTTP2(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") }))
	next := r.proxy.listeners[0].http2.Handler
	r.proxy.listeners[0].http2.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if http1Of(r) != nil {
			t.Error("an HTTP/2 connection has a reader")
		}
		next.ServeHTTP(w, r)
	})
	if resp, body := r.do(r.over("h2"), "GET", "/", nil); resp.ProtoMajor != 2 || body != "here" {
		t.Errorf("%s %q", resp.Proto, body)
	}
}

func TestWhatComesWithAnUpgradeIsNotLost(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
		line, err := rw.ReadString('\n')
		fmt.Fprintf(c, "%q %v\n", line, err)
	}))
	const early = "not HTTP \x00 5\n"
	for _, piece := range []int{0, 1, 50} {
		conn := r.dial(shop, "http/1.1")
		inPieces(conn, "GET /chat HTTP/1.1\r\nHost: shop.example\r\nConnection: upgrade\r\n"+
			"Upgrade: websocket\r\n\r\n"+early, piece)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		check(t, err)
		if resp.StatusCode != 101 {
			t.Fatal(resp.Status)
		}
		if line, _ := in.ReadString('\n'); line != fmt.Sprintf("%q <nil>\n", early) {
			t.Errorf("in pieces of %d: the upstream got %s", piece, line)
		}
	}
}

// BenchmarkFraming is what the reader costs for one request.
func BenchmarkFraming(b *testing.B) {
	head := []byte("GET /a/path/of/some/length?with=a&query=string HTTP/1.1\r\nHost: shop.example\r\n" +
		"Connection: keep-alive\r\nCache-Control: max-age=0\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) " +
		"AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
		"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nCookie: session=" + strings.Repeat("x", 200) + "\r\n\r\n")
	var f framing
	b.ReportAllocs()
	for b.Loop() {
		if n := f.take(head); n != len(head) {
			b.Fatal(n)
		}
	}
}

// whole is a reader of a connection, as http1 is.
type whole struct {
	from    *bytes.Reader
	framing framing
	rest    []byte
}

func (w *whole) Read(p []byte) (int, error) {
	if len(w.rest) == 0 {
		b := make([]byte, 100)
		n, err := w.from.Read(b)
		if err != nil {
			return 0, err
		}
		w.rest = b[:n]
	}
	n := w.framing.take(w.rest[:min(len(p), len(w.rest))])
	copy(p, w.rest[:n])
	w.rest = w.rest[n:]
	return n, nil
}

// Whatever comes, net/http and the reader see the end of a request in the same place, or the
// request is refused.
func FuzzFraming(f *testing.F) {
	for _, c := range doubtful {
		for _, text := range before {
			f.Add([]byte(text + c.request + text))
		}
	}
	f.Add([]byte("0 * HTTP/1.1\nTrAnsfer-EnCoding:Chunked\n\n00\r\n0:\n\r\n\r\n0"))
	f.Add([]byte(post("Transfer-Encoding: chunked\r\n", "0\r\nA: b\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := &whole{from: bytes.NewReader(b)}
		in := bufio.NewReader(w)
		for number := 1; ; number++ {
			r, err := http.ReadRequest(in)
			if err != nil || w.framing.refuses(number, r.ContentLength, !r.ProtoAtLeast(1, 1)) != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil || r.ProtoMajor != 1 {
				return
			}
			if w.framing.at == unknown {
				continue // the next is refused
			}
			if n := in.Buffered(); n > 0 || w.framing.at != inHead || w.framing.begun || w.framing.partLen > 0 {
				t.Fatalf("request %d: %d bytes of the next were read; the reader is at %d: %q", number, n,
					w.framing.at, b)
			}
		}
	})
}
