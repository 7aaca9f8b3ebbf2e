package sds

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// show says what a node is given: "-" not yet, "absent", or what the chain says.
func (l *lab) show(t *testing.T, name string) string {
	t.Helper()
	res, state := l.Lookup(node(1, xds.ADS), name)
	switch {
	case (res != nil) != (state == xds.Present):
		t.Fatalf("%s: state %d with resource %v", name, state, res)
	case state == xds.NotYet:
		return "-"
	case state == xds.Absent:
		return "absent"
	}
	if res.Name != name {
		t.Errorf("asked for %q, got %q", name, res.Name)
	}
	return string(secret(t, res).GetTlsCertificate().GetCertificateChain().GetInlineBytes())
}

// secret decodes what Envoy gets, and checks it as Envoy does.
func secret(t *testing.T, res *xds.Resource) *tlsv3.Secret {
	t.Helper()
	s := &tlsv3.Secret{}
	if err := proto.Unmarshal(res.Body.GetValue(), s); err != nil || res.Body.GetTypeUrl() != TypeURL {
		t.Fatalf("%v; type %q", err, res.Body.GetTypeUrl())
	}
	if err := s.ValidateAll(); err != nil {
		t.Errorf("Envoy refuses it: %v", err)
	}
	if s.GetName() != res.Name {
		t.Errorf("the secret of %q is named %q", res.Name, s.GetName())
	}
	return s
}

// watch subscribes and returns what was announced since the last call.
func (l *lab) watch(stream uint64, names ...string) (changed func() string, stop func()) {
	mailbox := xds.NewMailbox()
	for _, n := range names {
		l.Watch(node(stream, xds.ADS), n, mailbox)
	}
	changed = func() string {
		select {
		case <-mailbox.Signal():
		default:
		}
		return strings.Join(slices.Sorted(slices.Values(mailbox.Take())), " ")
	}
	return changed, func() {
		for _, n := range names {
			l.Unwatch(node(stream, xds.ADS), n, mailbox)
		}
	}
}

func TestWhatACertificateNameGets(t *testing.T) {
	const far = "xn--mnchen-3ya.example"
	for name, c := range map[string]struct {
		have  map[keysource.Name]string
		ask   string
		want  string
		calls string // of the source, in order of the names
	}{
		"its own": {map[keysource.Name]string{"a.shop.example": "A", "*.shop.example": "W"},
			"a.shop.example", "A", "a.shop.example"},
		"its wildcard's": {map[keysource.Name]string{"*.shop.example": "W"}, "a.shop.example", "W",
			"*.shop.example a.shop.example"},
		"a wildcard itself": {map[keysource.Name]string{"*.shop.example": "W"}, "*.shop.example", "W",
			"*.shop.example"},
		"no wildcard two labels up": {map[keysource.Name]string{"*.shop.example": "W"}, "b.a.shop.example",
			"absent", "*.a.shop.example b.a.shop.example"},
		"under the spelling asked for": {map[keysource.Name]string{"shop.example": "A"}, "Shop.EXAMPLE", "A",
			"shop.example"},
		"with a trailing dot": {map[keysource.Name]string{"shop.example": "A"}, "shop.example.", "A",
			"shop.example"},
		"in Unicode": {map[keysource.Name]string{far: "M"}, "München.example", "M", far},
		"none":       {nil, "no.example", "absent", "no.example"},
		"could not look": {map[keysource.Name]string{"a.shop.example": "!", "*.shop.example": "W"},
			"a.shop.example", "-", "a.shop.example"},
		"could not look for its wildcard": {map[keysource.Name]string{"*.shop.example": "!"}, "a.shop.example", "-",
			"*.shop.example a.shop.example"},
		"an address": {map[keysource.Name]string{"192.0.2.1": "A", "*.0.2.1": "W"}, "192.0.2.1", "A",
			"192.0.2.1"},
		"an address in IPv6": {map[keysource.Name]string{"2001:db8::1": "A"}, "[2001:DB8::1]", "A", "2001:db8::1"},
		"an underscore": {map[keysource.Name]string{"*.shop.example": "W"}, "a_b.shop.example", "W",
			"*.shop.example a_b.shop.example"},
		"no name":   {nil, "a b", "absent", ""},
		"a path":    {nil, "../../etc/passwd", "absent", ""},
		"a star":    {nil, "*", "absent", ""},
		"too long":  {nil, strings.Repeat("a.", 200), "absent", ""},
		"not UTF-8": {nil, "a\xff.example", "absent", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab()
				for n, what := range c.have {
					l.set(n, what)
				}
				defer l.start(t)()
				if got := l.show(t, c.ask); got != "-" {
					t.Errorf("known before anybody watches it: %s", got)
				}
				changed, stop := l.watch(1, c.ask)
				synctest.Wait()
				if got := l.show(t, c.ask); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				var calls []string
				for n := range l.calls {
					calls = append(calls, string(n))
				}
				slices.Sort(calls)
				if got := strings.Join(calls, " "); got != c.calls {
					t.Errorf("the source was asked for %q, want %q", got, c.calls)
				}
				if announced := changed() != ""; announced != (c.want != "-" && c.calls != "") {
					t.Errorf("announced: %v", announced)
				}
				stop()
				if l.Watched() != 0 || len(l.dependents) != 0 || len(l.Table.certs) != 0 {
					t.Errorf("%d names and %d ties are left", len(l.Table.certs), len(l.dependents))
				}
			})
		})
	}
}

func TestOneCertificateForAllStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		l.set("a.example", "(A") // takes its time
		defer l.start(t)()
		var stops []func()
		for i := range uint64(24) {
			_, stop := l.watch(i, "a.example")
			stops = append(stops, stop)
			l.Refresh([]keysource.Name{"a.example"})
			synctest.Wait()
		}
		close(l.free)
		synctest.Wait()
		if l.most != 1 || l.called("a.example") != 2 {
			// one flight, and one more for what changed during it
			t.Errorf("%d at once, %d calls", l.most, l.called("a.example"))
		}
		first, _ := l.Lookup(node(1, xds.ADS), "a.example")
		for i := range uint64(20) {
			if res, _ := l.Lookup(node(i, xds.SDS), "a.example"); res != first {
				t.Fatal("it is encoded more than once")
			}
		}
		l.Refresh([]keysource.Name{"a.example"}) // nothing changed: the same bytes
		synctest.Wait()
		if res, _ := l.Lookup(node(1, xds.ADS), "a.example"); res != first {
			t.Error("it is encoded again although it is the same")
		}
		for i, stop := range stops {
			if l.Watched() != 1 {
				t.Fatalf("dropped while %d watch it", len(stops)-i)
			}
			stop()
		}
		if _, state := l.Lookup(node(1, xds.ADS), "a.example"); state != xds.NotYet || l.Watched() != 0 {
			t.Error("kept although nobody watches it")
		}
	})
}

func TestChangesReachThoseWhoWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		l.set("*.shop.example", "W1")
		l.set("b.shop.example", "B1")
		defer l.start(t)()
		changed, stop := l.watch(1, "a.shop.example", "B.shop.example", "b.shop.example", "*.shop.example",
			"other.example")
		defer stop()
		synctest.Wait()
		changed()
		for _, step := range []struct {
			do      func()
			refresh keysource.Name
			want    string // announced
			a, b, w string
		}{
			{func() { l.set("*.shop.example", "W2") }, "*.shop.example", "*.shop.example a.shop.example", "W2", "B1",
				"W2"},
			{func() { l.set("b.shop.example", "B2") }, "b.shop.example", "B.shop.example b.shop.example", "W2", "B2",
				"W2"},
			{func() {}, "b.shop.example", "", "W2", "B2", "W2"},
			{func() { l.set("a.shop.example", "A1") }, "a.shop.example", "a.shop.example", "A1", "B2", "W2"},
			{func() { l.remove("*.shop.example") }, "*.shop.example", "*.shop.example", "A1", "B2", "absent"},
			{func() { l.remove("a.shop.example") }, "a.shop.example", "a.shop.example", "absent", "B2", "absent"},
			// back again
			{func() { l.set("a.shop.example", "A1") }, "a.shop.example", "a.shop.example", "A1", "B2", "absent"},
			// the last good one stays
			{func() { l.set("b.shop.example", "!") }, "b.shop.example", "", "A1", "B2", "absent"},
			{func() {}, "nobody.example", "", "A1", "B2", "absent"},
			{func() {}, "", "", "A1", "B2", "absent"},
		} {
			step.do()
			l.Refresh([]keysource.Name{step.refresh})
			synctest.Wait()
			if got := changed(); got != step.want {
				t.Errorf("refresh of %s announced %q, want %q", step.refresh, got, step.want)
			}
			if a, b, w := l.show(t, "a.shop.example"), l.show(t, "B.shop.example"), l.show(t,
				"*.shop.example"); a != step.a || b != step.b || w != step.w {
				t.Errorf("after %s: %s %s %s, want %s %s %s", step.refresh, a, b, w, step.a, step.b, step.w)
			}
		}
	})
}

func TestALoadThatFailsIsTriedAgainLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		l.set("a.example", "!")
		defer l.start(t)()
		_, stop := l.watch(1, "a.example")
		for i, at := range []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183} {
			time.Sleep(at*time.Second - time.Since(bubbleStart) - 1)
			synctest.Wait()
			if i > 0 && l.called("a.example") != i {
				t.Fatalf("%d calls just before %ds", l.called("a.example"), at)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			if l.called("a.example") != i+1 {
				t.Fatalf("%d calls at %ds", l.called("a.example"), at)
			}
		}
		before := l.called("a.example")
		for range 100 { // each is looked at once, and starts no chain of tries of its own
			l.Refresh([]keysource.Name{"a.example"})
			synctest.Wait()
		}
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if n := l.called("a.example") - before; n < 100+9 || n > 100+11 {
			t.Errorf("%d calls in 10 minutes and 100 refreshes", n)
		}
		l.set("a.example", "A")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := l.show(t, "a.example"); got != "A" {
			t.Errorf("got %s", got)
		}
		before = l.called("a.example")
		time.Sleep(time.Hour)
		synctest.Wait()
		if l.called("a.example") != before {
			t.Error("it is loaded again without a reason")
		}
		if n := strings.Count(l.log.String(), "cannot be loaded"); n != 1 ||
			strings.Contains(l.log.String(), "key of") {
			t.Errorf("logged %d times: %s", n, l.log.String())
		}
		l.set("a.example", "!")
		l.Refresh([]keysource.Name{"a.example"})
		synctest.Wait()
		stop()
		before = l.called("a.example")
		time.Sleep(time.Hour)
		synctest.Wait()
		if l.called("a.example") != before {
			t.Error("tried again although nobody watches it")
		}
	})
}

var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where synctest's clock begins

// Names whose source hangs must not keep others waiting: not when they are many, and not for ever.
func TestNamesThatHangHoldUpNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		defer l.start(t)()
		for i := range 3 * loaders {
			n := fmt.Sprintf("hangs-%d.example", i)
			l.set(keysource.Name(n), "…")
			_, stop := l.watch(1, n)
			defer stop()
		}
		l.set("ok.example", "OK")
		_, stop := l.watch(1, "ok.example")
		defer stop()
		time.Sleep(3*loadWithin + time.Second) // each had its first try
		synctest.Wait()
		if got := l.show(t, "ok.example"); got != "OK" {
			t.Fatalf("after the first round: %s", got)
		}
		for i := range 60 { // from then on they have half of the loaders, and no more
			n := fmt.Sprintf("late-%d.example", i)
			l.set(keysource.Name(n), "L")
			_, stop := l.watch(1, n)
			synctest.Wait()
			if got := l.show(t, n); got != "L" {
				t.Fatalf("%s after %ds: %s", n, i, got)
			}
			stop()
			time.Sleep(time.Second)
		}
	})
}

func TestAHangingNameLeavesTheOtherLoadersToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		l.set("hangs.example", "…")
		l.set("ok.example", "OK")
		defer l.start(t)()
		synctest.Wait()
		_, stop := l.watch(1, "hangs.example", "ok.example")
		defer stop()
		synctest.Wait()
		if got := l.show(t, "ok.example"); got != "OK" {
			t.Errorf("got %s", got)
		}
	})
}

func TestWhoGetsARing(t *testing.T) {
	for name, c := range map[string]struct {
		node  xds.Node
		name  string
		state xds.State
	}{
		"a stream of SDS":            {node(1, xds.SDS), "tickets/default", xds.Present},
		"one that is to wait":        {node(2, xds.SDS), "tickets/default", xds.NotYet},
		"one that is barred":         {node(3, xds.SDS), "tickets/default", xds.Absent},
		"an unknown scope":           {node(1, xds.SDS), "tickets/other", xds.NotYet},
		"no scope":                   {node(1, xds.SDS), "tickets/", xds.NotYet},
		"ADS":                        {node(1, xds.ADS), "tickets/default", xds.Absent},
		"ADS, an unknown scope":      {node(1, xds.ADS), "tickets/other", xds.Absent},
		"another spelling is a name": {node(1, xds.SDS), "Tickets/default", xds.Absent},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab()
				l.rings.waiting[2] = true
				l.rings.bar(3)
				defer l.start(t)()
				mailbox := xds.NewMailbox()
				l.Watch(c.node, c.name, mailbox)
				synctest.Wait()
				res, state := l.Lookup(c.node, c.name)
				if state != c.state || (res != nil) != (state == xds.Present) {
					t.Errorf("state %d, resource %v", state, res)
				}
				if len(l.calls) != 0 {
					t.Errorf("the source was asked: %v", l.calls)
				}
				if l.Unwatch(c.node, c.name, mailbox); len(l.Table.rings)+len(l.Table.certs) != 0 {
					t.Error("something is left")
				}
			})
		})
	}
}

func TestARingAsEnvoyGetsIt(t *testing.T) {
	l := newLab()
	l.rings.set(ring(3))
	res, _ := l.Lookup(node(1, xds.SDS), "tickets/default")
	s := secret(t, res)
	if res.Version != l.rings.ring.Version()+".0" || !res.Until.IsZero() ||
		len(s.GetSessionTicketKeys().GetKeys()) != 3 {
		t.Errorf("%s: %d keys", res.Version, len(s.GetSessionTicketKeys().GetKeys()))
	}
	for i, k := range s.GetSessionTicketKeys().GetKeys() {
		if keysource.TicketKey(k.GetInlineBytes()) != l.rings.ring.Keys[i] {
			t.Errorf("key %d is another", i)
		}
	}
	for i := range uint64(9) {
		if again, _ := l.Lookup(node(i, xds.SDS), "tickets/default"); again != res {
			t.Fatal("it is encoded more than once")
		}
	}
	l.rings.set(ring(2))
	if again, _ := l.Lookup(node(1, xds.SDS), "tickets/default"); again == res ||
		again.Version != l.rings.ring.Version()+".0" {
		t.Error("the new ring is not sent")
	}
}

func TestRefreshRingWakesWhomItNames(t *testing.T) {
	l := newLab()
	mailboxes := map[uint64]*xds.Mailbox{}
	for i := uint64(1); i <= 3; i++ {
		mailboxes[i] = xds.NewMailbox()
		l.Watch(node(i, xds.SDS), "tickets/default", mailboxes[i])
	}
	woken := func() (who []uint64) {
		for i := uint64(1); i <= 3; i++ {
			if names := mailboxes[i].Take(); slices.Equal(names, []string{"tickets/default"}) {
				who = append(who, i)
			} else if names != nil {
				t.Errorf("stream %d: %q", i, names)
			}
		}
		return who
	}
	for _, c := range []struct {
		scope   string
		streams []uint64
		want    []uint64
	}{
		{"default", []uint64{2, 99}, []uint64{2}},
		{"default", []uint64{}, nil},
		{"default", nil, []uint64{1, 2, 3}},
		{"other", nil, nil},
	} {
		l.RefreshRing(c.scope, c.streams)
		if got := woken(); !slices.Equal(got, c.want) {
			t.Errorf("%s %v woke %v, want %v", c.scope, c.streams, got, c.want)
		}
	}
	l.Unwatch(node(2, xds.SDS), "tickets/default", mailboxes[2])
	l.RefreshRing("default", nil)
	if got := woken(); !slices.Equal(got, []uint64{1, 3}) {
		t.Errorf("woke %v", got)
	}
}

func TestACertificateAsEnvoyGetsIt(t *testing.T) {
	c := keysource.Certificate{PEM: keysource.PEM{Chain: []byte("chain"), Key: []byte("key")}}
	res, err := certificateResource("Shop.example", c)
	if err != nil {
		t.Fatal(err)
	}
	s := secret(t, res).GetTlsCertificate()
	if string(s.GetCertificateChain().GetInlineBytes()) != "chain" ||
		string(s.GetPrivateKey().GetInlineBytes()) != "key" || res.Version != c.Version()+".0" {
		t.Errorf("%v", res.Version)
	}
	if _, err := certificateResource("a\xff", c); err == nil || errors.Is(err, keysource.ErrNotExist) ||
		strings.Contains(err.Error(), "key") {
		t.Errorf("a name that protobuf cannot carry: %v", err)
	}
}
