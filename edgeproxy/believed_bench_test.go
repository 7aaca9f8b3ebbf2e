package edgeproxy

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"testing"
)

// BenchmarkHeaders is the work on the header of a request, as a browser sends it.
func BenchmarkHeaders(b *testing.B) {
	in := httptest.NewRequest("GET", "https://shop.example/", nil)
	in.RemoteAddr = "192.0.2.7:12345"
	in.Header = http.Header{
		"User-Agent": {"Mozilla/5.0"}, "Accept": {"text/html"}, "Accept-Language": {"en"}, "Accept-Encoding": {"gzip"},
		"Cookie": {"session=1"}, "Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Mode": {"navigate"},
		"Sec-Fetch-Site": {"none"}, "Upgrade-Insecure-Requests": {"1"}, "Sec-Ch-Ua-Platform": {`"Linux"`},
		"Cache-Control": {"no-cache"}, "X-Requested-With": {"XMLHttpRequest"}, "Referer": {"https://shop.example/"},
	}
	in = in.WithContext(context.WithValue(b.Context(), entryKey{}, new(entry)))
	p := new(Proxy)
	b.ReportAllocs()
	for b.Loop() {
		out := in.Clone(in.Context())
		p.rewrite(&httputil.ProxyRequest{In: in, Out: out})
	}
}
