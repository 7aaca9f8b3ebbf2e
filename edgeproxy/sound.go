package edgeproxy

import (
	"fmt"
	"net/http"
)

// sound refuses a response that net/http reads and cannot write. Its request is answered with 502.
func sound(r *http.Response) error {
	if r.StatusCode < 100 || r.StatusCode > 999 { // HTTP/2 upstreams can send any number
		return fmt.Errorf("the upstream's status %03d is none of HTTP", r.StatusCode)
	}
	if r.StatusCode == http.StatusNoContent {
		// Clients of HTTP/2 would wait for what the length says (RFC 9110, section 8.6).
		r.Header.Del("Content-Length")
	}
	return nil
}
