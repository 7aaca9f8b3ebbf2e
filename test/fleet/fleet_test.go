package fleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/probe"
)

func TestMain(m *testing.M) {
	if os.Getenv("FLEET_TEST_PARENT") != "" {
		parent()
		return
	}
	goleak.VerifyTestMain(m)
}

// parent starts a child, prints its id, and waits to be killed.
func parent() {
	f, err := New(os.Getenv("FLEET_TEST_PARENT"))
	if err != nil {
		panic(err)
	}
	p, err := f.Start(Command{Name: "orphan", Path: "/bin/sleep", Args: []string{"60"}})
	if err != nil {
		panic(err)
	}
	fmt.Println(p.PID())
	select {}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func soon(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := Until(ctx, check); err != nil {
		t.Fatal(err)
	}
}

func TestNothingOutlivesAKilledParent(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "FLEET_TEST_PARENT="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if !alive(pid) {
		t.Fatal("the child does not run")
	}
	cmd.Process.Kill()
	cmd.Wait()
	soon(t, func() error {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			// in a container nobody may reap it
			return nil
		}
		return errors.New("the child lives on")
	})
}

func TestProcessLife(t *testing.T) {
	f := ForTest(t)
	// Its one child has begun before it says so: a shell that is stopped while it starts one
	// (vfork) waits for that one, which is stopped too, and so never stops itself.
	p, err := f.Start(Command{
		Name: "life", Path: "/bin/sh",
		Args: []string{"-c", `trap 'echo bye; exit 0' TERM; sleep 60 & echo "begin $WHO"; wait`},
		Env:  []string{"WHO=me"},
	})
	if err != nil {
		t.Fatal(err)
	}
	begun := func(n int) func() error {
		return func() error {
			if got := strings.Count(p.LogTail(100), "begin me"); got != n {
				return fmt.Errorf("begun %d times, want %d", got, n)
			}
			return nil
		}
	}
	soon(t, begun(1))
	if err := p.Pause(); err != nil {
		t.Fatal(err)
	}
	first := p.PID()
	if stat, err := os.ReadFile("/proc/" + strconv.Itoa(first) + "/stat"); err != nil ||
		!strings.Contains(string(stat), ") T ") {
		t.Fatalf("not stopped: %s %v", stat, err)
	}
	if err := p.Restart(); err != nil { // kills the paused one
		t.Fatal(err)
	}
	if alive(first) || p.PID() == first {
		t.Fatal("the first life goes on")
	}
	soon(t, begun(2))
	if err := p.Stop(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	if got := p.LogTail(1); got != "bye" {
		t.Errorf("last line %q", got)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("killing what has ended: %v", err)
	}
}

func TestStopSaysWhoIgnoredSIGTERM(t *testing.T) {
	f := ForTest(t)
	p, err := f.Start(Command{
		Name: "deaf", Path: "/bin/sh", Args: []string{"-c", `trap "" TERM; echo ready; while :; do sleep 0.05; done`},
	})
	if err != nil {
		t.Fatal(err)
	}
	soon(t, func() error {
		if p.LogTail(1) != "ready" {
			return errors.New("not ready")
		}
		return nil
	})
	if err := p.Stop(100 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "deaf did not end") {
		t.Errorf("%v", err)
	}
}

func TestReadyShowsTheLogOfWhatDied(t *testing.T) {
	f := ForTest(t)
	p, err := f.Start(Command{
		Name: "brief", Path: "/bin/sh",
		Args: []string{"-c", "echo no such port; exit 3"}, Ready: "http://127.0.0.1:1/ready",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 3") ||
		!strings.Contains(err.Error(), "no such port") {
		t.Errorf("%v", err)
	}
}

func TestPortsAreBelowTheEphemeralRangeAndDiffer(t *testing.T) {
	seen := map[int]bool{}
	for range 3 * blockSize {
		port, err := Port()
		if err != nil {
			t.Fatal(err)
		}
		if port < firstPort || port > lastPort || seen[port] {
			t.Fatalf("port %d, seen before: %v", port, seen[port])
		}
		seen[port] = true
	}
}

// direct is a bootstrap that needs no control plane.
const direct = `
admin: {address: {socket_address: {address: "127.0.0.1", port_value: %s}}}
static_resources:
  listeners:
  - address: {socket_address: {address: "127.0.0.1", port_value: %s}}
    filter_chains:
    - transport_socket:
        name: "envoy.transport_sockets.tls"
        typed_config:
          "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
          session_ticket_keys: {keys: [{inline_bytes: %q}]}
          common_tls_context:
            tls_certificates: [{certificate_chain: {filename: %q}, private_key: {filename: %q}}]
      filters:
      - name: "http"
        typed_config:
          "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
          stat_prefix: "t"
          http_filters: [{name: "r", typed_config: {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]
          route_config: {virtual_hosts: [{name: "v", domains: ["*"], routes: [{match: {prefix: "/"}, direct_response: {status: 200}}]}]}
`

func startDirect(
	t *testing.T, f *Fleet, name string, key keysource.TicketKey, certs string,
) (p *Process, listen string) {
	t.Helper()
	admin, err := Addr()
	if err != nil {
		t.Fatal(err)
	}
	listen, err = Addr()
	if err != nil {
		t.Fatal(err)
	}
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
	host := HostDir(certs, "shop.example")
	config := fmt.Sprintf(direct, port(admin), port(listen), base64.StdEncoding.EncodeToString(key[:]),
		filepath.Join(host, "tls.crt"), filepath.Join(host, "tls.key"))
	p, err = f.Envoy(name, []byte(config), admin)
	if err != nil {
		t.Fatal(err)
	}
	return p, listen
}

func TestProbeOnRealEnvoys(t *testing.T) {
	f := ForTest(t)
	ca, err := NewCA("Fleet Test CA")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(Leaf{Names: []string{"shop.example"}})
	if err != nil {
		t.Fatal(err)
	}
	certs := t.TempDir()
	if err := WriteHost(certs, "shop.example", pair); err != nil {
		t.Fatal(err)
	}
	shared, alone := keysource.NewTicketKey(), keysource.NewTicketKey()
	var addrs []string
	var procs []*Process
	for i, key := range []keysource.TicketKey{shared, shared, alone} {
		p, addr := startDirect(t, f, fmt.Sprintf("envoy-%d", i), key, certs)
		procs, addrs = append(procs, p), append(addrs, addr)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, p := range procs {
		if err := p.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
	c := probe.Config{Addrs: addrs, SNI: "shop.example", RootCAs: ca.Pool()}
	m, err := probe.Verify(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Pairs {
		want := probe.Full
		if (p.From == addrs[2]) == (p.To == addrs[2]) {
			want = probe.Resumed
		}
		if p.Outcome != want {
			t.Errorf("%s, %s to %s: %s %s, want %s", tls.VersionName(p.Version), p.From, p.To, p.Outcome, p.Words, want)
		}
	}
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c.Versions = []uint16{v}
		r, err := probe.Dial(ctx, addrs[2], c, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Session == nil || r.Session.KeyID != alone.ID() {
			t.Errorf("%s: session %+v, want the key %s", tls.VersionName(v), r.Session, alone.ID())
		}
	}
	// A node that is paused, and one that was killed and comes back.
	if err := procs[0].Pause(); err != nil {
		t.Fatal(err)
	}
	c.Timeout = 300 * time.Millisecond
	if _, err := probe.Dial(ctx, addrs[0], c, nil); err == nil || !strings.Contains(err.Error(), addrs[0]) {
		t.Errorf("a paused node: %v", err)
	}
	if err := procs[0].Resume(); err != nil {
		t.Fatal(err)
	}
	if err := procs[0].Restart(); err != nil {
		t.Fatal(err)
	}
	if err := procs[0].Ready(ctx); err != nil {
		t.Fatal(err)
	}
	c.Timeout = 0
	if _, err := probe.Dial(ctx, addrs[0], c, nil); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

func TestEnvoyAcceptsOnDemandConfigs(t *testing.T) {
	for _, sds := range []bool{false, true} {
		o := OnDemand{
			Node: "on", XDS: "127.0.0.1:20001", Admin: "127.0.0.1:20002", Listen: "127.0.0.1:20003",
			Upstream: "127.0.0.1:20004", Host: "eager.example", SDS: sds,
		}
		b, err := o.Config()
		if err != nil {
			t.Fatal(err)
		}
		if err := ValidateEnvoy(t.Context(), b); err != nil {
			t.Errorf("SDS %v: %v", sds, err)
		}
		for _, want := range []string{
			`id: "on"`, "20001}", "20002}", "20003}", "20004}", `server_names: ["eager.example"]`,
		} {
			if !bytes.Contains(b, []byte(want)) {
				t.Errorf("SDS %v: no %s in it", sds, want)
			}
		}
		// Envoy refuses it with resumption on: that is why the long tail has no tickets.
		b = bytes.Replace(b, []byte("disable_stateless_session_resumption: true"), nil, 1)
		if err := ValidateEnvoy(t.Context(), b); err == nil || !strings.Contains(err.Error(), "session resumption") {
			t.Errorf("SDS %v: with resumption: %v", sds, err)
		}
	}
}

func TestCertificatesPassTheBorder(t *testing.T) {
	ca, err := NewCA("Fleet Test CA")
	if err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(dir, host string, p Pair) error{"files": WriteHost, "mount": MountHost} {
		dir := t.TempDir()
		for round := range 3 { // the first makes, the others replace
			pair, err := ca.Issue(Leaf{
				Names: []string{"*.shop.example"}, IPs: []string{"127.0.0.1"}, URIs: []string{"spiffe://a/b"},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := put(dir, "*.shop.example", pair); err != nil {
				t.Fatal(err)
			}
			chain, err := os.ReadFile(filepath.Join(dir, "_.shop.example", "tls.crt"))
			if err != nil {
				t.Fatal(err)
			}
			key, err := os.ReadFile(filepath.Join(dir, "_.shop.example", "tls.key"))
			if err != nil {
				t.Fatal(err)
			}
			c, err := keysource.ParseCertificate(keysource.PEM{Chain: chain, Key: key}, time.Now())
			if err != nil {
				t.Fatalf("%s, round %d: %v", name, round, err)
			}
			if !bytes.Equal(c.Chain, pair.Chain) {
				t.Errorf("%s, round %d: what is read is not what was put", name, round)
			}
			cert, err := tls.X509KeyPair(chain, key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := cert.Leaf.Verify(x509.VerifyOptions{
				Roots: ca.Pool(), DNSName: "www.shop.example",
			}); err != nil {
				t.Error(err)
			}
		}
		if left, err := filepath.Glob(filepath.Join(dir, "_.shop.example", "*")); err != nil || len(left) > 4 {
			t.Errorf("%s: left behind: %v, %v", name, left, err)
		}
	}
	expired, err := ca.Issue(Leaf{Names: []string{"old.example"}, Valid: -time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keysource.ParseCertificate(keysource.PEM{Chain: expired.Chain, Key: expired.Key},
		time.Now()); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired: %v", err)
	}
}

func TestUpstream(t *testing.T) {
	u, err := NewUpstream()
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Post("http://"+u.Addr+"/", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || string(body) != "hello" {
		t.Errorf("echo: %q, %v", body, err)
	}

	ws, _, err := websocket.Dial(t.Context(), "ws://"+u.Addr+"/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	for _, word := range []string{"one", "two"} {
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(word)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.Read(t.Context()); err != nil || string(got) != word {
			t.Errorf("WebSocket: %q, %v", got, err)
		}
	}

	resp, err = client.Get("http://" + u.Addr + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	start := time.Now()
	var a, b, c int
	if _, err := fmt.Fscanf(resp.Body, "line %d\nline %d\nline %d\n", &a, &b, &c); err != nil ||
		c != 2 || time.Since(start) > 5*time.Second {
		t.Errorf("stream: %d %d %d, %v after %v", a, b, c, err, time.Since(start))
	}

	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.Read(t.Context()); err == nil {
		t.Error("the WebSocket outlived the upstream")
	}
	if _, err := net.Dial("tcp", u.Addr); err == nil {
		t.Error("the upstream still listens")
	}
}
