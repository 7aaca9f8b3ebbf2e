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
	// look-ups in vain within a minute that mean that somebody tries out names
	knownAfter = 2000
	knownFor   = 10 * time.Minute // time without a look-up in vain that means that this is over
	// knownStale is how many refreshes may pass without a look at what changed. Then the store
	// must be asked again.
	knownStale = 3
)

// knownNames says which names are not in the store, without asking the store. It is learnt when
// clients send many names that are not there, since each would cost a read otherwise. It is
// forgotten when they stop. It keeps a hash of 8 bytes for each name. A hash may belong to a name
// that was removed, or to another name: then the store is asked.
//
// knownNames is as right as the last look at what changed, and knows nothing once that is too long
// ago.
type knownNames struct {
	refresh time.Duration
	seed    maphash.Seed
	learn   chan struct{} // capacity 1; ready when the names should be learnt
	reads   atomic.Uint64

	mu       sync.Mutex
	misses   int // look-ups in vain since minute
	minute   time.Time
	used     time.Time // when it last answered a look-up
	looked   time.Time // when it was last looked at what changed
	learning bool
	// discard reports that the names being learnt may be of a store that is gone.
	discard bool
	hashes  []uint64 // sorted; nil if nothing is known
	// fresh holds the names put since the hashes were learnt, or while they are.
	fresh map[uint64]struct{}
}

func newKnownNames(refresh time.Duration) *knownNames {
	return &knownNames{refresh: refresh, seed: maphash.MakeSeed(), learn: make(chan struct{}, 1)}
}

func (k *knownNames) hash(n keysource.Name) uint64 { return maphash.String(k.seed, string(n)) }

// lacks reports whether n is certainly not in the store.
func (k *knownNames) lacks(n keysource.Name) bool {
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
func (k *knownNames) missed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.minute) > time.Minute {
		k.minute, k.misses = now, 0
	}
	if k.misses++; k.misses < knownAfter || k.learning || k.hashes != nil {
		return
	}
	k.misses = 0
	select {
	case k.learn <- struct{}{}:
	default:
	}
}

// put notes that n is there. So whoever put it finds it, although no look at what changed has seen
// it.
func (k *knownNames) put(n keysource.Name) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fresh != nil {
		k.fresh[k.hash(n)] = struct{}{}
	}
}

// changed takes the names that a look at what changed found. The goroutine that looks calls it.
func (k *knownNames) changed(names []keysource.Name) {
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

// forget forgets everything: the store may have nothing in common with what it was.
func (k *knownNames) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hashes, k.looked = nil, time.Time{}
	if k.discard = k.learning; !k.learning {
		k.fresh = nil // otherwise every name that is put would stay in it for ever
	}
}

// startLearning keeps changes from now on, for learnFrom to add. It is called between two looks at
// what changed, so that no change is missed.
func (k *knownNames) startLearning() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.learning, k.discard, k.fresh = true, false, map[uint64]struct{}{}
}

// learnFrom reads all names from the store. It may take seconds.
func (k *knownNames) learnFrom(ctx context.Context, s store.Store) error {
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
	if err != nil || k.discard {
		k.fresh = nil
		return err
	}
	k.hashes, k.used = hashes, time.Now()
	return nil
}

// Reads counts the certificates that were read from the store.
func (c *Catalog) Reads() uint64 { return c.known.reads.Load() }
