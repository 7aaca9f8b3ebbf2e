package sds

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// shelf is a source of certificates that a test makes.
type shelf struct {
	mu  sync.Mutex
	all map[keysource.Name]keysource.Certificate
}

func (s *shelf) Certificate(_ context.Context, n keysource.Name) (keysource.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.all[n]
	if !ok {
		return c, keysource.ErrNotExist
	}
	return c, nil
}

// put makes a certificate under n: RSA if kind is the name of a second one. It returns its version.
func (s *shelf) put(t *testing.T, n, kind keysource.Name) string {
	t.Helper()
	c, err := selfSigned(kind, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[n] = c
	return c.Version()
}

func (s *shelf) drop(n keysource.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, n)
}

func TestTheSecondCertificateOfAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{all: map[keysource.Name]keysource.Certificate{}}
		empty := &shelf{}
		l := &lab{rings: newRings()}
		l.Table = NewTable(Config{Sources: keysource.Sources{empty, s}, Rings: l.rings,
			Log: slog.New(slog.DiscardHandler)})
		defer l.start(t)()
		const shop, second = "shop.example", "shop.example:rsa"
		chained := node(1, xds.ADS)
		edge := node(2, xds.SDS)
		edge.Agent = xds.EdgeAgent
		for _, n := range []string{second, "chain:" + second, "chain:" + shop, "chain:www.a.example:rsa"} {
			l.Watch(chained, n, xds.NewMailbox())
			l.Watch(edge, n, xds.NewMailbox())
		}
		// is demands what a node with a chain gets: a version, "absent", or "stand-in".
		is := func(when, asked, want string) {
			t.Helper()
			l.Refresh([]keysource.Name{shop, second, "*.a.example", "*.a.example:rsa", "www.a.example"})
			synctest.Wait()
			got := "absent"
			res, state := l.Lookup(chained, asked)
			if state == xds.Present {
				if got = contentOf(res); res.StandIn {
					got = "stand-in"
					p, _ := certificateOf(res.Body.Value)
					if c, err := keysource.ParseCertificate(p, time.Now()); err != nil || c.CheckName(second) != nil &&
						c.CheckName("www.a.example:rsa") != nil {
						t.Errorf("%s: the stand-in is no RSA certificate of the host: %v", when, err)
					}
				}
			}
			if got != want {
				t.Errorf("%s: %s gets %s, want %s", when, asked, got, want)
			}
			if _, state := l.Lookup(edge, asked); want == "stand-in" && state != xds.Absent {
				t.Errorf("%s: the edge gets a stand-in", when)
			}
		}
		is("nothing is there", second, "absent")
		rsa := s.put(t, second, second)
		is("there is no first one", second, "absent")
		ec := s.put(t, shop, shop)
		is("both are there", second, rsa)
		is("both are there", "chain:"+second, rsa)
		is("both are there", "chain:"+shop, ec)
		s.put(t, shop, shop)
		is("the first one is renewed", second, rsa)
		rsa = s.put(t, second, second)
		is("the second one is renewed", "chain:"+second, rsa)
		s.put(t, shop, second) // RSA
		is("the first one becomes RSA: the last good second one stays", second, rsa)
		ec = s.put(t, shop, shop)
		is("it is ECDSA again", "chain:"+shop, ec)
		s.drop(second)
		is("the second one is gone", second, "stand-in")
		is("the second one is gone", "chain:"+shop, ec)
		rsa = s.put(t, second, second)
		is("it is back", second, rsa)

		const www = "chain:www.a.example:rsa"
		s.put(t, "*.a.example", "*.a.example")
		wild := s.put(t, "*.a.example:rsa", "*.a.example:rsa")
		is("a wildcard has both", www, wild)
		s.put(t, "www.a.example", "www.a.example")
		is("a host's own certificate is not paired with its wildcard's", www, "stand-in")
	})
}
