package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// metric reads one series of /metrics, as `name{labels}`.
func (s *stage) metric(series string) float64 {
	s.t.Helper()
	scheme := "http"
	if s.plane.TLS != nil {
		scheme = "https"
	}
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, scheme+"://"+s.plane.Admin+"/metrics", nil)
	s.ok(err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: s.plane.TLS}}
	resp, err := client.Do(req)
	s.ok(err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), series+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			s.ok(err)
			return v
		}
	}
	s.ok(lines.Err())
	s.ok(fmt.Errorf("/metrics has no %s", series))
	return 0
}

// secrets counts what happened to secrets on streams: asked, sent, accepted, refused, dropped,
// closed.
func (s *stage) secrets(kind string) float64 {
	s.t.Helper()
	return s.metric(fmt.Sprintf("lockstep_xds_secret_events_total{kind=%q}", kind))
}
