package main

import (
	"bytes"
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
	e := &peer{name: s.fresh("lockstep-edge"), addr: newAddr()}
	c := site{Node: e.name, XDS: s.plane.XDS, Admin: newAddr(), Upstream: s.upstream, Added: added}
	c.Addr = e.addr
	e.Process = s.onCore(serverCore, fleet.Command{
		Name: e.name, Path: filepath.Join(s.bin, "lockstep-edge"), Ready: "http://" + c.Admin + "/readyz",
		Args: []string{"--config", s.file("edge.yaml", render("edge.yaml.tmpl", c))},
	})
	s.soon(e.Ready)
	return e
}

const bareName = "bare net/http"

// field is a lockstep-edge, which comes first, and the servers that it is compared with, with the
// bench's certificate, in front of the same upstream. What is not installed is named in missing.
func (s *stand) field() (all []*peer, missing []error) {
	c := site{Node: "envoy", Dir: s.folder("peers"), Upstream: s.upstream}
	c.Chain, c.Key = s.file("tls.crt", s.pair.Chain), s.file("tls.key", s.pair.Key)
	enter := func(p *peer) {
		s.listening(p.addr)
		all, c.Addr = append(all, p), newAddr()
	}
	enter(s.edge(""))
	enter(&peer{s.role("bare", c.listener, serverCore), bareName, "", c.Addr})
	caddy := filepath.Join(s.root, ".caddy", "caddy")
	for _, k := range []struct {
		name, program, install string
		// version is what prints the version, which the pattern finds.
		version []string
		pattern string
		// config is the template of the configuration, whose file is the last argument.
		config    string
		args, env []string // args and env are those of the program.
	}{
		{
			"Caddy", caddy, "make caddy", []string{"go", "version", "-m", caddy}, `caddyserver/caddy/v2\s+(\S+)`,
			"Caddyfile.tmpl", []string{"run", "--adapter", "caddyfile", "--config"},
			[]string{"HOME=" + c.Dir, "XDG_DATA_HOME=" + c.Dir, "XDG_CONFIG_HOME=" + c.Dir},
		},
		{
			"nginx", "nginx", "apt-get install -y nginx-light", []string{"nginx", "-v"}, `nginx/(\S+)`,
			"nginx.conf.tmpl", []string{"-p", c.Dir, "-e", "stderr", "-c"}, nil,
		},
	} {
		if _, err := exec.LookPath(k.program); err != nil {
			missing = append(missing, fmt.Errorf("the peer %s is not installed: type: %s", k.name, k.install))
			continue
		}
		p := s.onCore(serverCore, fleet.Command{
			Name: s.fresh(k.name), Path: k.program,
			Args: append(k.args, s.file(k.name, render(k.config, c))), Env: k.env,
		})
		enter(&peer{p, k.name, found(s.output(k.version[0], k.version[1:]...), k.pattern), c.Addr})
	}
	if _, err := fleet.EnvoyPath(); err != nil {
		return all, append(missing, errors.New("the peer Envoy is not installed: type: make envoy"))
	}
	p := s.envoy(c, c.listener)
	s.soon(p.Ready)
	s.output("taskset", "-acp", serverCore, fmt.Sprint(p.PID())) // all of its threads
	enter(&peer{p, "Envoy", envoyVersion(), c.Addr})
	return all, missing
}

// site is what the templates of configurations are filled with.
type site struct {
	listener
	Node, Admin string
	Upstream    string // Without an Upstream, an Envoy answers each request itself.
	// Without XDS, from where the Ring comes, an Envoy makes a key of its own.
	XDS, Ring string
	Listeners []listener // Listeners are those of an Envoy.
	Dir       string     // Dir is for files of nginx and Caddy.
	Added     string     // Added is more YAML for a lockstep-edge.
}

// listener has the files of its certificate.
type listener struct{ Addr, Chain, Key string }

func (b *bench) envoy(c site, listeners ...listener) *fleet.Process {
	c.Node, c.Admin, c.Ring, c.Listeners = b.fresh(c.Node), newAddr(), ring, listeners
	return must(b.fleet.Envoy(c.Node, render("envoy.yaml.tmpl", c), c.Admin))
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
