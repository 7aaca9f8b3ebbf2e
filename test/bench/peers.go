package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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

// edge starts a lockstep-edge; more is YAML. It has no access log.
func (s *stand) edge(more string) *peer {
	e := &peer{name: s.fresh("lockstep-edge"), addr: newAddr()}
	admin, file := newAddr(), filepath.Join(s.fleet.Dir(), e.name+".yaml")
	check(os.WriteFile(file, fmt.Appendf(nil, "node: %s\nxds: %q\nadmin_listen: %q\naccess_log: \"off\"\nlisteners: [{address: %q}]\n"+
		"routes: [{upstreams: [\"http://%s\"]}]\n%s", e.name, s.plane.xds, admin, e.addr, s.upstream, more), 0o600))
	e.Process = must(s.fleet.Start(fleet.Command{
		Name: e.name, Path: "taskset", Args: []string{"-c", serverCore, filepath.Join(s.bin, "lockstep-edge"), "--config", file},
		Env: oneCore, Ready: "http://" + admin + "/readyz",
	}))
	s.ready(e.Process)
	return e
}

// field is a lockstep-edge, which comes first, and the servers that it is compared with, with the
// bench's certificate, in front of the same upstream. What is not installed is left out and named
// in missing.
func (s *stand) field() (all []*peer, missing []error) {
	f := site{bench: s.bench, Dir: s.folder("peers"), Upstream: s.upstream}
	f.Chain, f.Key = filepath.Join(f.Dir, "tls.crt"), filepath.Join(f.Dir, "tls.key")
	check(os.WriteFile(f.Chain, s.pair.Chain, 0o600))
	check(os.WriteFile(f.Key, s.pair.Key, 0o600))
	all = []*peer{s.edge("")}
	for _, start := range []func(site) (*peer, error){site.bare, site.caddy, site.nginx, site.envoy} {
		f.Addr = newAddr()
		p, err := start(f)
		if errors.Is(err, errNotInstalled) {
			missing = append(missing, err)
			continue
		}
		check(err)
		p.addr = f.Addr
		s.listening(p.addr)
		if out, err := exec.CommandContext(s.ctx, "taskset", "-acp", serverCore, fmt.Sprint(p.PID())).CombinedOutput(); err != nil {
			check(fmt.Errorf("taskset: %w: %s", err, out)) // all threads of p belong on that core
		}
		all = append(all, p)
	}
	return all, missing
}

var errNotInstalled = errors.New("is not installed")

// site is what a peer is to serve: its address, its upstream, and the files of its certificate.
type site struct {
	*bench
	Dir, Addr, Upstream, Chain, Key string
}

const bareName = "bare net/http"

func (f site) bare() (*peer, error) {
	return &peer{Process: f.role("bare", bareConfig{f.Addr, f.pair}, serverCore, ""), name: bareName}, nil
}

// caddyfile has a site for every host; no access log is the default.
const caddyfile = `{
	admin off
	persist_config off
	auto_https disable_redirects
	servers {
		protocols h1 h2
	}
}
https://:%s {
	bind 127.0.0.1
	tls %s %s
	reverse_proxy %s
}
`

func (f site) caddy() (*peer, error) {
	path, file := filepath.Join(f.root, ".caddy", "caddy"), filepath.Join(f.Dir, "Caddyfile")
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the peer Caddy %w: type: make caddy", errNotInstalled)
	}
	check(os.WriteFile(file, fmt.Appendf(nil, caddyfile, port(f.Addr), f.Chain, f.Key, f.Upstream), 0o600))
	p, err := f.fleet.Start(fleet.Command{
		Name: f.fresh("caddy"), Path: path, Args: []string{"run", "--adapter", "caddyfile", "--config", file},
		Env: append([]string{"HOME=" + f.Dir, "XDG_DATA_HOME=" + f.Dir, "XDG_CONFIG_HOME=" + f.Dir}, oneCore...),
	})
	return &peer{Process: p, name: "Caddy", version: info.Main.Version}, err
}

func (f site) nginx() (*peer, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		return nil, fmt.Errorf("the peer nginx %w: type: apt-get install -y nginx-light", errNotInstalled)
	}
	file := filepath.Join(f.Dir, "nginx.conf")
	check(os.WriteFile(file, render(nginxTemplate, f), 0o600))
	p, err := f.fleet.Start(fleet.Command{Name: f.fresh("nginx"), Path: path, Args: []string{"-p", f.Dir, "-c", file, "-e", "stderr"}})
	_, version, _ := strings.Cut(oneLine(exec.CommandContext(f.ctx, path, "-v").CombinedOutput()), "nginx/")
	return &peer{Process: p, name: "nginx", version: version}, err
}

func (f site) envoy() (*peer, error) {
	if _, err := fleet.EnvoyPath(); err != nil {
		return nil, fmt.Errorf("the peer Envoy %w: type: make envoy", errNotInstalled)
	}
	p := f.envoyOf(envoyConfig{Node: "envoy", Upstream: f.Upstream, Listeners: []envoyListener{{f.Addr, string(f.pair.Chain), string(f.pair.Key)}}})
	return &peer{Process: p, name: "Envoy", version: envoyVersion()}, nil
}

type envoyConfig struct {
	Node, Admin string
	// host:port of the control plane that sends the ring; "": Envoy makes a key of its own
	XDS       string
	Ring      string
	Upstream  string // host:port; "": listeners answer each request themselves
	Listeners []envoyListener
}

type envoyListener struct {
	Addr       string
	Chain, Key string // PEM
}

func (b *bench) envoyOf(c envoyConfig) *fleet.Process {
	c.Admin = newAddr()
	return must(b.fleet.Envoy(b.fresh(c.Node), render(envoyTemplate, c), c.Admin))
}

//go:embed envoy.yaml.tmpl
var envoyText string

//go:embed nginx.conf.tmpl
var nginxText string

var (
	envoyTemplate = template.Must(template.New("envoy").Funcs(template.FuncMap{"port": port}).Parse(envoyText))
	nginxTemplate = template.Must(template.New("nginx").Parse(nginxText))
)

func render(t *template.Template, v any) []byte {
	var b bytes.Buffer
	check(t.Execute(&b, v))
	return b.Bytes()
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// profileSignal begins a profile, and ends it the second time (cmd/lockstep-edge/profile.go).
const profileSignal = syscall.SIGUSR1

// profiled puts a lockstep-edge that profiles itself in the place of the other, and returns the
// profile's file.
func (b *bench) profiled() (raw string) {
	build := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-tags", "profile", "-pgo", "off", "-o", b.bin, "./cmd/lockstep-edge")
	build.Dir, build.Env = b.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		check(fmt.Errorf("go build -tags profile: %w\n%s", err, out))
	}
	raw = filepath.Join(b.fleet.Dir(), "edge.pprof")
	check(os.Setenv("LOCKSTEP_EDGE_PROFILE", raw))
	return raw
}

// convert writes a profile, once it is there, in the form that the compiler reads.
func (b *bench) convert(raw, file string) {
	b.until(func() error { _, err := os.Stat(raw); return err })
	if out, err := exec.CommandContext(context.WithoutCancel(b.ctx), "go", "tool", "pprof", "-proto", "-output", file, raw).CombinedOutput(); err != nil {
		check(fmt.Errorf("go tool pprof: %w\n%s", err, out))
	}
}
