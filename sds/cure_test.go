package sds

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

func TestVariantsMeanTheSameInOtherBytes(t *testing.T) {
	l := newLab()
	for _, keys := range []int{1, 2, keysource.MaxRing} {
		l.rings.set(ring(uint64(keys)))
		res, _ := l.Lookup(node(1, xds.SDS), "tickets/default")
		seen := []string{string(res.Body.Value)}
		for n := 1; n < xds.Encodings; n++ {
			v := l.Variant(res, n, n == 1)
			if want := xds.Mark(l.rings.ring.Version(), n, n == 1); v.Version != want {
				t.Errorf("version %s, want %s", v.Version, want)
			}
			got := secret(t, v).GetSessionTicketKeys().GetKeys()
			if len(got) != keys+n {
				t.Fatalf("%d keys of %d", len(got), keys)
			}
			for i, k := range got {
				want := l.rings.ring.Keys[0] // what is more than the ring's is its first key again
				if i < keys {
					want = l.rings.ring.Keys[i]
				}
				if keysource.TicketKey(k.GetInlineBytes()) != want {
					t.Errorf("key %d of encoding %d is another", i, n)
				}
			}
			if slices.Contains(seen, string(v.Body.Value)) {
				t.Errorf("encoding %d of %d keys has the bytes of another", n, keys)
			}
			seen = append(seen, string(v.Body.Value))
		}
	}
	c, err := selfSigned("shop.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	res, err := certificateResource("shop.example", c)
	if err != nil {
		t.Fatal(err)
	}
	v := secret(t, l.Variant(res, 2, true)).GetTlsCertificate()
	if string(v.GetCertificateChain().GetInlineBytes()) == string(c.Chain) {
		t.Error("the bytes are the same")
	}
	if _, err := keysource.ParseCertificate(keysource.PEM{Chain: v.GetCertificateChain().GetInlineBytes(),
		Key: v.GetPrivateKey().GetInlineBytes()}, time.Now()); err != nil {
		t.Error(err)
	}
}

func TestTheEdgeGetsNoVariants(t *testing.T) {
	l := newLab()
	l.rings.set(ring(2))
	edge := node(1, xds.SDS)
	edge.Agent = xds.EdgeAgent
	if res, _ := l.Lookup(edge, "tickets/default"); l.Varies(edge) || res.Version != l.rings.ring.Version() {
		t.Errorf("varies %v, version %s", l.Varies(edge), res.Version)
	}
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		defer l.start(t)()
		for _, content := range []string{"1", "2"} {
			l.set("shop.example", content)
			l.Watch(edge, "shop.example", xds.NewMailbox())
			l.Refresh([]keysource.Name{"shop.example"})
			synctest.Wait()
			marked, _ := l.Lookup(node(2, xds.SDS), "shop.example")
			plain, _ := l.Lookup(edge, "shop.example")
			again, _ := l.Lookup(edge, "shop.example")
			if plain.Version != contentOf(marked) || plain.Body != marked.Body || again != plain {
				t.Errorf("%s: version %s for the edge, %s for others", content, plain.Version, marked.Version)
			}
		}
	})
}

// The cures of a certificate that a node refused, in their order.
func TestWhatCuresARefusedCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		defer l.start(t)()
		eager, demand := node(1, xds.SDS), node(2, xds.ADS)
		for _, n := range []xds.Node{eager, demand} {
			l.Watch(n, "shop.example", xds.NewMailbox())
		}
		var versions []string
		for _, c := range []string{"1", "2", "3", "4"} {
			l.set("shop.example", c)
			l.Refresh([]keysource.Name{"shop.example"})
			synctest.Wait()
			res, state := l.Lookup(eager, "shop.example")
			if state != xds.Present {
				t.Fatalf("state %d", state)
			}
			versions = append(versions, contentOf(res))
		}
		cure := func(n xds.Node, accepted string, try int) string {
			r, how := l.Cure(n, "shop.example", versions[3], accepted, try)
			switch {
			case how == xds.Hopeless:
				return "hopeless"
			case how == xds.Remove:
				return "remove"
			case r.StandIn:
				return "stand-in"
			}
			return contentOf(r)
		}
		for i, want := range []string{versions[2], versions[1], "stand-in", "hopeless"} {
			if got := cure(eager, versions[2], i); got != want {
				t.Errorf("eager, try %d: %s, want %s", i, got, want)
			}
		}
		if got := cure(eager, versions[1], 0); got != versions[1] {
			t.Errorf("the one that the node had accepted comes first: %s", got)
		}
		told := node(3, xds.ADS)
		told.Eager = true
		if got := cure(told, "", 2); got != "stand-in" {
			t.Errorf("a node that says that it is eager: %s", got)
		}
		for i, want := range []string{versions[2], versions[1], "remove", "stand-in", "hopeless"} {
			if got := cure(demand, "", i); got != want {
				t.Errorf("on demand, try %d: %s, want %s", i, got, want)
			}
		}
		// What a node refused is no remedy for what comes after it.
		l.set("shop.example", "5")
		l.Refresh([]keysource.Name{"shop.example"})
		synctest.Wait()
		if r, _ := l.Cure(eager, "shop.example", "5", "", 0); contentOf(r) != versions[2] {
			t.Errorf("the remedy is %s", contentOf(r))
		}
		if _, how := l.Cure(eager, "tickets/default", "g1", "", 0); how != xds.Retry {
			t.Errorf("a ring: %d", how)
		}
	})
}

func TestANameWithABadCertificateAloneGetsAStandIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		defer l.start(t)()
		l.set("shop.example", "?")
		envoy, edge := node(1, xds.ADS), node(2, xds.SDS)
		edge.Agent = xds.EdgeAgent
		mailbox := xds.NewMailbox()
		for _, n := range []xds.Node{envoy, edge} {
			l.Watch(n, "shop.example", mailbox)
		}
		synctest.Wait()
		res, state := l.Lookup(envoy, "shop.example")
		if state != xds.Present || !res.StandIn {
			t.Fatalf("state %d, %+v", state, res)
		}
		if len(mailbox.Take()) == 0 {
			t.Error("nobody was woken")
		}
		c := secret(t, res).GetTlsCertificate()
		pair, err := tls.X509KeyPair(c.GetCertificateChain().GetInlineBytes(), c.GetPrivateKey().GetInlineBytes())
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(c.GetCertificateChain().GetInlineBytes())
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil || leaf.VerifyHostname("shop.example") != nil || leaf.Issuer.CommonName != "Lockstep stand-in" ||
			pair.PrivateKey == nil {
			t.Errorf("%v, %v", leaf.Subject, err)
		}
		if _, state := l.Lookup(edge, "shop.example"); state != xds.NotYet {
			t.Errorf("the edge, which waits for nobody: state %d", state)
		}
		if held := l.Sent(); len(held) != 0 {
			t.Error("a stand-in would be written back")
		}
		l.set("shop.example", "mended")
		l.Refresh([]keysource.Name{"shop.example"})
		synctest.Wait()
		if res, _ := l.Lookup(envoy, "shop.example"); res.StandIn {
			t.Error("the stand-in stays")
		}
		if r, how := l.Cure(envoy, "shop.example", "x", "", 0); how != xds.Remove {
			t.Errorf("a stand-in counts as good: %v, %d", r, how)
		}
	})
}
