package lds

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// run runs the table in the bubble of the test.
func (l *lab) run() {
	done := make(chan struct{})
	go func() { defer close(done); l.Run(l.t.Context()) }()
	l.t.Cleanup(func() { <-done })
	synctest.Wait()
}

func TestNothingIsServedBeforeTheHostsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		mailbox := xds.NewMailbox()
		l.Watch(xds.Node{}, "tls", mailbox)
		l.run()
		if time.Sleep(time.Minute); l.sent("") != nil {
			t.Error("a listener without chains was served")
		}
		if _, state := l.Lookup(xds.Node{}, "other"); state != xds.Absent {
			t.Errorf("another listener is %v", state)
		}
		l.SetHosts(nil)
		synctest.Wait()
		if _, order := chains(t, l.sent("")); order != "on-demand" {
			t.Errorf("chains: %s", order)
		}
		if got := mailbox.Take(); len(got) != 1 || got[0] != "tls" {
			t.Errorf("woken with %v", got)
		}
		l.Unwatch(xds.Node{}, "tls", mailbox)
		l.SetHosts(names("a.example"))
		if time.Sleep(time.Minute); len(mailbox.Take()) != 0 {
			t.Error("woken after Unwatch")
		}
	})
}

func TestNothingIsServedBeforeTheLifetimeIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		unknown := options
		unknown.TicketLifetime = 0
		var err error
		l.Table, err = NewTable(Config{File: l.file, Refresh: time.Minute, Options: unknown, Log: l.cfg.Log})
		check(t, err)
		l.run()
		l.SetHosts(names("a.example"))
		commit, err := l.Change(l.file, unknown)
		check(t, err)
		commit()
		if time.Sleep(time.Hour); l.sent("") != nil {
			t.Fatal("a listener with a lifetime of nothing was served")
		}
		l.SetTicketLifetime(time.Hour)
		synctest.Wait()
		c := downstream(t, listenerOf(t, l.sent("")).GetFilterChains()[0])
		if c.GetSessionTimeout().AsDuration() != time.Hour {
			t.Errorf("%v", c)
		}
	})
}

func TestChangesWaitForQuietButNotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		l.run()
		l.SetHosts(names("a.example"))
		synctest.Wait()
		first := l.sent("").Version
		l.SetHosts(names("a.example b.example"))
		if time.Sleep(quiet - time.Millisecond); l.sent("").Version != first {
			t.Error("it did not wait for more")
		}
		if time.Sleep(2 * time.Millisecond); l.sent("").Version == first {
			t.Error("it waits although all is quiet")
		}
		second := l.sent("").Version
		began := time.Now()
		for i := 0; l.sent("").Version == second; i++ {
			l.SetHosts(append(names("a.example"), keysource.Name(strings.Repeat("x", 1+i)+".example")))
			time.Sleep(quiet / 2)
			synctest.Wait()
		}
		if took := time.Since(began); took < quiet || took > quietAtMost+quiet {
			t.Errorf("under constant change it took %v", took)
		}
		before := l.sent("")
		l.SetHosts(l.hosts)
		if time.Sleep(time.Minute); l.sent("") != before {
			t.Error("the same hosts made another listener")
		}
	})
}

// A change of one host leaves every other chain as it is, to the byte; the version follows the set
// of hosts alone.
func TestOtherChainsStayAsTheyAre(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := newLab(t, nil)
		set := rapid.SliceOfDistinct(rapid.StringMatching(`(\*\.)?[a-z]{1,3}\.example`), rapid.ID[string])
		var before map[string]string
		versions := map[string]string{} // by the order of chains
		for range 4 {
			l.SetHosts(names(strings.Join(set.Draw(rt, "hosts"), " ")))
			l.serve()
			r := l.sent("")
			now, order := chains(t, r)
			if !strings.HasSuffix(order, onDemandName) || len(now) != len(l.hosts)+1 {
				rt.Fatalf("hosts %v, chains %s", l.hosts, order)
			}
			for name, b := range now {
				if before[name] != "" && before[name] != b {
					rt.Fatalf("the chain of %s is another", name)
				}
			}
			if v := versions[order]; v != "" && v != r.Version {
				rt.Fatalf("one set of hosts, two versions")
			}
			versions[order] = r.Version
			if has, ok := l.HostsOf(r.Version); !ok || len(has) != len(l.hosts) {
				rt.Fatalf("the hosts of the version are said to be %v", has)
			}
			before = now
		}
	})
}

func TestANodeGetsTheChainsThatItsIdentityAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := grants{names: map[string]string{"one": "a.example b.example", "two": "b.example a.example c.example",
			"three": "b.example", "ringless": "a.example"}, scopes: "one two three"}
		l := newLab(t, p)
		l.SetHosts(names("a.example b.example"))
		l.serve()
		for identity, want := range map[string]string{
			"one": "a.example b.example on-demand", "two": "a.example b.example on-demand",
			"three": "b.example on-demand", "ringless": "on-demand", "nobody": "on-demand",
		} {
			if _, order := chains(t, l.sent(identity)); order != want {
				t.Errorf("%s gets %s, want %s", identity, order, want)
			}
		}
		if l.sent("one") != l.sent("two") {
			t.Error("two identities with one set of hosts have two listeners")
		}
		one, _ := chains(t, l.sent("one"))
		three, _ := chains(t, l.sent("three"))
		if one["b.example"] != three["b.example"] {
			t.Error("the chain of one host differs from node to node")
		}
		l.SetPolicy(grants{names: map[string]string{"one": "a.example"}, scopes: "one"})
		l.serve()
		if _, order := chains(t, l.sent("one")); order != "a.example on-demand" {
			t.Errorf("narrowed, one gets %s", order)
		}
	})
}

func TestABadTemplateLeavesTheLastGoodOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, nil)
		l.SetHosts(names("a.example"))
		l.run()
		first := l.sent("")
		for text, want := range map[string]string{
			"filters": "unexpected", strings.Replace(example(t), `name: "tls"`, `name: "other"`,
				1): "restart lockstepd",
			strings.Replace(example(t), "envoy.extensions.filters.http.router.v3.Router", "example.Mine",
				1): "example.Mine",
		} {
			l.write(text)
			time.Sleep(2 * time.Minute)
			if err := l.Problem(); err == nil || !strings.Contains(err.Error(), want) ||
				!strings.Contains(err.Error(), l.file) {
				t.Errorf("the problem is said to be %v, want %q and the file in it", err, want)
			}
			if l.sent("").Version != first.Version {
				t.Error("the last good listener did not stay")
			}
		}
		l.write(strings.Replace(example(t), "stream_idle_timeout: \"0s\"", "stream_idle_timeout: \"9s\"", 1))
		time.Sleep(2 * time.Minute)
		if err := l.Problem(); err != nil {
			t.Error(err)
		}
		if l.sent("").Version == first.Version {
			t.Error("a good template was not taken over")
		}
		if _, order := chains(t, l.sent("")); order != "a.example on-demand" {
			t.Errorf("chains: %s", order)
		}
	})
}

func TestANewChainBringsItsCertificate(t *testing.T) {
	l := newLab(t, nil)
	var versions []string
	for _, hosts := range []string{"a.example b.example", "b.example c.example", ""} {
		l.SetHosts(names(hosts))
		l.serve()
		versions = append(versions, l.sent("").Version)
	}
	for _, c := range []struct{ before, version, want string }{
		{versions[0], versions[1], "chain:c.example"}, {"unknown", versions[1], "chain:b.example chain:c.example"},
		{"", versions[0], "chain:a.example chain:b.example"}, {versions[1], versions[2], ""},
	} {
		if got := strings.Join(l.Brings(c.before, c.version), " "); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// A chain names both certificates of a host that has two, and only then.
func TestTheChainOfAHostWithTwoCertificatesNamesBoth(t *testing.T) {
	l := newLab(t, grants{names: map[string]string{"some": "a.example b.example"}, scopes: "some"})
	var versions []string
	var before map[string]string
	for _, c := range []struct{ hosts, both string }{
		{"a.example b.example", ""}, {"a.example a.example:rsa b.example c.example c.example:rsa", "a.example"},
		{"a.example b.example", ""},
	} {
		l.SetHosts(names(c.hosts))
		l.serve()
		r := l.sent("some")
		versions = append(versions, r.Version)
		for _, chain := range listenerOf(t, r).GetFilterChains() {
			if chain.GetName() == onDemandName {
				continue
			}
			var asked []string
			for _, s := range downstream(t, chain).GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs() {
				asked = append(asked, s.GetName())
			}
			want := "chain:" + chain.GetName()
			if chain.GetName() == c.both {
				want += " chain:" + chain.GetName() + ":rsa"
			}
			if got := strings.Join(asked, " "); got != want {
				t.Errorf("with %s the chain of %s names %s, want %s", c.hosts, chain.GetName(), got, want)
			}
		}
		now, order := chains(t, r)
		if order != "a.example b.example on-demand" {
			t.Errorf("chains: %s", order)
		}
		if before != nil && (now["b.example"] != before["b.example"] || now["a.example"] == before["a.example"]) {
			t.Error("the chain of another host has changed, or that of the host has not")
		}
		before = now
		if has, ok := l.HostsOf(r.Version); !ok || fmt.Sprint(has) != "[a.example b.example]" {
			t.Errorf("the hosts are said to be %v", has)
		}
	}
	if versions[0] != versions[2] || versions[0] == versions[1] {
		t.Errorf("versions %v", versions)
	}
	if got := l.Brings(versions[0], versions[1]); fmt.Sprint(got) != "[chain:a.example:rsa]" {
		t.Errorf("a second certificate brings %v", got)
	}
}

func TestVersionsAreRemembered(t *testing.T) {
	var e editions
	for i := range 3 * maxBuilds {
		e.begin()
		if i == 0 {
			e.note("first", names("o.example"))
		}
		e.note(time.Duration(i).String(), nil)
		if h, ok := e.of("first"); ok != (i < maxBuilds) || len(h) > 1 {
			t.Fatalf("after %d changes the first version is known: %v", i, ok)
		}
	}
	if len(e.builds) != maxBuilds {
		t.Errorf("%d changes are kept", len(e.builds))
	}
	for build := range 4 {
		e.begin()
		for i := range 2 * maxSets {
			e.note(fmt.Sprint(build, " ", i), nil)
		}
		total := 0
		for _, b := range e.builds {
			total += len(b)
		}
		if total > 3*maxSets {
			t.Errorf("%d sets are kept", total)
		}
		for _, b := range []int{max(build-1, 0), build} {
			if _, ok := e.of(fmt.Sprint(b, " ", maxSets-1)); !ok {
				t.Errorf("during change %d one of the sets of change %d is not known", build, b)
			}
		}
	}
}

// each gives every identity a set of its own: the host of its name.
type each struct{}

func (each) AllowsScope(string, string) bool { return true }
func (each) AllowsName(identity string, n keysource.Name) bool {
	return identity+".example" == string(n)
}

// However many sets of hosts there are, each node gets its own, what it serves is known until it
// has the next, and what it is new to is sent again.
func TestManySetsOfHosts(t *testing.T) {
	l := newLab(t, each{})
	var hosts []keysource.Name
	for i := range maxSets + 100 {
		hosts = append(hosts, keysource.Name(fmt.Sprintf("n%04d.example", i)))
	}
	identity := func(i int) string { return strings.TrimSuffix(string(hosts[i]), ".example") }
	var versions [2][]string
	for change := range versions {
		l.SetHosts(append(names(fmt.Sprintf("new%d.example", change)), hosts...))
		l.serve()
		for i := range hosts {
			versions[change] = append(versions[change], l.sent(identity(i)).Version)
		}
	}
	for _, v := range versions {
		for i := range maxSets {
			if has, ok := l.HostsOf(v[i]); !ok || len(has) != 1 || has[0] != hosts[i] {
				t.Fatalf("the hosts of the version of node %d are said to be %v", i, has)
			}
		}
	}
	last := len(hosts) - 1
	if _, order := chains(t, l.sent(identity(last))); order != string(hosts[last])+" on-demand" {
		t.Errorf("a node beyond what is remembered gets %s", order)
	}
	if brings := l.Brings("", versions[1][last]); !slices.Contains(brings, keysource.ChainName(hosts[last])) {
		t.Error("what a chain names is not sent again to a node beyond what is remembered")
	}
}

// What is kept encoded is bounded, and each node gets its own nevertheless.
func TestWhatIsKeptEncodedIsBounded(t *testing.T) {
	l := newLab(t, each{})
	l.SetHosts(names("a.example b.example"))
	l.serve()
	l.served.keptBytes = maxKeptBytes
	first := l.sent("a")
	if second := l.sent("b"); l.sent("b") == second || l.sent("b").Version != second.Version ||
		l.sent("a").Version != first.Version || second.Version == first.Version {
		t.Error("what is beyond was kept, or is another")
	}
	if l.sent("a") != first {
		t.Error("the first was not kept")
	}
}

// Between a look at the file and its template coming into force, a reload may have chosen another
// file. That one stays.
func TestALookThatIsLateDoesNotUndoAChange(t *testing.T) {
	l := newLab(t, nil)
	was := l.watched()
	l.write(strings.Replace(example(t), "stream_idle_timeout: \"0s\"", "stream_idle_timeout: \"9s\"", 1))
	if changed, err := was.Look(); !changed || err != nil {
		t.Fatal(changed, err)
	}
	other := filepath.Join(t.TempDir(), "other.yaml")
	check(t, os.WriteFile(other, []byte(example(t)+"\n# other\n"), 0o600))
	commit, err := l.Change(other, options)
	check(t, err)
	commit()
	want := l.Digest()
	if l.take(was, was) || l.Digest() != want || l.watched().Path() != other {
		t.Errorf("%s is in force, with the digest %s", l.watched().Path(), l.Digest())
	}
	if now := l.watched(); !l.take(now, now) {
		t.Error("the file in force is not taken")
	}
}
