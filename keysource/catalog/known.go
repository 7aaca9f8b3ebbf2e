package catalog

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

const (
	knownAfter = 2000             // look-ups in vain within a minute: somebody tries names out
	knownFor   = 10 * time.Minute // without a look-up in vain: it is over
	knownStale = 3                // refreshes without a look at what changed: the store must be asked again
)

// known says which names are not in the store without asking it. It is learnt (8 bytes a name) when clients send many names that are not there, since each
// would else be a read; and forgotten when they stop. A hash that it has may be a name that was removed, or another's: then the store is asked.
//
// It is as right as the last look at what changed, and knows nothing once that is too long ago.
type known struct {
	refresh time.Duration
	seed    maphash.Seed
	learn   chan struct{} // capacity 1: it is time to
	reads   atomic.Uint64

	mu       sync.Mutex
	vain     int // look-ups since minute
	minute   time.Time
	used     time.Time // the last look-up that it answered
	looked   time.Time // the last look at what changed
	learning bool
	spoilt   bool                // what is being learnt may be of a store that is no more
	hashes   []uint64            // sorted; nil: nothing is known
	fresh    map[uint64]struct{} // since it was learnt, or while it is
}

func newKnown(refresh time.Duration) *known {
	return &known{refresh: refresh, seed: maphash.MakeSeed(), learn: make(chan struct{}, 1)}
}

func (k *known) hash(n keysource.Name) uint64 { return maphash.String(k.seed, string(n)) }

// lacks reports whether n is certainly not in the store.
func (k *known) lacks(n keysource.Name) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if k.hashes == nil || now.Sub(k.looked) > knownStale*k.refresh {
		return false
	}
	h := k.hash(n)
	if _, ok := k.fresh[h]; ok {
		return false
	}
	if _, ok := slices.BinarySearch(k.hashes, h); ok {
		return false
	}
	k.used = now
	return true
}

// missed notes that the store was asked in vain.
func (k *known) missed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.minute) > time.Minute {
		k.minute, k.vain = now, 0
	}
	if k.vain++; k.vain < knownAfter || k.learning || k.hashes != nil {
		return
	}
	k.vain = 0
	select {
	case k.learn <- struct{}{}:
	default:
	}
}

// put notes that n is there: who put it finds it, although no look has.
func (k *known) put(n keysource.Name) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fresh != nil {
		k.fresh[k.hash(n)] = struct{}{}
	}
}

// changed takes what a look found. It is called by the goroutine that looks.
func (k *known) changed(names []keysource.Name) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.looked = time.Now()
	if k.hashes != nil && k.looked.Sub(k.used) > knownFor {
		k.hashes, k.fresh = nil, nil
	}
	if k.hashes == nil && !k.learning {
		return
	}
	for _, n := range names {
		k.fresh[k.hash(n)] = struct{}{}
	}
	if !k.learning && len(k.fresh) > len(k.hashes)/4+1024 {
		for h := range k.fresh {
			k.hashes = append(k.hashes, h)
		}
		slices.Sort(k.hashes)
		k.hashes, k.fresh = slices.Compact(k.hashes), map[uint64]struct{}{}
	}
}

// lost: what is in the store may have nothing to do any more with what was.
func (k *known) lost() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hashes, k.looked = nil, time.Time{}
	if k.spoilt = k.learning; !k.learning {
		k.fresh = nil // else every name that is put would stay in it for ever
	}
}

// begin has changes kept from now on, for read to add. It is called between two looks, so that none falls between.
func (k *known) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.learning, k.spoilt, k.fresh = true, false, map[uint64]struct{}{}
}

// read learns the names. It may take seconds.
func (k *known) read(ctx context.Context, s store.Store) error {
	hashes := []uint64{}
	var err error
	for key, e := range s.Keys(ctx, prefix) {
		if err = e; err != nil {
			break
		}
		if name, err := store.Segment(key); err == nil {
			hashes = append(hashes, k.hash(keysource.Name(name)))
		}
	}
	slices.Sort(hashes)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.learning = false
	if err != nil || k.spoilt {
		k.fresh = nil
		return err
	}
	k.hashes, k.used = hashes, time.Now()
	return nil
}

// Reads counts the certificates that were asked of the store.
func (c *Catalog) Reads() uint64 { return c.known.reads.Load() }
