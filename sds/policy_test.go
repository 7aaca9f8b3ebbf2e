package sds

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// table of grants: identity → "name" or "tickets/scope".
type grants map[string][]string

func (g grants) AllowsScope(identity, scope string) bool {
	return slices.Contains(g[identity], keysource.RingName(scope))
}

func (g grants) AllowsName(identity string, n keysource.Name) bool {
	return slices.Contains(g[identity], string(n))
}

// denials collects what Config.Denied is told.
type denials struct {
	mu   sync.Mutex
	told []string
}

func (d *denials) add(n xds.Node, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, n.Identity+" "+name)
}

func (d *denials) take() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.told)
	told := strings.Join(d.told, ", ")
	d.told = nil
	return told
}

// guarded is a lab with a policy, and two nodes that watch the same names, each on a stream.
type guarded struct {
	*lab
	denials
	nodes     map[string]xds.Node
	mailboxes map[string]*xds.Mailbox
}

func newGuarded(p Policy) *guarded {
	g := &guarded{lab: &lab{source: newSource(), rings: newRings()}, nodes: map[string]xds.Node{},
		mailboxes: map[string]*xds.Mailbox{}}
	g.Table = NewTable(Config{Sources: keysource.Sources{g.source}, Rings: g.rings, Policy: p, Denied: g.denials.add,
		Log: newLab().cfg.Log})
	for i, who := range []string{"a", "b"} {
		n := node(uint64(i+1), xds.SDS)
		n.Identity = who
		g.nodes[who], g.mailboxes[who] = n, xds.NewMailbox()
	}
	return g
}

func (g *guarded) watchAll(names ...string) {
	for who, mailbox := range g.mailboxes {
		for _, n := range names {
			g.Watch(g.nodes[who], n, mailbox)
		}
	}
}

// has says what a node is given: "-" not yet, "absent", or the version.
func (g *guarded) has(who, name string) string {
	res, state := g.Lookup(g.nodes[who], name)
	return [...]string{"-", "absent", "present"}[state] + map[bool]string{true: "",
		false: "!"}[(res != nil) == (state == xds.Present)]
}

func (g *guarded) woken(who string) string {
	names := g.mailboxes[who].Take()
	slices.Sort(names)
	return strings.Join(names, " ")
}

func TestForbiddenLooksLikeAbsentAndCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(grants{"a": {"one.example", "tickets/default"}, "b": {"two.example"}})
		for _, n := range []keysource.Name{"one.example", "two.example", "three.example"} {
			g.set(n, "C")
		}
		defer g.start(t)()
		g.watchAll("one.example", "Two.Example", "three.example", "tickets/default", "no such name")
		synctest.Wait()
		for name, want := range map[string]string{
			"one.example": "present absent", "Two.Example": "absent present", "three.example": "absent absent",
			"tickets/default": "present -", "no such name": "absent absent",
		} {
			if got := g.has("a", name) + " " + g.has("b", name); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		if got := g.take(); got != "a Two.Example, a three.example, b one.example, b three.example, b tickets/default" {
			t.Errorf("told: %s", got)
		}
		g.Refresh([]keysource.Name{"three.example"})
		synctest.Wait()
		if n := g.called("three.example"); n != 0 {
			t.Errorf("the source was asked %d times for what nobody may have", n)
		}
	})
}

func TestAnotherPolicyCountsOnOpenStreamsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		both := grants{"a": {"one.example", "tickets/default"}, "b": {"one.example", "tickets/default"}}
		narrow := grants{"a": {"one.example", "tickets/default"}, "b": {"two.example"}}
		g := newGuarded(both)
		g.set("one.example", "C1")
		g.set("two.example", "C2")
		defer g.start(t)()
		g.watchAll("one.example", "two.example", "tickets/default")
		synctest.Wait()
		g.woken("a")
		g.woken("b")
		g.take()
		for _, step := range []struct {
			policy       Policy
			wakesA       string
			wakesB, told string
			one, two     string // as b has them
			ring         string
		}{
			{narrow, "two.example", "one.example two.example", "b one.example, b tickets/default", "absent", "present",
				"-"},
			{narrow, "", "", "", "absent", "present", "-"},
			{both, "", "one.example tickets/default two.example", "b two.example", "present", "absent", "present"},
			{grants{}, "one.example", "one.example",
				"a one.example, a tickets/default, b one.example, b tickets/default", "absent", "absent", "-"},
		} { // what is loaded for b wakes a as well, which is then told nothing new
			g.SetPolicy(step.policy)
			synctest.Wait()
			if got := g.woken("a"); got != step.wakesA {
				t.Errorf("%v woke a for %q, want %q", step.policy, got, step.wakesA)
			}
			if got := g.woken("b"); got != step.wakesB {
				t.Errorf("%v woke b for %q, want %q", step.policy, got, step.wakesB)
			}
			if got := g.take(); got != step.told {
				t.Errorf("%v told %q, want %q", step.policy, got, step.told)
			}
			if one, two, ring := g.has("b", "one.example"), g.has("b", "two.example"), g.has("b",
				"tickets/default"); one != step.one || two != step.two || ring != step.ring {
				t.Errorf("%v: %s %s %s, want %s %s %s", step.policy, one, two, ring, step.one, step.two, step.ring)
			}
		}
		for who, mailbox := range g.mailboxes {
			for _, n := range []string{"one.example", "two.example", "tickets/default"} {
				g.Unwatch(g.nodes[who], n, mailbox)
			}
		}
		if len(g.peers) != 0 || g.Watched() != 0 || len(g.Table.rings) != 0 {
			t.Errorf("%d peers, %d names are left", len(g.peers), g.Watched())
		}
	})
}

// A ring on ADS is a name that a client sent: nothing that anybody was denied.
func TestARingOnADSIsNoDenial(t *testing.T) {
	g := newGuarded(grants{})
	n := node(9, xds.ADS)
	mailbox := xds.NewMailbox()
	g.Watch(n, "tickets/default", mailbox)
	g.SetPolicy(grants{"": {"tickets/default"}})
	g.SetPolicy(grants{})
	if _, state := g.Lookup(n, "tickets/default"); state != xds.Absent || g.take() != "" || len(mailbox.Take()) != 0 {
		t.Errorf("state %d", state)
	}
	g.Unwatch(n, "tickets/default", mailbox)
}
