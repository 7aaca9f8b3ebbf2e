package catalog

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faulty is a store whose next operations fail.
type faulty struct {
	store.Store
	mu                 sync.Mutex
	get, swap, changed []error // nil: works; used up from the front
	swaps              int
}

func (f *faulty) take(list *[]error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(*list) == 0 {
		return nil
	}
	err := (*list)[0]
	*list = (*list)[1:]
	return err
}

func (f *faulty) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	if err := f.take(&f.get); err != nil {
		return nil, 0, err
	}
	return f.Store.Get(ctx, key)
}

func (f *faulty) Swap(ctx context.Context, key string, old store.Rev, val []byte) (store.Rev, error) {
	if err := f.take(&f.swap); err != nil {
		return 0, err
	}
	f.mu.Lock()
	f.swaps++
	f.mu.Unlock()
	return f.Store.Swap(ctx, key, old, val)
}

func (f *faulty) Changed(ctx context.Context, prefix string, since store.Rev) ([]string, store.Rev, error) {
	if err := f.take(&f.changed); err != nil {
		return nil, 0, err
	}
	return f.Store.Changed(ctx, prefix, since)
}

func setUp(t testing.TB) (*Catalog, *faulty, testca.CA) {
	s := &faulty{Store: memory.New()}
	return New(Config{Store: store.OneByOne(s)}), s, testca.New(t)
}

func put(t testing.TB, c *Catalog, ca testca.CA, n keysource.Name) keysource.Certificate {
	t.Helper()
	chain, key := ca.Issue(t, string(n))
	cert, err := c.Put(t.Context(), n, keysource.PEM{Chain: chain, Key: key})
	check(t, err)
	return cert
}

func plant(t testing.TB, s store.Store, key string, val []byte) {
	t.Helper()
	_, rev, err := s.Get(t.Context(), key)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		t.Fatal(err)
	}
	_, err = s.Swap(t.Context(), key, rev, val)
	check(t, err)
}

func remove(t testing.TB, s store.Store, key string) error {
	t.Helper()
	_, rev, err := s.Get(t.Context(), key)
	check(t, err)
	_, err = s.Swap(t.Context(), key, rev, nil)
	return err
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPutGetRemove(t *testing.T) {
	c, s, ca := setUp(t)
	for _, n := range []keysource.Name{"shop.example", "*.shop.example", "xn--bcher-kva.example"} {
		if _, err := c.Certificate(t.Context(), n); !errors.Is(err, keysource.ErrNotExist) {
			t.Fatalf("before: %v", err)
		}
		if err := c.Remove(t.Context(), n); !errors.Is(err, keysource.ErrNotExist) {
			t.Fatalf("removing nothing: %v", err)
		}
		put(t, c, ca, n)
		want := put(t, c, ca, n) // replaces it
		got, err := c.Certificate(t.Context(), n)
		check(t, err)
		if got.Version() != want.Version() || !bytes.Equal(got.Key, want.Key) ||
			!slices.Equal(got.Names, want.Names) ||
			got.Issuer != want.Issuer || !got.NotAfter.Equal(want.NotAfter) {
			t.Errorf("%s: another one came back", n)
		}
		swaps := s.swaps
		if _, err := c.Put(t.Context(), n, want.PEM); err != nil || s.swaps != swaps {
			t.Errorf("%s: putting the same again wrote it: %v", n, err)
		}
		check(t, c.Remove(t.Context(), n))
		if _, err := c.Certificate(t.Context(), n); !errors.Is(err, keysource.ErrNotExist) {
			t.Fatalf("after: %v", err)
		}
	}
}

func TestPutRefuses(t *testing.T) {
	c, s, ca := setUp(t)
	chain, key := ca.Issue(t, "shop.example")
	_, otherKey := ca.Issue(t, "shop.example")
	expired, expiredKey := ca.IssueFor(t, testca.Key(t), time.Now().Add(-time.Minute), "shop.example")
	for name, x := range map[string]struct {
		n          keysource.Name
		chain, key []byte
		err        error
		words      string
	}{
		"another name": {"www.shop.example", chain, key, keysource.ErrBadCertificate,
			`www.shop.example: bad certificate: it is for ["shop.example"]`},
		"the wildcard of it": {"*.example", chain, key, keysource.ErrBadCertificate, "it is for"},
		"another key":        {"shop.example", chain, otherKey, keysource.ErrBadCertificate, "does not belong"},
		"expired":            {"shop.example", expired, expiredKey, keysource.ErrBadCertificate, "expired at"},
		"half":               {"shop.example", chain[:len(chain)/2], key, keysource.ErrBadCertificate, "cut short"},
		"a ring's name":      {"tickets/default", chain, key, keysource.ErrBadName, "tickets/default"},
		"no name":            {"", chain, key, keysource.ErrBadName, ""},
		"not normalised":     {"Shop.Example", chain, key, keysource.ErrBadName, `is written "shop.example"`},
	} {
		_, err := c.Put(t.Context(), x.n, keysource.PEM{Chain: x.chain, Key: x.key})
		if !errors.Is(err, x.err) || !strings.Contains(err.Error(), x.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.swaps > 0 {
		t.Error("something was written")
	}
}

func TestWritesStartAgainAfterAConflictOnly(t *testing.T) {
	c, s, ca := setUp(t)
	chain, key := ca.Issue(t, "shop.example")
	conflicts := slices.Repeat([]error{store.ErrConflict}, 3)
	s.swap = slices.Clone(conflicts)
	if _, err := c.Put(t.Context(), "shop.example", keysource.PEM{Chain: chain, Key: key}); err != nil {
		t.Errorf("put: %v", err)
	}
	s.swap = slices.Clone(conflicts)
	if err := c.Remove(t.Context(), "shop.example"); err != nil {
		t.Errorf("remove: %v", err)
	}
	s.swap = slices.Repeat([]error{store.ErrConflict}, maxTries)
	if _, err := c.Put(t.Context(), "shop.example", keysource.PEM{Chain: chain, Key: key}); !errors.Is(err,
		store.ErrConflict) {
		t.Errorf("put without end: %v", err)
	}

	down := errors.New("timed out")
	s.swap = []error{down}
	if _, err := c.Put(t.Context(), "shop.example", keysource.PEM{Chain: chain, Key: key}); !errors.Is(err, down) ||
		!strings.Contains(err.Error(), "unknown") {
		t.Errorf("put: %v", err)
	}
	put(t, c, ca, "shop.example")
	s.swap = []error{down}
	if err := c.Remove(t.Context(), "shop.example"); !errors.Is(err, down) || errors.Is(err, keysource.ErrNotExist) {
		t.Errorf("remove: %v", err)
	}
	for name, f := range map[string]func() error{
		"put": func() error {
			_, err := c.Put(t.Context(), "shop.example", keysource.PEM{Chain: chain, Key: key})
			return err
		},
		"remove": func() error { return c.Remove(t.Context(), "shop.example") },
		"get":    func() error { _, err := c.Certificate(t.Context(), "shop.example"); return err },
	} {
		s.get = []error{down}
		if err := f(); !errors.Is(err, down) || errors.Is(err, keysource.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConcurrentPutsAllEndWell(t *testing.T) {
	c, _, ca := setUp(t)
	var all sync.WaitGroup
	for range 8 {
		chain, key := ca.Issue(t, "shop.example")
		all.Go(func() {
			if _, err := c.Put(t.Context(), "shop.example", keysource.PEM{Chain: chain, Key: key}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := c.Certificate(t.Context(), "shop.example"); err != nil {
		t.Error(err)
	}
}

func TestExpiredSinceItWasPutIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, ca := setUp(t)
		chain, key := ca.IssueFor(t, testca.Key(t), time.Now().Add(time.Hour), "shop.example")
		put, err := c.Put(t.Context(), "shop.example", keysource.PEM{Chain: chain, Key: key})
		check(t, err)
		time.Sleep(2 * time.Hour)
		got, err := c.Certificate(t.Context(), "shop.example")
		if err != nil || got.Version() != put.Version() {
			t.Errorf("%v, %v", got, err)
		}
		for e := range c.List(t.Context(), "", "") {
			if !strings.Contains(e.Problem, "expired at") || e.Version != put.Version() {
				t.Errorf("%+v", e)
			}
		}
		if bad := c.BadEntries(); len(bad) != 1 || !bad[0].Expired {
			t.Errorf("it has merely expired: %+v", bad)
		}
	})
}

func TestBadRecordsAreErrorsOfTheirOwn(t *testing.T) {
	c, s, ca := setUp(t)
	good := put(t, c, ca, "good.example")
	bothChain, bothKey := ca.Issue(t, "good.example", "shop.example")
	mine := put(t, c, ca, "shop.example")
	of := func(n keysource.Name, c keysource.Certificate) []byte {
		parsed, der, err := keysource.ParseDER(c.PEM, time.Time{})
		check(t, err)
		return encode(n, parsed, der, parsed.Version())
	}
	both, err := keysource.ParseCertificate(keysource.PEM{Chain: bothChain, Key: bothKey}, time.Time{})
	check(t, err)
	whole := of("shop.example", mine)
	derOf := func(c keysource.Certificate) []byte {
		_, der, err := keysource.ParseDER(c.PEM, time.Time{})
		check(t, err)
		return der.Key
	}
	for name, val := range map[string][]byte{
		"empty":            {},
		"text":             []byte("hello"),
		"an earlier form":  []byte(`{"format":1,"name":"shop.example"}`),
		"half":             whole[:len(whole)/2],
		"without its end":  whole[:len(whole)-1],
		"two":              append(bytes.Clone(whole), whole...),
		"trailing":         append(bytes.Clone(whole), 'x'),
		"a later format":   append([]byte{format + 1}, whole[1:]...),
		"a longer name":    append([]byte{format, 0xff, 0xff, 0xff, 0xff, 0x0f}, whole[2:]...),
		"of another name":  of("good.example", both),
		"another key":      bytes.Replace(whole, derOf(mine), derOf(good), 1),
		"for another name": of("shop.example", good),
		"nothing in it": encode("shop.example", keysource.Certificate{}, keysource.DER{},
			keysource.Certificate{}.Version()),
		"many names": append(appendText(appendText([]byte{format}, "shop.example"), "v"), 0xff, 0xff, 0xff, 0xff,
			0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
	} {
		plant(t, s, key("shop.example"), val)
		_, err := c.Certificate(t.Context(), "shop.example")
		if !errors.Is(err, keysource.ErrBadCertificate) || errors.Is(err, keysource.ErrNotExist) ||
			!strings.Contains(err.Error(), "shop.example") {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(err.Error(), "BEGIN") || strings.Contains(err.Error(), string(mine.Key[40:60])) ||
			strings.Contains(err.Error(), string(derOf(mine)[40:60])) {
			t.Errorf("%s: the error quotes the record: %v", name, err)
		}
		var listed []string
		for e, err := range c.List(t.Context(), "", "") {
			check(t, err)
			listed = append(listed, fmt.Sprint(e.Name, " ", e.Problem != "", " ", e.Version != ""))
		}
		if !slices.Equal(listed, []string{"good.example false true", "shop.example true false"}) {
			t.Errorf("%s: listed %q", name, listed)
		}
	}
	mended := put(t, c, ca, "shop.example")
	if got, err := c.Certificate(t.Context(), "shop.example"); err != nil || got.Version() != mended.Version() {
		t.Errorf("put over a bad record: %v", err)
	}
	plant(t, s, key("shop.example"), []byte("bad again"))
	check(t, c.Remove(t.Context(), "shop.example"))
}

// What an earlier version stored, and no node should be sent, is an error and a problem that is
// listed. It is not served.
func TestStoredCertificatesThatEnvoyRefusesAreNotServed(t *testing.T) {
	c, s, ca := setUp(t)
	k := testca.Key(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"shop.example"}, NotBefore: testca.NotBefore,
		NotAfter: testca.NotAfter,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24},
			Value: []byte{0x30, 3, 2, 1, 5}}},
	}
	leaf, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Cert, k.Public(), ca.Key)
	check(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	check(t, err)
	der := keysource.DER{Chain: [][]byte{leaf, ca.Cert.Raw}, Key: pkcs8}
	old := keysource.Certificate{Names: tmpl.DNSNames, Issuer: ca.Cert.Subject.String(), NotBefore: tmpl.NotBefore,
		NotAfter: tmpl.NotAfter}
	old.PEM = der.PEM()
	plant(t, s, key("shop.example"), encode("shop.example", old, der, old.Version()))

	const words = "no staple comes with it: Envoy refuses it; have it issued without the extension"
	if _, err := c.Certificate(t.Context(), "shop.example"); !errors.Is(err, keysource.ErrBadCertificate) ||
		!strings.Contains(err.Error(), words) {
		t.Errorf("served: %v", err)
	}
	if ills := c.BadEntries(); len(ills) != 1 || !strings.Contains(ills[0].Problem, words) {
		t.Errorf("ills: %v", ills)
	}
	for e, err := range c.List(t.Context(), "", "") {
		if check(t, err); !strings.Contains(e.Problem, words) {
			t.Errorf("listed: %+v", e)
		}
	}
	record := encode("shop.example", old, der, old.Version())
	if back, err := Check("shop.example", record); err != nil || !bytes.Equal(back, record) {
		t.Errorf("it stops a restore: %v", err)
	}
	put(t, c, ca, "shop.example")
	if _, err := c.Certificate(t.Context(), "shop.example"); err != nil || len(c.BadEntries()) > 0 {
		t.Errorf("after a good one was put: %v, %v", err, c.BadEntries())
	}
}

func BenchmarkDecode(b *testing.B) {
	_, _, ca := setUp(b)
	ca = ca.Intermediate(b)
	leaf, key := ca.Issue(b, "shop.example")
	_, in, err := admit("shop.example", keysource.PEM{Chain: append(leaf, ca.PEM...), Key: key}, time.Now())
	check(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decode("shop.example", in.val); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	chain, key := testca.New(f).Issue(f, "shop.example")
	_, next, err := admit("shop.example", keysource.PEM{Chain: chain, Key: key}, time.Now())
	val := next.val
	check(f, err)
	f.Add(val)
	f.Add(val[:len(val)/2])
	f.Add(append(val, 'x'))
	f.Add([]byte(`{"format":1,"name":"shop.example"}`))
	f.Fuzz(func(t *testing.T, val []byte) {
		c, err := decode("shop.example", val)
		if err != nil {
			if !errors.Is(err, keysource.ErrBadCertificate) {
				t.Fatal(err)
			}
			return
		}
		if !c.Covers("shop.example") || len(c.Chain) == 0 && len(c.Key) == 0 {
			t.Fatalf("let through: %v, for %q", c, c.Names)
		}
	})
}

func TestList(t *testing.T) {
	c, s, ca := setUp(t)
	want := []keysource.Name{"*.example", "*.shop.example", "1.example", "a.example", "a.shop.example", "shop.example",
		"shopping.example"}
	for _, n := range want {
		put(t, c, ca, n)
	}
	plant(t, s, "certs/other", []byte("not ours"))
	plant(t, s, "cert", []byte("not ours"))
	for start, want := range map[string][]keysource.Name{
		"": want, "shop": want[5:], "*": want[:2], "*.s": want[1:2], "a.": want[3:5], "x": nil,
	} {
		var got []keysource.Name
		for e, err := range c.List(t.Context(), start, "") {
			check(t, err)
			if e.Version == "" || e.Issuer == "" || e.NotAfter.IsZero() || e.Problem != "" {
				t.Errorf("%+v", e)
			}
			got = append(got, e.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", start, got, want)
		}
	}
	for range c.List(t.Context(), "", "") {
		break // a consumer may leave
	}
	plant(t, s, "cert/b=ZZ", []byte("under a key that is no name"))
	all := slices.Concat(want[:5], []keysource.Name{"b=ZZ"}, want[5:])
	for i, after := range append([]keysource.Name{"/a/folder", "folder/x"}, all...) {
		// from anywhere in the middle
		var got []keysource.Name
		for e, err := range c.List(t.Context(), "", string(after)) {
			check(t, err)
			got = append(got, e.Name)
		}
		left := all[max(0, i-1):]
		switch i {
		case 0:
			left = all[2:]
		case 1:
			left = all[6:]
		}
		if !slices.Equal(got, left) {
			t.Errorf("after %q: %v, want %v", after, got, left)
		}
	}
	check(t, remove(t, s, "cert/b=ZZ"))

	s.get = []error{store.ErrNotExist} // removed between Keys and Get
	n := 0
	for _, err := range c.List(t.Context(), "", "") {
		check(t, err)
		n++
	}
	if n != len(want)-1 {
		t.Errorf("%d entries", n)
	}
	s.get = []error{errors.New("store is down")} // for whichever is read first
	failed := 0
	for e, err := range c.List(t.Context(), "", "") {
		if failed > 0 || err != nil && e.Name != "" {
			t.Errorf("after the error: %+v, %v", e, err)
		}
		if err != nil {
			failed++
		}
	}
	if failed != 1 {
		t.Errorf("%d errors, want the store's once", failed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range c.List(ctx, "", "") {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}

func TestAddressesAreListedInTheOrderOfNames(t *testing.T) {
	c, _, ca := setUp(t)
	names := []keysource.Name{"*.shop.example", "127.0.0.1", "10.0.0.1", "1.example", "::1", "2001:db8::1",
		"2001:db8::", "2001.example", "2001a.example", "fe80::1", "fe80.example", "_a.example", "a_b.example",
		"a-b.example", "ab.example"}
	for _, n := range names {
		put(t, c, ca, n)
		if have, err := c.Certificate(t.Context(), n); err != nil || !have.Covers(n) {
			t.Errorf("%s: %v", n, err)
		}
	}
	slices.Sort(names)
	for i, after := range append([]keysource.Name{""}, names...) {
		var got []keysource.Name
		for e, err := range c.List(t.Context(), "", string(after)) {
			check(t, err)
			if e.Problem != "" {
				t.Errorf("%+v", e)
			}
			got = append(got, e.Name)
		}
		if !slices.Equal(got, names[i:]) {
			t.Errorf("after %q: %q, want %q", after, got, names[i:])
		}
	}
	var got []keysource.Name
	for e, err := range c.List(t.Context(), "2001:", "2001:db8::") {
		check(t, err)
		got = append(got, e.Name)
	}
	if !slices.Equal(got, []keysource.Name{"2001:db8::1"}) {
		t.Errorf("with a prefix: %q", got)
	}
}

func TestRunTellsWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ca := &faulty{Store: memory.New()}, testca.New(t)
		var logs bytes.Buffer
		var mu sync.Mutex
		var told []keysource.Name
		reader := New(Config{Store: store.OneByOne(s), Log: slog.New(slog.NewTextHandler(&logs, nil)),
			Changed: func(n []keysource.Name) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, n...)
			}})
		writer := New(Config{Store: s.Store}) // another replica
		expect := func(when string, want ...keysource.Name) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(told)
			if !slices.Equal(told, want) {
				t.Errorf("%s: told %v, want %v", when, told, want)
			}
			told = nil
		}
		put(t, writer, ca, "old.example")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- reader.Run(ctx) }()
		expect("what was there before") // whoever asks from now on reads it
		<-reader.Ready()

		put(t, writer, ca, "shop.example")
		put(t, writer, ca, "*.shop.example")
		plant(t, s.Store, "rotation/default", []byte("not ours"))
		expect("before the refresh")
		time.Sleep(5 * time.Second)
		expect("one refresh later", "*.shop.example", "shop.example")
		time.Sleep(time.Hour)
		expect("nothing happened")

		check(t, writer.Remove(t.Context(), "shop.example"))
		reader.Wake()
		reader.Wake()
		expect("an event", "shop.example")
		put(t, reader, ca, "own.example")
		expect("its own write", "own.example")

		s.mu.Lock()
		s.changed = slices.Repeat([]error{errors.New("store is down")}, 3)
		s.mu.Unlock()
		put(t, writer, ca, "late.example")
		time.Sleep(15 * time.Second)
		expect("the store is down")
		time.Sleep(5 * time.Second)
		expect("and up again", "late.example")
		if n := strings.Count(logs.String(), "store is down"); n != 1 {
			t.Errorf("logged %d times: %s", n, &logs)
		}
		plant(t, s.Store, "cert/=ZZ", []byte("badly escaped"))
		reader.Wake()
		expect("a key that is no name")
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// A second certificate is stored under a name of its own, listed behind its host, and taken from a
// backup. A version before this one finds its name among those of the certificate.
func TestASecondCertificateIsStoredByItself(t *testing.T) {
	c, s, ca := setUp(t)
	signer, err := rsa.GenerateKey(rand.Reader, 2048)
	check(t, err)
	rsaFor := func(name string) keysource.PEM {
		chain, key := ca.IssueFor(t, signer, testca.NotAfter, name)
		return keysource.PEM{Chain: chain, Key: key}
	}
	for _, n := range []keysource.Name{"shop.example", "shop.example2", "shop.example-2", "*.blog.example"} {
		put(t, c, ca, n)
	}
	for _, n := range []keysource.Name{"shop.example", "*.blog.example"} {
		stored, err := c.Put(t.Context(), n.Second(), rsaFor(string(n)))
		check(t, err)
		got, err := c.Certificate(t.Context(), n.Second())
		check(t, err)
		if got.Version() != stored.Version() || !slices.Equal(got.Names, []string{string(n)}) {
			t.Errorf("%s: %v", n, got.Names)
		}
		val, _, err := s.Get(t.Context(), key(n.Second()))
		check(t, err)
		if again, err := Check(n.Second(), val); err != nil || !bytes.Equal(again, val) {
			t.Errorf("a backup of %s: %v", n, err)
		}
		if bytes.Count(val, []byte(n.Second())) != 2 {
			t.Errorf("the record of %s does not have its name among the certificate's", n)
		}
	}
	var listed []string
	after := ""
	for range 10 { // page by page
		for e, err := range c.List(t.Context(), "", after) {
			check(t, err)
			if e.Problem != "" {
				t.Errorf("%+v", e)
			}
			listed, after = append(listed, string(e.Name)), string(e.Name)
			break
		}
	}
	want := "*.blog.example *.blog.example:rsa shop.example shop.example-2 shop.example2 shop.example:rsa"
	if got := strings.Join(slices.Compact(listed), " "); got != want {
		t.Errorf("the list is %s, want %s", got, want)
	}
	chain, key := ca.Issue(t, "shop.example")
	if _, err := c.Put(t.Context(), "shop.example:rsa", keysource.PEM{Chain: chain, Key: key}); !errors.Is(err,
		keysource.ErrBadCertificate) {
		t.Errorf("an ECDSA certificate is stored as the second one: %v", err)
	}
	if _, err := c.Put(t.Context(), "other.example:rsa", rsaFor("shop.example")); !errors.Is(err,
		keysource.ErrBadCertificate) {
		t.Errorf("another host's certificate is stored: %v", err)
	}
}
