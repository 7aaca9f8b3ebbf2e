package main

import (
	"bytes"
	"debug/buildinfo"
	"embed"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// peer is a server that terminates TLS, on its core.
type peer struct {
	*fleet.Process
	name, version string
	addr          string
}

func (p *peer) versioned() string { return strings.TrimSpace(p.name + " " + p.version) }

// edge starts a lockstep-edge. What is added to its configuration is YAML. It has no access log.
func (s *stand) edge(added string) *peer {
	e, admin := &peer{name: s.fresh("lockstep-edge"), addr: newAddr()}, newAddr()
	config := fmt.Sprintf("node: %s\nxds: %q\nadmin_listen: %q\naccess_log: \"off\"\nlisteners: [{address: %q}]\n"+
		"routes: [{upstreams: [\"http://%s\"]}]\n%s", e.name, s.plane.XDS, admin, e.addr, s.upstream, added)
	e.Process = s.onCore(serverCore, fleet.Command{
		Name: e.name, Path: filepath.Join(s.bin, "lockstep-edge"), Ready: "http://" + admin + "/readyz",
		Args: []string{"--config", s.file("edge.yaml", []byte(config))},
	})
	s.soon(e.Ready)
	return e
}

// field is a lockstep-edge, which comes first, and the servers that it is compared with, with the
// bench's certificate, in front of the same upstream. What is not installed is named in missing.
func (s *stand) field() (all []*peer, missing []error) {
	all = []*peer{s.edge("")}
	c := site{Dir: s.folder("peers"), Upstream: s.upstream}
	c.Chain, c.Key = s.file("tls.crt", s.pair.Chain), s.file("tls.key", s.pair.Key)
	for _, start := range []func(site) (*peer, error){s.bare, s.caddy, s.nginx, s.envoy} {
		c.Addr = newAddr()
		p, err := start(c)
		if err != nil {
			missing = append(missing, err)
			continue
		}
		p.addr = c.Addr
		s.listening(p.addr)
		all = append(all, p)
	}
	return all, missing
}

// site is what a peer is to serve: its address, its upstream, and the files of its certificate. Dir
// is for files of its own.
type site struct{ Addr, Upstream, Chain, Key, Dir string }

const bareName = "bare net/http"

func (s *stand) bare(c site) (*peer, error) {
	return &peer{Process: s.role("bare", bareConfig{c.Addr, s.pair}, serverCore), name: bareName}, nil
}

func (s *stand) caddy(c site) (*peer, error) {
	path := filepath.Join(s.root, ".caddy", "caddy")
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, errors.New("the peer Caddy is not installed: type: make caddy")
	}
	return &peer{name: "Caddy", version: info.Main.Version, Process: s.onCore(serverCore, fleet.Command{
		Name: s.fresh("caddy"), Path: path,
		Args: []string{"run", "--adapter", "caddyfile", "--config", s.file("Caddyfile", render("Caddyfile.tmpl", c))},
		Env:  []string{"HOME=" + c.Dir, "XDG_DATA_HOME=" + c.Dir, "XDG_CONFIG_HOME=" + c.Dir},
	})}, nil
}

func (s *stand) nginx(c site) (*peer, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		return nil, errors.New("the peer nginx is not installed: type: apt-get install -y nginx-light")
	}
	config := s.file("nginx.conf", render("nginx.conf.tmpl", c))
	return &peer{name: "nginx", version: found(s.output(path, "-v"), `nginx/(\S+)`), Process: s.onCore(serverCore, fleet.Command{
		Name: s.fresh("nginx"), Path: path, Args: []string{"-p", c.Dir, "-c", config, "-e", "stderr"},
	})}, nil
}

func (s *stand) envoy(c site) (*peer, error) {
	if _, err := fleet.EnvoyPath(); err != nil {
		return nil, errors.New("the peer Envoy is not installed: type: make envoy")
	}
	p := s.envoyOf(envoyConfig{Node: "envoy", Upstream: c.Upstream, Listeners: []envoyListener{{c.Addr, s.pair}}})
	s.soon(p.Ready)
	s.output("taskset", "-acp", serverCore, fmt.Sprint(p.PID())) // all of its threads
	return &peer{Process: p, name: "Envoy", version: envoyVersion()}, nil
}

type envoyConfig struct {
	Node, Admin string
	XDS         string // XDS is the address of who sends the ring. Without it Envoy makes a key of its own.
	Ring        string
	Upstream    string // Without an Upstream, listeners answer each request themselves.
	Listeners   []envoyListener
}

type envoyListener struct {
	Addr string
	Pair fleet.Pair
}

func (b *bench) envoyOf(c envoyConfig) *fleet.Process {
	c.Admin, c.Ring = newAddr(), ring
	return must(b.fleet.Envoy(b.fresh(c.Node), render("envoy.yaml.tmpl", c), c.Admin))
}

//go:embed *.tmpl
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"port": port}).ParseFS(files, "*.tmpl"))

func render(name string, v any) []byte {
	var b bytes.Buffer
	check(templates.ExecuteTemplate(&b, name, v))
	return b.Bytes()
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
