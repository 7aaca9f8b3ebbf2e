package edgeproxy

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// other starts another program as an upstream in its own folder, in which files are written before.
// ADDR in the files and arguments stands for its address, PORT for its port, and DIR for the
// folder. That has tls.crt and tls.key for 127.0.0.1. The test is skipped where the program is
// missing.
func other(t *testing.T, files map[string]string, program string, args ...string) (addr string, p *os.Process) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not here", program)
	}
	path, err = filepath.Abs(path)
	check(t, err)
	addr = strings.TrimPrefix(nowhereAt(t, "http"), "http://")
	_, port, err := net.SplitHostPort(addr)
	check(t, err)
	dir := t.TempDir()
	fill := strings.NewReplacer("ADDR", addr, "PORT", port, "DIR", dir).Replace
	pair := originPair(t)
	check(t, os.WriteFile(filepath.Join(dir, "tls.crt"),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "tls.key"),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	for name, text := range files {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(fill(text)), 0o600))
	}
	for i := range args {
		args[i] = fill(args[i])
	}
	c := exec.Command(path, args...)
	var log syncBuffer
	c.Dir, c.Stdout, c.Stderr = dir, &log, &log
	check(t, c.Start())
	ended := make(chan struct{})
	go func() {
		c.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			c.Process.Kill()
			<-ended
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr, c.Process
		}
		select {
		case <-ended:
			t.Fatalf("%s has ended: %s", program, log.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not listen: %s", program, log.String())
		}
	}
}

// posts makes n small POSTs, four at a time, and returns how often there was which status.
func posts(r *rig, n int) map[int]int {
	var left atomic.Int64
	left.Store(int64(n))
	var mu sync.Mutex
	got := map[int]int{}
	var g sync.WaitGroup
	for range 4 {
		g.Go(func() {
			c := r.over("h2")
			for left.Add(-1) >= 0 {
				resp, _ := r.do(c, "POST", "/", strings.NewReader("x"))
				mu.Lock()
				got[resp.StatusCode]++
				mu.Unlock()
			}
		})
	}
	g.Wait()
	return got
}

// errors returns the lines of the access log that name an error.
func (r *rig) errors() (out string) {
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, `"error":`) {
			out += line
		}
	}
	return out
}

const nginxConfig = `
daemon off; master_process on; pid DIR/pid; error_log stderr; worker_processes 1; worker_shutdown_timeout 5s;
events {}
http {
  access_log off; client_body_temp_path DIR/1; proxy_temp_path DIR/2; fastcgi_temp_path DIR/3;
  uwsgi_temp_path DIR/4; scgi_temp_path DIR/5;
  server {
    listen ADDR ssl OPTIONS; ssl_certificate DIR/tls.crt; ssl_certificate_key DIR/tls.key;
    keepalive_requests 3; location / { return 200 ok; }
  }
}
`

// nginx sends GOAWAY after each third request, and while it loads its configuration anew.
func TestNginxAsAnUpstream(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"http2", ""} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			addr, p := other(t, map[string]string{"nginx.conf": strings.Replace(nginxConfig, "OPTIONS", version, 1)},
				"nginx", "-p", "DIR", "-c", "DIR/nginx.conf")
			r := to(t, nil, "https://"+addr)
			if version != "" {
				stop := make(chan struct{})
				defer close(stop)
				go func() {
					for {
						select {
						case <-stop:
							return
						case <-time.After(100 * time.Millisecond):
							p.Signal(syscall.SIGHUP)
						}
					}
				}()
			}
			if got := posts(r, 200); got[200] != 200 {
				t.Errorf("%v, and the log says\n%s", got, r.errors())
			}
		})
	}
}

const envoyConfig = `
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: PORT}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": TYPES.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: upstream
          codec_type: HTTP2
          common_http_protocol_options: {max_requests_per_connection: 3}
          drain_timeout: 0.05s
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": TYPES.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: "/"}, direct_response: {status: 200}}]}
`

// Envoy drains a connection after each third request.
func TestEnvoyAsAnUpstream(t *testing.T) {
	t.Parallel()
	config := strings.ReplaceAll(envoyConfig, "TYPES", "type.googleapis.com/envoy.extensions")
	addr, _ := other(t, map[string]string{"envoy.yaml": config}, "../.envoy/envoy", "-c", "DIR/envoy.yaml",
		"--concurrency", "1", "--disable-hot-restart", "-l", "error")
	r := to(t, nil, "h2c://"+addr)
	if got := posts(r, 200); got[200] != 200 {
		t.Errorf("%v, and the log says\n%s", got, r.errors())
	}
}

// idlest returns how long connections are kept at most.
func (p *links) idlest() (d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.all {
		d = max(d, l.idle)
	}
	return d
}

// Node.js closes a connection that was idle for a second here (5 s by default), and says so in a
// header. The requests come just then.
func TestNodeAsAnUpstream(t *testing.T) {
	t.Parallel()
	addr, _ := other(t, map[string]string{"s.js": `
const s = require('http').createServer((q, r) => { q.resume(); q.on('end', () => r.end('ok')); });
s.keepAliveTimeout = 1000; s.keepAliveTimeoutBuffer = 0; s.listen(PORT, '127.0.0.1');
`}, "node", "DIR/s.js")
	for what, change := range map[string]func(*Config){
		"as the header says": func(c *Config) { c.Timeouts.UpstreamIdle = time.Hour },
		"as is configured":   func(c *Config) { c.Routes[0].UpstreamIdle = 500 * time.Millisecond },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var g sync.WaitGroup
			for i := range 5 {
				r := to(t, change, "http://"+addr)
				g.Go(func() {
					c := r.over("http/1.1")
					for range 4 {
						if resp, _ := r.do(c, http.MethodPost, "/", strings.NewReader("x")); resp.StatusCode != 200 {
							t.Errorf("%d: %s", resp.StatusCode, r.errors())
						}
						if got := r.proxy.upstreams[0].endpoints[0].links.idlest(); got > 500*time.Millisecond {
							t.Errorf("a connection is kept for %v, and Node.js closes it after a second", got)
						}
						time.Sleep(time.Second + time.Duration(i-2)*2*time.Millisecond)
					}
				})
			}
			g.Wait()
		})
	}
}
