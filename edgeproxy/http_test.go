package edgeproxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// everyWay runs f for each version that a client speaks and each that an upstream does.
func everyWay(t *testing.T, h http.HandlerFunc, f func(*testing.T, *rig, *http.Client)) {
	for _, scheme := range []string{"http", "h2c", "https"} {
		for _, proto := range protos {
			t.Run(proto+" to "+scheme, func(t *testing.T) {
				t.Parallel()
				r := to(t, nil, origin(t, scheme, h))
				f(t, r, r.over(proto))
			})
		}
	}
}

func TestWhatIsSaidPassesUnchanged(t *testing.T) {
	t.Parallel()
	everyWay(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		switch r.URL.Path {
		case "/none":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(204)
		case "/same":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		case "/untyped":
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html>")
		case "/long":
			w.Header().Set("Content-Length", "12345")
		case "/early":
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(103)
			w.WriteHeader(200)
		default:
			w.Header().Add("X-Two", "1")
			w.Header().Add("X-Two", "2")
			w.Header().Set("Trailer", "X-Sum")
			w.WriteHeader(203)
			sum := sha256.New()
			n, err := io.Copy(io.MultiWriter(w, sum), r.Body)
			w.Header().Set("X-Sum", fmt.Sprintf("%x %d %v", sum.Sum(nil), n, err))
			w.Header().Set(http.TrailerPrefix+"X-Late",
				r.Host+" "+r.Method+" "+r.RequestURI+" "+r.Trailer.Get("X-Tail"))
		}
	}, func(t *testing.T, r *rig, c *http.Client) {
		const path = "/caf%C3%A9/%2Fa?b;c&d=%zz&&a=1"
		sent := bytes.Repeat([]byte("all of it "), 400_000)
		resp, body := r.do(c, "PATCH", path, io.MultiReader(bytes.NewReader(sent)), func(q *http.Request) {
			q.Trailer = http.Header{"X-Tail": {"end"}}
		})
		if resp.StatusCode != 203 || body != string(sent) || fmt.Sprint(resp.Header["X-Two"]) != "[1 2]" {
			t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(body), resp.Header)
		}
		if want := fmt.Sprintf("%x %d <nil>", sha256.Sum256(sent), len(sent)); resp.Trailer.Get("X-Sum") != want {
			t.Errorf("trailers: %v, not %q", resp.Trailer, want)
		}
		if want := shop + " PATCH " + path + " end"; resp.Trailer.Get("X-Late") != want {
			t.Errorf("the upstream read %q, not %q", resp.Trailer.Get("X-Late"), want)
		}
		for path, status := range map[string]int{"/none": 204, "/same": 304} {
			if resp, body := r.do(c, "GET", path, nil); resp.StatusCode != status || body != "" ||
				resp.Header.Get("Etag") != `"x"` {
				t.Errorf("%s: %d %q %v", path, resp.StatusCode, body, resp.Header)
			}
		}
		if resp, _ := r.do(c, "GET", "/untyped", nil); resp.Header["Content-Type"] != nil {
			t.Errorf("a content type was guessed: %v", resp.Header)
		}
		if resp, _ := r.do(c, "HEAD", "/long", nil); resp.ContentLength != 12345 {
			t.Errorf("HEAD: %d bytes", resp.ContentLength)
		}
		if resp, _ := r.do(c, "GET", "/early", nil); resp.StatusCode != 200 {
			t.Errorf("after early hints: %d", resp.StatusCode)
		}
	})
}

func TestAStreamArrivesPieceByPieceWhileTheRequestGoesOn(t *testing.T) {
	t.Parallel()
	everyWay(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Type", "text/event-stream")
		http.NewResponseController(w).Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			fmt.Fprintf(w, "data: %s\n\n", lines.Text())
			http.NewResponseController(w).Flush()
		}
	}, func(t *testing.T, r *rig, c *http.Client) {
		body, say := io.Pipe()
		defer say.Close()
		req, err := http.NewRequestWithContext(shortly(t), "POST", "https://"+shop, body)
		check(t, err)
		resp, err := c.Do(req)
		check(t, err)
		defer resp.Body.Close()
		events := bufio.NewReader(resp.Body)
		for i := range 5 {
			fmt.Fprintf(say, "%d\n", i)
			line, err := events.ReadString('\n')
			check(t, err)
			if line != fmt.Sprintf("data: %d\n", i) {
				t.Fatalf("%d: %q", i, line)
			}
			events.ReadString('\n')
		}
		say.Close()
		rest, err := io.ReadAll(events)
		if len(rest) > 0 || err != nil {
			t.Errorf("at the end: %q, %v", rest, err)
		}
	})
}

func TestABodyIsAskedForOnlyWhenTheUpstreamAsks(t *testing.T) {
	t.Parallel()
	everyWay(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(417)
			return
		}
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	}, func(t *testing.T, r *rig, c *http.Client) {
		expect := func(q *http.Request) { q.Header.Set("Expect", "100-continue"); q.ContentLength = 5 }
		body := &counted{r: strings.NewReader("hello")}
		// in HTTP/2 net/http takes the expectation away
		if resp, _ := r.do(c, "PUT", "/no", body, expect); resp.StatusCode != 417 || body.n.Load() > 0 &&
			resp.ProtoMajor == 1 {
			t.Errorf("%d, and %d reads of a body that nobody wants", resp.StatusCode, body.n.Load())
		}
		if resp, got := r.do(c, "PUT", "/", &counted{r: strings.NewReader("hello")}, expect); resp.StatusCode != 200 ||
			got != "hello" {
			t.Errorf("%d %q", resp.StatusCode, got)
		}
	})
}

func TestWhatNoUpstreamShouldGetIsRefused(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", func(_ http.ResponseWriter,
		r *http.Request) {
		t.Errorf("forwarded: %s %s", r.Method, r.RequestURI)
	}))
	for line, want := range map[string]string{
		"CONNECT shop.example:443 HTTP/1.1": "501", "GET http:admin HTTP/1.1": "400",
		"GET http://other.example/ HTTP/1.1": "421",
		"GET /%zz HTTP/1.1":                  "400", "G@T / HTTP/1.1": "400", "PRI * HTTP/2.0": "400",
	} {
		c := r.dial(shop, "http/1.1")
		fmt.Fprintf(c, "%s\r\nHost: shop.example\r\nConnection: close\r\n\r\n", line)
		if got, _ := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%s: %q, not %s", line, got, want)
		}
	}
	f := r.raw()
	for i, c := range []struct{ want, field, value string }{
		{"400", ":method", "GET /admin HTTP/1.1"}, {"400", ":path", "/?a HTTP/1.1"}, {"400", ":path", "*"},
		{"421", ":authority", "other.example"}, {"421", ":authority", "user@shop.example"},
		{"400", "upgrade", "websocket"}, {"400", "transfer-encoding", "chunked"},
	} {
		stream := uint32(2*i + 1)
		f.request(stream, true, c.field, c.value)
		if got := f.status(stream); got != c.want && got != "PROTOCOL_ERROR" {
			t.Errorf("%s %q: %s, not %s", c.field, c.value, got, c.want)
		}
	}
}

func TestAnUpgradeToAnythingButWebSocketIsNotPassedOn(t *testing.T) {
	t.Parallel()
	r := to(t, nil, origin(t, "http", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header["Connection"], r.Header["Upgrade"], r.Header["Http2-Settings"])
	}))
	_, got := r.do(r.over("http/1.1"), "GET", "/", nil, func(q *http.Request) {
		q.Header = http.Header{"Connection": {"Upgrade, HTTP2-Settings"}, "Upgrade": {"h2c"},
			"Http2-Settings": {"AAMAAABkAARAAAAAAAIAAAAA"}}
	})
	if got != "[] [] []" && got != "[][][]" {
		t.Errorf("the upstream was asked for another protocol: %s", got)
	}
}

func TestAnUploadThatIsNotWantedEndsWithItsAnswer(t *testing.T) {
	t.Parallel()
	everyWay(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) },
		func(t *testing.T, r *rig, c *http.Client) {
			req, err := http.NewRequestWithContext(shortly(t), "POST", "https://"+shop, &endless{})
			check(t, err)
			start := time.Now()
			resp, err := c.Do(req)
			if err != nil {
				// the connection was closed while the client was writing: it need not have read the
				// answer
				t.Logf("after %v: %v", time.Since(start), err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != 413 && resp.StatusCode != 502 {
				t.Errorf("%d", resp.StatusCode)
			}
		})
}
