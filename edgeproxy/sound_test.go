package edgeproxy

import "testing"

// HTTP/2 has no 101 (RFC 9113, section 8.6). A client of HTTP/1.1 would take what follows for
// another protocol.
func TestNoClientIsToldToSwitchWithoutAnUpgrade(t *testing.T) {
	t.Parallel()
	s := scripted(t, "h2c", func(int, int) string { return ":status 101" })
	r := to(t, nil, s.url)
	for _, proto := range protos {
		if resp, _ := r.do(r.over(proto), "GET", "/", nil); resp.StatusCode != 502 {
			t.Errorf("%s: %s", proto, resp.Status)
		}
	}
}

// An upstream may say that a response without a body has one.
func TestNoContentHasNoLength(t *testing.T) {
	t.Parallel()
	s := scripted(t, "http", func(int, int) string { return "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n" })
	r := to(t, nil, s.url)
	for _, proto := range protos {
		resp, body := r.do(r.over(proto), "GET", "/", nil)
		if resp.StatusCode != 204 || body != "" || resp.Header["Content-Length"] != nil {
			t.Errorf("%s: %d %q %v", proto, resp.StatusCode, body, resp.Header)
		}
	}
}
