package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// envoy is one Envoy.
type envoy struct {
	*fleet.Process
	name, addr, admin string
}

// envoy starts one with the bootstrap that the CLI prints, for all hosts; more are further flags of
// the command.
func (s *stage) envoy(name string, more ...string) *envoy {
	s.t.Helper()
	e := s.place(name)
	args := []string{"bootstrap", "envoy", "--node", name, "--xds", s.plane.XDS, "--admin", e.admin, "--listen", e.addr,
		"--upstream", s.upstream.Addr, "--ticket-lifetime", lifetime.String()}
	for _, h := range s.hosts {
		args = append(args, "--host", h)
	}
	config, err := s.fleet.Run(s.ctx, filepath.Join(bin, "lockstep"), append(args, more...)...)
	s.ok(err)
	s.run(e, config)
	return e
}

// place finds the addresses of an Envoy.
func (s *stage) place(name string) *envoy {
	s.t.Helper()
	e := &envoy{name: name}
	for _, addr := range []*string{&e.addr, &e.admin} {
		var err error
		*addr, err = fleet.Addr()
		s.ok(err)
	}
	return e
}

func (s *stage) run(e *envoy, config []byte, more ...string) {
	s.t.Helper()
	var err error
	e.Process, err = s.fleet.Envoy(fmt.Sprintf("%s-%d", e.name, len(s.envoys)), config, e.admin, more...)
	s.ok(err)
	s.envoys = append(s.envoys, e)
}

// awaitReady waits until the Envoys serve; none named: all of them.
func (s *stage) awaitReady(envoys ...*envoy) {
	s.t.Helper()
	if len(envoys) == 0 {
		envoys = s.envoys
	}
	for _, e := range envoys {
		s.ok(e.Ready(s.ctx))
		s.eventually(e.listens)
	}
}

// listens: /ready says 200 a moment before the port is open.
func (e *envoy) listens() error {
	conn, err := net.DialTimeout("tcp", e.addr, time.Second)
	if err == nil {
		conn.Close()
	}
	return err
}

// fleetOf starts Envoys edge-1 and so on, and waits until they serve.
func (s *stage) fleetOf(n int) {
	s.t.Helper()
	for i := range n {
		s.envoy(fmt.Sprintf("edge-%d", i+1))
	}
	s.awaitReady()
}

// waits returns nil while the Envoy is up, not ready, and its port closed.
func (e *envoy) waits() error {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + e.admin + "/ready")
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("%s: /ready says %s, want 503", e.name, resp.Status)
	}
	if e.listens() == nil {
		return fmt.Errorf("%s: its port is open", e.name)
	}
	return nil
}

// reaches makes a full handshake without checking the certificate.
func (s *stage) reaches(e *envoy, sni string) error {
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{ServerName: sni, InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", e.addr)
	if err == nil {
		conn.Close()
	}
	return err
}
