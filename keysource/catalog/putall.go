package catalog

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
	"github.com/lockstep-tls/lockstep/store"
)

// Pair is a certificate that is to be stored under a name.
type Pair struct {
	Name keysource.Name
	keysource.PEM
}

// Stored is a name with the version that it is about to have.
type Stored struct {
	Name    keysource.Name
	Version string
}

// Outcome is the outcome for a Pair.
type Outcome struct {
	Same  bool // the same certificate was there already
	Err   error
	Notes []string // what of the PEM was put in order or left out
	// Warnings say what looks worse than in the certificate that was replaced, or wrong in itself.
	Warnings []string
}

// PutAll does what [Catalog.Put] does, for each pair on its own. It returns the outcomes in the
// order of the pairs. If a name comes twice, the later pair stays. PutAll checks each pair once,
// on all processors. It does not check a pair that is stored already, byte for byte.
// [Config].BeforeAll is called once, with all that change. Its error refuses them all, and is the
// error that PutAll returns.
func (c *Catalog) PutAll(ctx context.Context, pairs []Pair) ([]Outcome, error) {
	out := make([]Outcome, len(pairs))
	keys := make([]string, len(pairs))
	for i, p := range pairs {
		keys[i] = key(p.Name)
	}
	have := store.GetAll(ctx, c.store, keys)
	next := make([]admitted, len(pairs))
	seconds := map[keysource.Name]bool{} // the hosts whose second certificate comes, too
	for _, p := range pairs {
		if p.Name.IsSecond() {
			seconds[p.Name.Host()] = true
		}
	}
	onAllProcessors(len(pairs), func(i int) {
		next[i], out[i] = admitPair(pairs[i], have[i], seconds[pairs[i].Name], time.Now())
	})

	var news []Stored
	var changes []store.Change
	var at []int // the indexes of changes in pairs
	for i, n := range next {
		if n.val == nil {
			continue
		}
		news = append(news, Stored{pairs[i].Name, n.version})
		changes, at = append(changes, store.Change{Key: keys[i], Old: have[i].Rev, Val: n.val}), append(at, i)
	}
	if len(changes) == 0 {
		return out, nil
	}
	if err := c.beforeAll(ctx, news); err != nil {
		return nil, fmt.Errorf("%d certificates were not stored: %w", len(news), err)
	}
	// Second ones make right what would be warned of the first ones.
	first := map[keysource.Name]int{} // the index of the last pair of a host
	for i, p := range pairs {
		if !p.Name.IsSecond() {
			first[p.Name] = i
		}
	}
	for i, p := range pairs {
		if at, ok := first[p.Name.Host()]; ok && p.Name.IsSecond() && out[i].Err == nil {
			out[at].Warnings = renewal.Beside(out[at].Warnings)
		}
	}
	var warnings []warning
	for j, o := range store.SwapAll(ctx, c.store, changes) {
		switch i := at[j]; {
		// Somebody else was first, or the name comes twice.
		case errors.Is(o.Err, store.ErrConflict):
			var stored keysource.Certificate
			stored, out[i].Err = c.Put(ctx, pairs[i].Name, pairs[i].PEM)
			out[i].Warnings = stored.Warnings
		case o.Err != nil:
			out[i].Err = fmt.Errorf("storing the certificate of %s: the outcome is unknown, put it again: %w",
				pairs[i].Name, o.Err)
		default:
			c.problems.note(pairs[i].Name, "")
			c.known.put(pairs[i].Name)
			warnings = append(warnings, warning{pairs[i].Name, next[i].version, out[i].Warnings})
		}
	}
	c.warn(ctx, warnings)
	for _, w := range warnings {
		if _, here := first[w.name.Host()]; !here {
			c.besides(ctx, w.name)
		}
	}
	c.Wake()
	return out, nil
}

// admitPair checks p, and returns what is to be stored. That is zero if the store has it already.
// If the second certificate of the host comes, too, it stands for an RSA one that p replaces.
func admitPair(p Pair, have store.Value, second bool, now time.Time) (admitted, Outcome) {
	if have.Err != nil && !errors.Is(have.Err, store.ErrNotExist) && !errors.Is(have.Err, store.ErrSealed) {
		return admitted{}, Outcome{Err: fmt.Errorf("storing the certificate of %s: %w", p.Name, have.Err)}
	}
	var old keysource.Certificate
	unread := have.Err
	if unread == nil {
		old, unread = decode(p.Name, have.Val)
	}
	if unread == nil && old.PEM.Equal(p.PEM) {
		return admitted{}, Outcome{Same: true}
	}
	c, next, err := admit(p.Name, p.PEM, now)
	if err != nil {
		return admitted{}, Outcome{Err: err}
	}
	switch {
	case unread != nil:
		return next, Outcome{Notes: c.Notes, Warnings: renewal.First(c)}
	case old.Version() == next.version:
		return admitted{}, Outcome{Same: true, Notes: c.Notes}
	}
	v := renewal.Judge(old, c, now)
	if v.Keep != "" {
		return admitted{}, Outcome{Err: kept(p.Name, v)}
	}
	if second && old.Kind() == x509.RSA && c.Kind() == x509.ECDSA {
		v.Warnings = renewal.First(c)
	}
	return next, Outcome{Notes: c.Notes, Warnings: v.Warnings}
}

// onAllProcessors calls f for 0 to n-1 on all processors, and lets other goroutines run after each
// call. Otherwise a goroutine that waits for a processor would wait 10 ms for each of these. A
// rotation that is being written waits several times.
func onAllProcessors(n int, f func(int)) {
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), n)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
}
