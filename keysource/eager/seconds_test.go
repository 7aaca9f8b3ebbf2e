package eager

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
)

// kinds is a source of certificates by the kind of their keys; one with an error cannot be looked
// up.
type kinds struct {
	mu    sync.Mutex
	certs map[keysource.Name]keysource.Certificate
	err   error
}

func (k *kinds) Certificate(_ context.Context, n keysource.Name) (keysource.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.certs[n]
	switch {
	case k.err != nil:
		return c, k.err
	case !ok:
		return c, keysource.ErrNotExist
	}
	return c, nil
}

func TestHostsWithTwoCertificatesAreFound(t *testing.T) {
	ca := testca.New(t)
	signer, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	made := map[bool]keysource.Certificate{}
	for isRSA, key := range map[bool]crypto.Signer{true: signer, false: testca.Key(t)} {
		chain, pem := ca.IssueFor(t, key, testca.NotAfter, "any.example")
		made[isRSA] = keysource.Certificate{PEM: keysource.PEM{Chain: chain, Key: pem}}
	}
	synctest.Test(t, func(t *testing.T) {
		k := &kinds{certs: map[keysource.Name]keysource.Certificate{}}
		said := ""
		var mu sync.Mutex
		var doubt error
		s := NewSeconds(SecondsConfig{Sources: keysource.Sources{k},
			Doubt: func(context.Context, keysource.Name) error { mu.Lock(); defer mu.Unlock(); return doubt },
			Changed: func(n []keysource.Name) {
				mu.Lock()
				defer mu.Unlock()
				said = fmt.Sprint(n)
			}})
		done := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		go func() { defer close(done); s.Run(ctx) }()
		defer func() { stop(); <-done }()
		is := func(when, want string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if said != want {
				t.Errorf("%s: %s, want %s", when, said, want)
			}
		}
		change := func(n keysource.Name, isRSA bool) {
			k.mu.Lock()
			k.certs[n] = made[isRSA]
			k.mu.Unlock()
			s.Look([]keysource.Name{n})
		}
		drop := func(n keysource.Name) {
			k.mu.Lock()
			delete(k.certs, n)
			k.mu.Unlock()
			s.Look([]keysource.Name{n})
		}
		doubted := func(err error) { mu.Lock(); defer mu.Unlock(); doubt = err }
		fail := func(err error) { k.mu.Lock(); defer k.mu.Unlock(); k.err = err }
		synctest.Wait()
		is("no hosts yet", "")
		fail(errors.New("the store is away"))
		s.SetHosts([]keysource.Name{"a.x.example", "b.example"})
		is("it is not known", "")
		fail(nil)
		time.Sleep(defaultRefresh)
		is("none has two", "[a.x.example b.example]")
		change("a.x.example:rsa", true)
		is("the first one is missing", "[a.x.example b.example]")
		change("a.x.example", false)
		is("one has two", "[a.x.example a.x.example:rsa b.example]")
		change("a.x.example", true)
		is("both are RSA", "[a.x.example b.example]")
		change("a.x.example", false)
		is("it is ECDSA again", "[a.x.example a.x.example:rsa b.example]")
		fail(errors.New("the store is away"))
		s.Look([]keysource.Name{"a.x.example:rsa"})
		is("the store is away", "[a.x.example a.x.example:rsa b.example]")
		fail(nil)
		time.Sleep(defaultRefresh)
		doubted(errors.New("the store has lost something"))
		drop("a.x.example:rsa")
		is("it may be lost", "[a.x.example a.x.example:rsa b.example]")
		doubted(nil)
		time.Sleep(defaultRefresh)
		is("it is gone", "[a.x.example b.example]")
		change("*.x.example:rsa", true)
		change("*.x.example", false)
		is("the wildcard has two, and the host one of its own", "[a.x.example b.example]")
		drop("a.x.example")
		is("only the wildcard is there", "[a.x.example a.x.example:rsa b.example]")
	})
}
