package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/test/traffic"
)

// hosts is the JSON of host list, as far as the tests read it.
type hosts struct{ Hosts []host }

type host struct {
	Name, State, By, Certificate, Context, Problem string
	Nodes                                          int
	Serving                                        []string
}

// listen makes lockstepd serve the template that the project ships, at a free address, which is
// returned. More is YAML below listeners:.
func (s *stage) listen(more string) (addr string) {
	s.t.Helper()
	addr, err := fleet.Addr()
	s.ok(err)
	root, err := fleet.Root()
	s.ok(err)
	b, err := os.ReadFile(filepath.Join(root, "deploy", "envoy", "listener.yaml"))
	s.ok(err)
	ip, port, _ := strings.Cut(addr, ":")
	placed := bytes.Replace(b, []byte(`address: "0.0.0.0", port_value: 8443`),
		fmt.Appendf(nil, "address: %q, port_value: %s", ip, port), 1)
	if bytes.Equal(placed, b) {
		s.t.Fatal("the template has another address than this test knows")
	}
	s.file("listener.yaml", placed)
	config, err := os.ReadFile(s.path("lockstep.yaml"))
	s.ok(err)
	s.file("lockstep.yaml", fmt.Appendf(config, "listeners:\n  template: %s\n%s", s.path("listener.yaml"), more))
	return addr
}

// hybrid starts an Envoy whose listener comes from lockstepd. What it drops is closed after a
// second.
func (s *stage) hybrid(name, addr string, more ...string) *envoy {
	s.t.Helper()
	return s.hybridAt(s.plane.XDS, name, addr, more...)
}

// hybridAt is one that asks for it elsewhere.
func (s *stage) hybridAt(xds, name, addr string, more ...string) *envoy {
	s.t.Helper()
	e := s.place(name)
	e.addr = addr
	args := append([]string{"bootstrap", "envoy", "--mode", "hybrid", "--node", name, "--xds", xds, "--admin", e.admin,
		"--upstream", s.upstream.Addr}, more...)
	config, err := s.fleet.Run(s.ctx, filepath.Join(bin, "lockstep"), args...)
	s.ok(err)
	s.run(e, config, "--drain-time-s", "1", "--parent-shutdown-time-s", "2")
	return e
}

// hosts is what host list shows, by name.
func (s *stage) hostList() map[string]host {
	s.t.Helper()
	var l hosts
	s.ok(s.show(&l, "host", "list"))
	all := map[string]host{}
	for _, h := range l.Hosts {
		all[h.Name] = h
	}
	return all
}

// listed waits until a host is in that state on so many nodes; "": it is not listed.
func (s *stage) listed(name, state string, nodes int) (h host) {
	s.t.Helper()
	s.eventually(func() error {
		if h = s.hostList()[name]; h.State != state || h.Nodes != nodes {
			return fmt.Errorf("%s is listed as %+v, want %q on %d nodes", name, h, state, nodes)
		}
		return nil
	})
	return h
}

// resumes reports whether a session that the Envoy makes for the host resumes there, for both TLS
// versions.
func (s *stage) resumes(e *envoy, host string) bool {
	s.t.Helper()
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if resumed, err := s.again(e, host, v, s.session(e, host, v)); err != nil || !resumed {
			s.ok(err)
			return false
		}
	}
	return true
}

// session is a new one; nil: the Envoy gave none.
func (s *stage) session(e *envoy, host string, version uint16) *probe.Session {
	s.t.Helper()
	r, err := probe.Dial(s.ctx, e.addr,
		probe.Config{SNI: host, Insecure: true, Versions: []uint16{version}, Timeout: 5 * time.Second}, nil)
	s.ok(err)
	return r.Session
}

func (s *stage) again(e *envoy, host string, version uint16, offer *probe.Session) (resumed bool, err error) {
	if offer == nil {
		return false, nil
	}
	r, err := probe.Dial(s.ctx, e.addr, probe.Config{SNI: host, Insecure: true, Versions: []uint16{version}}, offer)
	return r.Resumed, err
}

// serving returns nil if the Envoy serves that very certificate, whoever issued it.
func (s *stage) serving(e *envoy, host string, want fleet.Pair) error {
	conn, err := tls.Dial("tcp", e.addr, &tls.Config{ServerName: host, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	pair, err := tls.X509KeyPair(want.Chain, want.Key)
	s.ok(err)
	if !conn.ConnectionState().PeerCertificates[0].Equal(pair.Leaf) {
		return errNotYet
	}
	return nil
}

// stat reads one of Envoy's statistics.
func (s *stage) stat(e *envoy, name string) int {
	s.t.Helper()
	for line := range strings.SplitSeq(string(s.envoyAdmin(e, "/stats?filter=^"+name+"$")), "\n") {
		if _, value, ok := strings.Cut(line, name+": "); ok {
			n, err := strconv.Atoi(value)
			s.ok(err)
			return n
		}
	}
	s.t.Fatalf("%s has no statistic %s", e.name, name)
	return 0
}

func (s *stage) envoyAdmin(e *envoy, path string) []byte {
	s.t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + e.admin + path)
	s.ok(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	s.ok(err)
	return b
}

// chainsOf lists the filter chains of an Envoy's listener, in its own words.
func (s *stage) chainsOf(e *envoy) (names []string) {
	s.t.Helper()
	var dump struct {
		Configs []struct {
			ActiveState struct {
				Listener struct {
					FilterChains []struct{ Name string } `json:"filter_chains"`
				}
			} `json:"active_state"`
		}
	}
	s.ok(json.Unmarshal(s.envoyAdmin(e, "/config_dump?resource=dynamic_listeners"), &dump))
	for _, c := range dump.Configs {
		for _, f := range c.ActiveState.Listener.FilterChains {
			names = append(names, f.Name)
		}
	}
	return names
}

// TestHostsComeAndGoAndOthersAreLeftAlone: a host is pinned and unpinned again and again under live
// traffic; the connections and tickets of the others go on, on a node whose listener comes from
// lockstepd and between it and one with a bootstrap of its own. A restart of lockstepd changes
// nothing either.
func TestHostsComeAndGoAndOthersAreLeftAlone(t *testing.T) {
	s := newStage(t, setup{hosts: 3, later: true})
	addr := s.listen("  hosts: [host-1.example]\n")
	s.start()
	s.mustRun("host", "pin", "host-2.example")
	e := s.hybrid("edge-1", addr)
	third := s.hosts[2]
	s.hosts = s.hosts[:2]
	s.envoy("edge-2")
	s.awaitReady()
	s.listed("host-2.example", "eager", 1)
	s.awaitPhase("steady", 2)
	a := s.clients()
	open, err := traffic.Hold(s.ctx, map[string]string{"edge-1": addr}, s.hosts[0], s.ca.Pool())
	s.ok(err)
	defer open.Close()
	updates := s.stat(e, "listener_manager.listener_in_place_updated")

	for range 3 {
		if s.resumes(e, third) {
			t.Error("a session of the on-demand chain was resumed")
		}
		// somebody takes the name under which the chain will ask for its certificate
		s.ok(s.reaches(e, "chain:"+third))
		s.mustRun("host", "pin", third)
		s.listed(third, "eager", 1)
		s.eventually(func() error {
			if !s.resumes(e, third) {
				return errNotYet
			}
			return nil
		})
		a.cross("a host came")
		if out := s.mustRun("host", "unpin", third); !strings.Contains(out, "leaving") ||
			!strings.Contains(out, "still served by edge-1") {
			t.Errorf("unpin does not say who serves the host: %s", out)
		}
		s.listed(third, "", 0)
		s.eventually(func() error {
			if s.resumes(e, third) {
				return errNotYet
			}
			return nil
		})
		a.cross("a host went")
		updates += 2
	}
	if n := s.stat(e, "listener_manager.listener_in_place_updated"); n != updates {
		t.Errorf("%d updates in place, want %d", n, updates)
	}
	// the connections of a chain that was dropped would be closed by now
	time.Sleep(2500 * time.Millisecond)
	cut, beats := open.Cut()
	if len(cut) > 0 {
		t.Errorf("connections were cut: %v", cut)
	}

	s.ok(s.plane.Kill())
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	s.listed("host-2.example", "eager", 1)
	s.awaitPhase("steady", 2)
	a.cross("a restart of lockstepd")
	if n := s.stat(e, "listener_manager.listener_modified"); n != updates {
		t.Errorf("the listener was changed %d times, want %d: a restart changed it", n, updates)
	}
	if cut, now := open.Cut(); len(cut) > 0 || now <= beats {
		t.Errorf("connections were cut: %v; %d and %d messages", cut, beats, now)
	}
	for _, what := range []string{"host-pinned", "host-unpinned"} {
		if out := s.mustRun("audit", "show", "-o", "json"); !strings.Contains(out, what) {
			t.Errorf("the audit log has no line %s", what)
		}
	}
}

// TestServerNamesFindTheirChain: exact names before wildcards, in any case, and the others on
// demand; what is not UTF-8 is closed at once, and nobody is asked for it.
func TestServerNamesFindTheirChain(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{hosts: 2, later: true})
	addr := s.listen("  hosts: [host-1.example, \"*.wild.example\", \"*.deep.wild.example\"]\n")
	for _, name := range []string{"*.wild.example", "*.deep.wild.example", "cold.example"} {
		s.renew(name)
	}
	s.start()
	e := s.hybrid("edge-1", addr)
	s.awaitReady()
	for name, eager := range map[string]bool{
		"host-1.example": true, "HOST-1.Example": true, "a.wild.example": true, "A.Wild.EXAMPLE": true,
		"a.deep.wild.example": true, "host-2.example": false, "cold.example": false,
	} {
		s.eventually(func() error {
			if s.resumes(e, name) != eager {
				return fmt.Errorf("%s resumes, or does not", name)
			}
			return nil
		})
	}
	var k traffic.Knocker
	for _, name := range []string{
		"\xff\xfe", "host-1\xc3.example", "\xc0\x80", "\xed\xa0\x80.example", strings.Repeat("\xff", 255),
	} {
		ctx, cancel := context.WithTimeout(s.ctx, 8*time.Second)
		began := time.Now()
		if a, err := k.Knock(ctx, e.addr, "", name); a != traffic.Closed ||
			err != nil || time.Since(began) > 2*time.Second {
			t.Errorf("%.40q: %v, %v after %s", name, a, err, time.Since(began))
		}
		cancel()
	}
	if n := s.metric(`lockstep_xds_names_refused_total{door="bytes"}`); n != 0 {
		t.Errorf("%.0f of them were asked for", n)
	}
}

// TestOneEagerHostWithoutACertificateHurtsNobodyElse, nor does a wildcard, nor a template that
// cannot be used.
func TestOneEagerHostWithoutACertificateHurtsNobodyElse(t *testing.T) {
	s := newStage(t, setup{later: true})
	addr := s.listen("  match: [\"host-*\"]\n")
	s.plane.Args = append(s.plane.Args, "--refresh", "1s") // the template is read again as often
	s.start()
	e := s.hybrid("edge-1", addr)
	s.awaitReady()
	s.listed(s.hosts[1], "eager", 1)

	if out := s.mustRun("host", "pin", "late.example"); !strings.Contains(out, "it has no certificate") {
		t.Errorf("pin said %s", out)
	}
	s.listed("late.example", "eager", 1)
	if s.reaches(e, "late.example") == nil {
		t.Error("a host without certificate was served")
	}
	if !s.resumes(e, s.hosts[0]) || !s.resumes(e, s.hosts[1]) {
		t.Error("other hosts lost their resumption")
	}
	s.writePair("late.example", s.issue("late.example"))
	s.eventually(func() error { return s.reaches(e, "late.example") })
	if h := s.listed("late.example", "eager", 1); h.Problem != "" || h.Certificate == "" || h.Context == "" {
		t.Errorf("%+v", h)
	}

	s.writePair("*.wild.example", s.issue("*.wild.example"))
	s.mustRun("host", "pin", "*.wild.example")
	s.listed("*.wild.example", "eager", 1)
	s.eventually(func() error { return s.reaches(e, "a.wild.example") })
	if !s.resumes(e, "a.wild.example") {
		t.Error("the wildcard's chain does not resume")
	}
	s.mustFail(5, "the configuration makes it eager", "host", "unpin", s.hosts[0])
	s.mustFail(4, "does not exist", "host", "unpin", "other.example")

	// A certificate that comes makes its host eager, by the glob.
	s.writePair("host-9.example", s.issue("host-9.example"))
	s.listed("host-9.example", "eager", 1)
	s.eventually(func() error { return s.reaches(e, "host-9.example") })

	good, err := os.ReadFile(s.path("listener.yaml"))
	s.ok(err)
	// One that Envoy refuses: it goes on with the last one, and says why.
	s.file("listener.yaml", bytes.Replace(good, []byte(`cluster: "upstream"`), []byte(`cluster: "nowhere"`), 1))
	s.eventually(func() error {
		if r := s.lockstep("status"); r.code != 3 ||
			!strings.Contains(r.err, "1 nodes refuse the listener") || !strings.Contains(r.err, "nowhere") {
			return fmt.Errorf("status: exit code %d: %s", r.code, r.err)
		}
		return nil
	})
	if out := s.mustRun("nodes"); !strings.Contains(out, "listener refused:") {
		t.Errorf("nodes: %s", out)
	}
	if !s.resumes(e, s.hosts[0]) {
		t.Error("a listener that was refused hurt a host")
	}
	s.file("listener.yaml", good)
	s.eventually(func() error {
		if r := s.lockstep("status"); r.code != 0 {
			return fmt.Errorf("status: exit code %d: %s", r.code, r.err)
		}
		return nil
	})

	s.file("listener.yaml", bytes.Replace(good, []byte("http.router.v3.Router"), []byte("http.mine.v3.Mine"), 1))
	s.eventually(func() error {
		if r := s.lockstep("status"); r.code != 3 || !strings.Contains(r.err, "http.mine.v3.Mine") {
			return fmt.Errorf("status: exit code %d: %s", r.code, r.err)
		}
		return nil
	})
	if !s.resumes(e, s.hosts[0]) {
		t.Error("a bad template hurt a host")
	}
	s.ok(s.plane.Kill())
	s.ok(s.plane.Restart())
	s.eventuallyWithin(20*time.Second, func() error {
		select {
		case <-s.plane.Done():
			return nil
		default:
			return errors.New("lockstepd runs with a template that cannot be used")
		}
	})
	if tail := s.plane.LogTail(5); !strings.Contains(tail, "http.mine.v3.Mine") ||
		!strings.Contains(tail, "listener.yaml") {
		t.Errorf("it ended with: %s", tail)
	}
	s.file("listener.yaml", good)
	s.ok(s.plane.Restart())
	s.ok(s.plane.Ready(s.ctx))
	s.listed(s.hosts[1], "eager", 1)
	s.eventually(func() error {
		if r := s.lockstep("status"); r.code != 0 {
			return fmt.Errorf("status: exit code %d: %s", r.code, r.err)
		}
		return nil
	})
}

// TestAListenerHasTheChainsThatTheIdentityAllows.
func TestAListenerHasTheChainsThatTheIdentityAllows(t *testing.T) {
	s := newStage(t, setup{hosts: 3, later: true})
	dir := s.path("lockstep-pki")
	s.mustRun("pki", "init", "--dir", dir)
	s.mustRun("pki", "issue", "server", "--dir", dir, "--ip", "127.0.0.1")
	addr := s.listen("  hosts: [host-1.example, host-2.example, host-3.example]\n")
	s.policy("- {identity: edge-1, scopes: [default], names: [host-1.example, host-2.example]}\n" +
		"- {identity: edge-2, scopes: [default], names: [host-3.example]}\n")
	s.overTCP("--policy", s.path("policy.yaml"), "--xds-cert", dir+"/server/tls.crt",
		"--xds-key", dir+"/server/tls.key", "--xds-client-ca", dir+"/ca.crt")
	s.start()
	var nodes []*envoy
	for _, name := range []string{"edge-1", "edge-2"} {
		// at one address, which they may share; only their configuration is looked at
		s.mustRun("pki", "issue", "node", "--dir", dir, "--node", name)
		nodes = append(nodes, s.hybrid(name, addr, "--pki", dir))
	}
	s.awaitReady(nodes...)
	has := func(e *envoy, want ...string) {
		t.Helper()
		s.eventually(func() error {
			if got := s.chainsOf(e); !slices.Equal(got, append(want, "on-demand")) {
				return fmt.Errorf("%s has the chains %v, want %v", e.name, got, want)
			}
			return nil
		})
	}
	has(nodes[0], "host-1.example", "host-2.example")
	has(nodes[1], "host-3.example")
	s.policy("- {identity: edge-1, scopes: [default], names: [host-1.example]}\n" +
		"- {identity: edge-2, scopes: [default], names: [\"*\"]}\n")
	has(nodes[0], "host-1.example")
	has(nodes[1], "host-1.example", "host-2.example", "host-3.example")
}

// TestThePlanSaysWhetherTicketsOutliveARenewal, and Envoy agrees.
func TestThePlanSaysWhetherTicketsOutliveARenewal(t *testing.T) {
	s := newStage(t, setup{hosts: 1, later: true})
	addr := s.listen("")
	s.start()
	name := "renewed.example"
	issue := func(ca *fleet.CA, names ...string) fleet.Pair {
		p, err := ca.Issue(fleet.Leaf{Names: names})
		s.ok(err)
		return p
	}
	other, err := fleet.NewCA("Another Test CA")
	s.ok(err)
	same, err := fleet.NewCA("Lockstep Test CA") // another key under the name of the first
	s.ok(err)
	s.writePair(name, issue(s.ca, name, "b.example"))
	s.mustRun("host", "pin", name)
	e := s.hybrid("edge-1", addr)
	s.awaitReady()
	s.listed(name, "eager", 1)
	s.eventually(func() error { // it was taken; its workers may not have it yet
		if !s.resumes(e, name) {
			return errNotYet
		}
		return nil
	})
	for _, c := range []struct {
		what string
		pair fleet.Pair
		ends bool
	}{
		{"the same names and issuer", issue(s.ca, name, "b.example"), false},
		{"another key of the issuer", issue(same, name, "b.example"), false},
		{"another issuer", issue(other, name, "b.example"), true},
		{"another order of names", issue(other, "b.example", name), true},
		{"a name less", issue(other, name), true},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := s.in(t)
			held := map[uint16]*probe.Session{
				tls.VersionTLS12: s.session(e, name, tls.VersionTLS12),
				tls.VersionTLS13: s.session(e, name, tls.VersionTLS13),
			}
			before := s.hostList()[name].Context
			out := s.mustRun("plan", "--cert", name, "--chain", s.file("next.crt", c.pair.Chain), "-o", "json")
			if strings.Contains(out, `"ends_tickets": true`) != c.ends {
				t.Errorf("the plan is %s", out)
			}
			r := s.lockstep("cert", "put", name,
				"--cert", s.file("put.crt", c.pair.Chain), "--key", s.file("put.key", c.pair.Key))
			if r.code != 0 || strings.Contains(r.err, "session tickets of "+name+" end") != c.ends {
				t.Errorf("cert put: exit code %d: %s", r.code, r.err)
			}
			s.eventually(func() error { return s.serving(e, name, c.pair) })
			for v, session := range held {
				if resumed, err := s.again(e, name, v, session); err != nil || resumed == c.ends {
					t.Errorf("%s: resumed %v, %v", traffic.Kinds[v], resumed, err)
				}
			}
			if after := s.hostList()[name].Context; (after != before) != c.ends {
				t.Errorf("the context was %s and is %s", before, after)
			}
		})
	}
}

// TestAListenerOfTwoThousandHosts measures what the default bound costs a real Envoy: until all is
// served, memory for each chain, one host more. What is beyond the bound goes on demand, and is
// named.
func TestAListenerOfTwoThousandHosts(t *testing.T) {
	const n = 2000
	s := newStage(t, setup{hosts: 2, later: true})
	addr := s.listen("  match: [\"*.many.example\"]\n")
	pair := s.issue("*.many.example") // one for all: to issue them is not at issue
	name := func(i int) string { return fmt.Sprintf("host-%04d.many.example", i) }
	for i := 1; i < n; i++ {
		s.ok(fleet.WriteHost(s.certs, name(i), pair))
	}
	s.start()
	s.eventuallyWithin(30*time.Second, func() error {
		if h := s.hostList()[name(n-1)]; h.State != "eager" {
			return fmt.Errorf("the last host is %+v", h)
		}
		return nil
	})
	idle := s.hybridAt("127.0.0.1:1", "edge-0", addr)
	s.eventually(idle.waits)
	before := s.resident(idle)
	s.ok(idle.Kill())

	began := time.Now()
	e := s.hybrid("edge-1", addr)
	s.eventuallyWithin(60*time.Second, e.listens)
	served := time.Since(began)
	s.ok(e.Ready(s.ctx))
	for _, host := range []string{name(1), name(n / 2), name(n - 1)} {
		if !s.resumes(e, host) {
			t.Errorf("%s does not resume", host)
		}
	}
	full := s.resident(e)

	began = time.Now()
	s.mustRun("host", "pin", s.hosts[0])
	s.eventuallyWithin(30*time.Second, func() error {
		if !s.resumes(e, s.hosts[0]) {
			return errNotYet
		}
		return nil
	})
	more := time.Since(began)
	t.Logf("%d eager hosts: Envoy served them %v after its start, with %d KB for each chain; "+
		"one host more resumed after %v, 500 ms of which are to let others come",
		n, served.Round(time.Millisecond), (full-before)/n, more.Round(time.Millisecond))

	s.mustRun("host", "pin", s.hosts[1])
	beyond := s.listed(name(n-1), "beyond", 0)
	if beyond.By != "match" {
		t.Errorf("%+v", beyond)
	}
	s.mustFail(3, "1 hosts that should be eager are beyond max_eager (2000) and go on demand", "status")
	s.eventually(func() error {
		if s.resumes(e, name(n-1)) {
			return errNotYet
		}
		return nil
	})
}

// resident is the memory of an Envoy, in KB.
func (s *stage) resident(e *envoy) int {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.PID()))
	s.ok(err)
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	s.ok(err)
	return kb
}

// TestReplicasDecideTogetherWhoIsEager: a host is pinned at a replica to which no node is
// connected, which knows nevertheless who serves it; and a store that is emptied gets its pins
// back.
func TestReplicasDecideTogetherWhoIsEager(t *testing.T) {
	var addr string
	var redis *fleet.RedisServer
	r := replicas(t, 2, func(s *stage) string {
		addr = s.listen("")
		var err error
		redis, err = s.fleet.Redis(s.ctx, "store")
		s.ok(err)
		return "redis://" + redis.Addr
	})
	e := r.hybrid("edge-1", addr, r.more()...)
	r.awaitReady()
	r.eventually(func() error {
		if len(r.nodes()) == 0 {
			return errNotYet
		}
		return nil
	})
	holder := r.holder("edge-1")
	r.ask(r.planes[(slices.Index(r.planes, holder)+1)%2])
	name := r.hosts[0]
	r.mustRun("host", "pin", name)
	r.listed(name, "eager", 1)
	r.eventually(func() error {
		if !r.resumes(e, name) {
			return errNotYet
		}
		return nil
	})
	if out := r.mustRun("host", "unpin", name); !strings.Contains(out, "still served by edge-1") {
		t.Errorf("unpin does not say who serves the host: %s", out)
	}
	r.listed(name, "", 0)

	r.mustRun("host", "pin", name)
	r.listed(name, "eager", 1)
	updates := r.stat(e, "listener_manager.listener_modified")
	_, err := redis.Do(r.ctx, "FLUSHALL")
	r.ok(err)
	r.eventually(func() error {
		n, err := redis.Do(r.ctx, "DBSIZE")
		if err == nil && n == int64(0) {
			err = errNotYet
		}
		return err
	})
	third := r.join("replica-3", "redis://"+redis.Addr)
	r.ask(third)
	r.listed(name, "eager", 1)
	if n := r.stat(e, "listener_manager.listener_modified"); n != updates || !r.resumes(e, name) {
		t.Errorf("the listener was changed %d times by a store that was emptied", n-updates)
	}
}
