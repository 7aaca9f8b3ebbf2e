package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// peer is a server that terminates TLS, on its core.
type peer struct {
	*fleet.Process
	name, version string
	addr          string
}

// peers starts the servers that the edge is compared with, with the bench's certificate, in front of an upstream. What is not installed is left out and named in missing.
func (b *bench) peers(ctx context.Context, upstream string) (all []*peer, missing []string, err error) {
	dir := filepath.Join(b.fleet.Dir(), b.fresh("peers"))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, err
	}
	f := peerFiles{Dir: dir, Upstream: upstream, Chain: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}
	for file, text := range map[string][]byte{f.Chain: b.pair.Chain, f.Key: b.pair.Key} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			return nil, nil, err
		}
	}
	for _, start := range []func(peerFiles) (*peer, error){b.bare, b.caddy, b.nginx, b.proxyEnvoy} {
		if f.Addr, err = fleet.Addr(); err != nil {
			return nil, nil, err
		}
		p, err := start(f)
		if errors.Is(err, errNotInstalled) {
			missing = append(missing, err.Error())
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		p.addr = f.Addr
		if err := b.settle(ctx, p); err != nil {
			return nil, nil, err
		}
		all = append(all, p)
	}
	return all, missing, nil
}

var errNotInstalled = errors.New("is not installed")

type peerFiles struct{ Dir, Addr, Upstream, Chain, Key string }

// settle waits until p listens, and puts all its threads on the servers' core.
func (b *bench) settle(ctx context.Context, p *peer) error {
	if err := awaitPort(p.addr); err != nil {
		return fmt.Errorf("%s: %w; its log ends:\n%s", p.name, err, p.LogTail(10))
	}
	return pin(ctx, p.PID())
}

func pin(ctx context.Context, pid int) error {
	if out, err := exec.CommandContext(ctx, "taskset", "-acp", serverCore, fmt.Sprint(pid)).CombinedOutput(); err != nil {
		return fmt.Errorf("taskset: %w: %s", err, out)
	}
	return nil
}

const bareName = "bare net/http"

func (b *bench) bare(f peerFiles) (*peer, error) {
	p, err := b.pinnedRole("bare", bareConfig{f.Addr, b.pair.Chain, b.pair.Key}, serverCore)
	return &peer{Process: p, name: bareName}, err
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

func (b *bench) caddy(f peerFiles) (*peer, error) {
	path := filepath.Join(b.root, ".caddy", "caddy")
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("the peer Caddy %w: type: make caddy", errNotInstalled)
	}
	file := filepath.Join(f.Dir, "Caddyfile")
	if err := os.WriteFile(file, fmt.Appendf(nil, caddyfile, port(f.Addr), f.Chain, f.Key, f.Upstream), 0o600); err != nil {
		return nil, err
	}
	p, err := b.fleet.Start(fleet.Command{
		Name: b.fresh("caddy"), Path: path, Args: []string{"run", "--adapter", "caddyfile", "--config", file},
		Env: append([]string{"HOME=" + f.Dir, "XDG_DATA_HOME=" + f.Dir, "XDG_CONFIG_HOME=" + f.Dir}, oneCore...),
	})
	version := "?"
	if info, err := buildinfo.ReadFile(path); err == nil {
		version = info.Main.Version
	}
	return &peer{Process: p, name: "Caddy", version: version}, err
}

//go:embed nginx.conf.tmpl
var nginxText string

var nginxTemplate = template.Must(template.New("nginx").Parse(nginxText))

func (b *bench) nginx(f peerFiles) (*peer, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		return nil, fmt.Errorf("the peer nginx %w: type: apt-get install -y nginx-light", errNotInstalled)
	}
	var config bytes.Buffer
	if err := nginxTemplate.Execute(&config, f); err != nil {
		return nil, err
	}
	file := filepath.Join(f.Dir, "nginx.conf")
	if err := os.WriteFile(file, config.Bytes(), 0o600); err != nil {
		return nil, err
	}
	p, err := b.fleet.Start(fleet.Command{Name: b.fresh("nginx"), Path: path, Args: []string{"-p", f.Dir, "-c", file, "-e", "stderr"}})
	_, version, _ := strings.Cut(said(path, "-v"), "nginx/")
	return &peer{Process: p, name: "nginx", version: version}, err
}

func (b *bench) proxyEnvoy(f peerFiles) (*peer, error) {
	if _, err := fleet.EnvoyPath(); err != nil {
		return nil, fmt.Errorf("the peer Envoy %w: type: make envoy", errNotInstalled)
	}
	admin, err := fleet.Addr()
	if err != nil {
		return nil, err
	}
	c := envoyConfig{Node: b.fresh("envoy"), Admin: admin, Upstream: f.Upstream, Listeners: []envoyListener{{f.Addr, string(b.pair.Chain), string(b.pair.Key)}}}
	var config bytes.Buffer
	if err := envoyTemplate.Execute(&config, c); err != nil {
		return nil, err
	}
	p, err := b.fleet.Envoy(c.Node, config.Bytes(), admin)
	return &peer{Process: p, name: "Envoy", version: envoyVersion()}, err
}

// pinnedRole is role on one core.
func (b *bench) pinnedRole(name string, config any, core string) (*fleet.Process, error) {
	arg, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	return b.fleet.Start(fleet.Command{Name: b.fresh(name), Path: "taskset", Args: []string{"-c", core, b.self, name, string(arg)}, Env: oneCore})
}

// upstream starts what answers behind the proxies, beside the clients.
func (b *bench) upstream() (addr string, err error) {
	if addr, err = fleet.Addr(); err != nil {
		return "", err
	}
	if _, err := b.pinnedRole("upstream", addr, clientCore); err != nil {
		return "", err
	}
	return addr, awaitPort(addr)
}

// said is the first line that a program writes.
func said(path string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return oneLine(exec.CommandContext(ctx, path, args...).CombinedOutput())
}
