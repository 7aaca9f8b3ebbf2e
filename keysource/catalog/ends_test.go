package catalog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/internal/expiry"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/bolt"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/store/memory"
)

// names of what is kept.
func names(all []expiry.Named) (out []string) {
	for _, n := range all {
		out = append(out, n.Name)
	}
	return out
}

func TestTheNearestEndsAreKnownThoughNobodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ca, key := &faulty{Store: memory.New()}, testca.New(t), testca.Key(t)
		writer := New(Config{Store: s.Store}) // another replica
		keep := func(n string, left time.Duration) {
			t.Helper()
			crt, k := ca.IssueFor(t, key, time.Now().Add(left), n)
			_, err := writer.Put(t.Context(), keysource.Name(n), keysource.PEM{Chain: crt, Key: k})
			check(t, err)
		}
		const day = 24 * time.Hour
		keep("far.example", 300*day)
		keep("soon.example", 3*day)
		keep("*.later.example", 20*day)
		plant(t, s.Store, "cert/broken.example", []byte("junk"))
		plant(t, s.Store, "cert/=ZZ", []byte("badly escaped"))

		reader := New(Config{Store: store.OneByOne(s)})
		if e := reader.Ends(); len(e.Soonest) != 0 || !e.KnownAt.IsZero() {
			t.Errorf("before Run: %+v", e)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- reader.Run(ctx) }()
		expect := func(when string, soonest, late []string) {
			t.Helper()
			synctest.Wait()
			e := reader.Ends()
			if !slices.Equal(names(e.Soonest), soonest) || !slices.Equal(names(e.Late), late) || e.KnownAt.IsZero() {
				t.Errorf("%s: soonest %v, want %v; late %v, want %v; known at %s", when,
					names(e.Soonest), soonest, names(e.Late), late, e.KnownAt)
			}
		}
		time.Sleep(time.Second)
		expect("at the start", []string{"soon.example", "*.later.example", "far.example"},
			[]string{"soon.example", "*.later.example"})
		if bad := reader.BadEntries(); len(bad) != 1 || bad[0].Name != "broken.example" {
			t.Errorf("what cannot be read is named: %+v", bad)
		}

		keep("soon.example", 400*day) // renewed
		keep("new.example", time.Hour)
		time.Sleep(10 * time.Second)
		expect("after changes of another replica",
			[]string{"new.example", "*.later.example", "far.example", "soon.example"},
			[]string{"new.example", "*.later.example"})
		check(t, writer.Remove(t.Context(), "new.example"))
		time.Sleep(10 * time.Second)
		expect("after a removal", []string{"*.later.example", "far.example", "soon.example"},
			[]string{"*.later.example"})
		time.Sleep(21 * day)
		expect("time passes, and nothing else", []string{"*.later.example", "far.example", "soon.example"},
			[]string{"*.later.example"})

		s.mu.Lock()
		s.changed = []error{errLost}
		s.mu.Unlock()
		time.Sleep(10 * time.Second)
		expect("the store was lost, and read again", []string{"*.later.example", "far.example", "soon.example"},
			[]string{"*.later.example"})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

var errLost = fmt.Errorf("it is empty: %w", store.ErrLost)

// What is kept of many certificates does not grow, and is that which matters.
func TestOfManyCertificatesOnlyTheNearestEndsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		writer := New(Config{Store: s})
		ca, key := testca.New(t), testca.Key(t)
		const n = 3000
		var pairs []Pair
		for i := range n {
			name := fmt.Sprintf("h%04d.example", i)
			crt, k := ca.IssueFor(t, key, time.Now().Add(time.Duration(i+1)*time.Hour), name)
			pairs = append(pairs, Pair{keysource.Name(name), keysource.PEM{Chain: crt, Key: k}})
		}
		put := func(pairs []Pair) {
			t.Helper()
			out, err := writer.PutAll(t.Context(), pairs)
			check(t, err)
			for _, o := range out {
				check(t, o.Err)
			}
		}
		put(pairs)
		c := New(Config{Store: s})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		until := func(first string) {
			t.Helper()
			for range 100 {
				time.Sleep(time.Minute)
				synctest.Wait()
				if e := c.Ends(); !e.KnownAt.IsZero() && len(e.Soonest) > 0 && e.Soonest[0].Name == first {
					return
				}
			}
			t.Errorf("%s does not come first: %v", first, names(c.Ends().Soonest))
		}
		until("h0000.example")
		if e := c.Ends(); e.Soonest[maxEnds-1].Name != fmt.Sprintf("h%04d.example", maxEnds-1) ||
			len(e.Late) > maxEnds || len(c.ends.now.late.All()) != maxEnds || len(c.ends.changed) != 0 {
			t.Errorf("%d soonest, %d late, %d wait", len(e.Soonest), len(e.Late), len(c.ends.changed))
		}
		// All that are known are renewed. So the next ones are looked for.
		for i := range maxEnds {
			name := string(pairs[i].Name)
			crt, k := ca.IssueFor(t, key, time.Now().Add(90*24*time.Hour*10), name)
			pairs[i].PEM = keysource.PEM{Chain: crt, Key: k}
		}
		put(pairs[:maxEnds])
		until(fmt.Sprintf("h%04d.example", maxEnds))
		cancel()
		check(t, <-done)
	})
}

func TestAStoreThatCannotBeReadIsReadOnceItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &faulty{Store: memory.New()}
		put(t, New(Config{Store: s.Store}), testca.New(t), "shop.example")
		s.get = slices.Repeat([]error{errors.New("away")}, 3)
		c := New(Config{Store: store.OneByOne(s)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		if e := c.Ends(); len(e.Soonest) != 0 || !e.KnownAt.IsZero() {
			t.Errorf("%+v", e)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if e := c.Ends(); len(e.Soonest) != 1 || e.KnownAt.IsZero() {
			t.Errorf("%+v", e)
		}
		cancel()
		check(t, <-done)
	})
}

// BenchmarkReadAllEnds is how long the whole store is read, of which a tenth is work. ENDS=100000
// sets the number of certificates. The store is a file, and sealed.
func BenchmarkReadAllEnds(b *testing.B) {
	n, _ := strconv.Atoi(os.Getenv("ENDS"))
	n = max(n, 1000)
	db, err := bolt.Open(b.TempDir() + "/store.db")
	check(b, err)
	defer db.Close()
	c := New(Config{Store: guard.Sealed(db, prefixSealer{})})
	ca, key := testca.New(b), testca.Key(b)
	for at := 0; at < n; at += 1000 {
		var pairs []Pair
		for i := at; i < min(at+1000, n); i++ {
			name := fmt.Sprintf("h%07d.example", i)
			crt, k := ca.IssueFor(b, key, time.Now().Add(time.Duration(i%2000+1)*time.Hour), name)
			pairs = append(pairs, Pair{keysource.Name(name), keysource.PEM{Chain: crt, Key: k}})
		}
		_, err := c.PutAll(b.Context(), pairs)
		check(b, err)
	}
	b.ResetTimer()
	for range b.N {
		c.ends.again = true
		c.ends.begin(time.Now())
		check(b, c.readAllEnds(b.Context()))
		c.ends.end(time.Now(), nil)
	}
	b.ReportMetric(float64(n), "certificates")
}
