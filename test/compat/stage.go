package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

const (
	eagerHost  = "shop.example"
	laterHost  = "blog.example"   // is pinned later
	coldHost   = "cold.example"   // is fetched on demand
	absentHost = "absent.example" // has no certificate

	lifetime = 10 * time.Second // ticket_lifetime
	starting = 30 * time.Second // how long an Envoy may take until it serves
)

// stage is a control plane, and what Envoys are started with.
type stage struct {
	dir      string
	bin      string
	fleet    *fleet.Fleet
	ca       *fleet.CA
	upstream *fleet.Upstream
	plane    *fleet.Lockstepd
	listen   string // where the listener of mode hybrid is
}

// node is one Envoy.
type node struct {
	*fleet.Process
	name, addr, admin string
}

func setUp(ctx context.Context, dir, bin string) (_ *stage, err error) {
	s := &stage{dir: dir, bin: bin}
	if s.fleet, err = fleet.New(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.ca, err = fleet.NewCA("Lockstep compat CA"); err != nil {
		return nil, err
	}
	certs := filepath.Join(dir, "certs")
	for _, host := range []string{eagerHost, laterHost, coldHost} {
		pair, err := s.ca.Issue(fleet.Leaf{Names: []string{host}})
		if err != nil {
			return nil, err
		}
		if err := fleet.WriteHost(certs, host, pair); err != nil {
			return nil, err
		}
	}
	if s.upstream, err = fleet.NewUpstream(); err != nil {
		return nil, err
	}
	template, err := s.template()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "lockstep.yaml")
	text := fmt.Sprintf("scopes:\n  default: {ticket_lifetime: %s, period: 1h}\nlisteners:\n  template: %s\n"+
		"  hosts: [%s]\n", lifetime, template, eagerHost)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if s.plane, err = s.fleet.Lockstepd("lockstepd",
		fleet.Lockstepd{Bin: bin, Certs: certs, Args: []string{"--config", config}}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, starting)
	defer cancel()
	return s, s.plane.Ready(ctx)
}

// template writes the listener template that the project ships, with a free address.
func (s *stage) template() (path string, err error) {
	if s.listen, err = fleet.Addr(); err != nil {
		return "", err
	}
	root, err := fleet.Root()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(root, "deploy", "envoy", "listener.yaml"))
	if err != nil {
		return "", err
	}
	ip, port, _ := strings.Cut(s.listen, ":")
	placed := bytes.Replace(b, []byte(`address: "0.0.0.0", port_value: 8443`),
		fmt.Appendf(nil, "address: %q, port_value: %s", ip, port), 1)
	if bytes.Equal(placed, b) {
		return "", errors.New("deploy/envoy/listener.yaml has another address than is looked for here")
	}
	path = filepath.Join(s.dir, "listener.yaml")
	return path, os.WriteFile(path, placed, 0o600)
}

func (s *stage) close() {
	s.fleet.Close()
	if s.upstream != nil {
		s.upstream.Close()
	}
}

// lockstep runs the CLI as an operator would.
func (s *stage) lockstep(ctx context.Context, args ...string) ([]byte, error) {
	return s.fleet.Run(ctx, filepath.Join(s.bin, "lockstep"), append([]string{"--data-dir", s.plane.Data}, args...)...)
}

// envoy starts one with the bootstrap that the CLI prints. More are flags of the CLI.
func (s *stage) envoy(ctx context.Context, binary, name, xds string, more ...string) (*node, error) {
	n := &node{name: name, addr: s.listen}
	var err error
	if n.admin, err = fleet.Addr(); err != nil {
		return nil, err
	}
	args := []string{
		"bootstrap", "envoy", "--node", name, "--xds", xds, "--admin", n.admin, "--upstream", s.upstream.Addr,
	}
	if strings.Join(more, " ") != "--mode hybrid" {
		if n.addr, err = fleet.Addr(); err != nil {
			return nil, err
		}
		args = append(args, "--listen", n.addr, "--ticket-lifetime", lifetime.String())
	}
	config, err := s.lockstep(ctx, append(args, more...)...)
	if err != nil {
		return nil, err
	}
	n.Process, err = s.fleet.EnvoyAt(binary, name, config, n.admin)
	return n, err
}

// serves waits until the Envoy listens. It returns Envoy's words if Envoy refuses what it was
// given, or why it does not serve.
func (n *node) serves(ctx context.Context) (words string, err error) {
	end := time.Now().Add(starting)
	for {
		soon, cancel := context.WithTimeout(ctx, time.Second)
		ready := n.Ready(soon)
		cancel()
		if ready == nil {
			conn, err := net.DialTimeout("tcp", n.addr, time.Second)
			if err == nil {
				conn.Close()
				return "", nil
			}
			ready = err
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if w := complaint(n.LogTail(1000)); w != "" {
			return w, nil
		}
		if time.Now().After(end) {
			return fmt.Sprintf("it does not serve after %s: %v", starting, ready), nil
		}
	}
}

var (
	logPrefix = regexp.MustCompile(`^(\[[^\]]*\])+ (\[[^\]]*\] )?`)
	atStart   = regexp.MustCompile(`^error initializing config[a-z]* '[^']*': `)
)

// complaint returns Envoy's words from its log, if it refused its bootstrap or a resource. A
// configuration that is quoted in them is left out.
func complaint(log string) string {
	for line := range strings.SplitSeq(log, "\n") {
		if !strings.Contains(line, "[critical]") && !strings.Contains(line, "rejected: ") {
			continue
		}
		words := logPrefix.ReplaceAllString(line, "")
		words = atStart.ReplaceAllString(words, "")
		words, _, _ = strings.Cut(words, ": {")
		words = strings.TrimPrefix(words, "error `")
		return words
	}
	return ""
}
