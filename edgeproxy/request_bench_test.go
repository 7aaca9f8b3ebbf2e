package edgeproxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkRequests makes requests one after the other, with the client and the origin in the same
// process.
func BenchmarkRequests(b *testing.B) {
	for _, scheme := range []string{"http", "h2c"} {
		r := to(b, nil, origin(b, scheme, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "here")
		}))
		for _, proto := range protos {
			for _, size := range []int{0, 1 << 10, 1 << 20} {
				method, name := http.MethodGet, "GET"
				if size > 0 {
					method, name = http.MethodPost, "POST of "+map[int]string{1 << 10: "1 KiB", 1 << 20: "1 MiB"}[size]
				}
				b.Run(proto+" to "+scheme+", "+name, func(b *testing.B) {
					c, body := r.over(proto), strings.Repeat("x", size)
					b.ReportAllocs()
					for b.Loop() {
						r.do(c, method, "/", strings.NewReader(body))
					}
				})
			}
		}
	}
}
