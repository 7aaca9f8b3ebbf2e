package e2e

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/traffic"
)

const (
	sprayed  = 100_000 // names a spray
	firstOf  = 2000    // after which nothing grows
	compared = 10_000  // names while which times are compared
	attempts = 8       // of a comparison: other tests share the two cores
	sprayers = 6

	// flat is what a process that holds no name more may grow by, in bytes: 98 000 names of 25
	// bytes that leave anything at all take more. A Go map's entry of such a name is 100 bytes, and
	// twice that before its garbage is collected.
	flat = 10 << 20
	// hostInEnvoy is what a certificate that Envoy fetched takes there, in bytes (26 KB were
	// measured): cold hosts are served meanwhile.
	hostInEnvoy = 26 << 10
)

// TestSpraysOfNames: somebody sends names from many addresses. They are refused at once, and cost
// neither memory, nor reads of the store, nor those that know a name much.
func TestSpraysOfNames(t *testing.T) {
	s := demand(t)
	s.ctx = context.WithoutCancel(s.ctx) // three sprays take longer than a test normally may
	cold := s.manyHosts(4000)            // three sprays with all their comparisons take 2800
	known := []string{"known-0.example", "known-1.example", "known-2.example"}
	for _, n := range known {
		s.renew(n)
	}
	s.writePair("*.wild.example", s.issue("*.wild.example"))
	known = append(known, "known.wild.example") // gives way to strangers, and comes back
	s.writePair("spelled-shop-of-many.example", s.issue("spelled-shop-of-many.example"))
	e := s.onDemand("edge-1", false)
	s.awaitReady()
	for _, n := range append(known, cold[0]) {
		s.eventually(func() error { _, err := s.fullHandshake(s.ctx, e, n); return err })
	}
	cold = cold[1:]
	for _, c := range []struct {
		what  string
		name  func(i int) string
		taken int // at most
		reads float64
	}{
		{"unknown names", func(i int) string {
			if i%2 == 0 {
				return fmt.Sprintf("u%06d.nowhere.example", i)
			}
			return fmt.Sprintf("www.u%06d.example", i)
		}, 0, 2 * firstOf},
		{"names under one wildcard", func(i int) string { return fmt.Sprintf("u%06d.wild.example", i) }, 1050, 100},
		{"spellings of one name", func(i int) string { return spelling("spelled-shop-of-many.example", i) }, 2, 100},
	} {
		t.Run(c.what, func(t *testing.T) {
			sub := *s
			sub.t = t
			sub.spray(e, c.name, c.taken, c.reads, known, &cold)
		})
	}
}

// spelling writes the i-th of the letters of a name large.
func spelling(name string, i int) string {
	b, bit := []byte(name), 0
	for j, c := range b {
		if c >= 'a' && c <= 'z' {
			if (i+1)>>bit&1 == 1 {
				b[j] -= 'a' - 'A'
			}
			bit++
		}
	}
	return string(b)
}

// spraying is one spray and what those who know a name notice of it.
type spraying struct {
	*stage
	e     *envoy
	name  func(i int) string
	known []string
	cold  *[]string // hosts that are there and nobody has asked for yet

	next           int // name to send
	refused, taken int
	silent         atomic.Int64
	visited        int // cold hosts
	// resident memory of Envoy and of lockstepd in the last heat, in bytes
	least               [2]int64
	slowest             time.Duration // refusal
	coldest, knownWorst time.Duration
}

// heat is what a part of a spray, and the quiet moment before it, showed: p99s.
type heat struct{ refused, known, idle, cold time.Duration }

func (h heat) String() string {
	return fmt.Sprintf("p99 of refusals %s, of known hosts %s, idle %s, of cold hosts %s",
		h.refused, h.known, h.idle, h.cold)
}

func (h heat) holds() bool {
	return h.refused <= 50*time.Millisecond && h.known <= 3*h.idle && h.cold <= 200*time.Millisecond
}

// spray sends all names, and holds what they cost against what they may. Times are taken when half
// are gone, so that all that grows with names has grown, and against the idle node just before. A
// comparison that a busy machine spoilt is made again.
func (s *stage) spray(e *envoy, name func(int) string, mayTake int, mayRead float64, known []string, cold *[]string) {
	t := s.t
	p := &spraying{stage: s, e: e, name: name, known: known, cold: cold}
	reads, evicted, began := s.reads(), s.metric("lockstep_xds_evicted_total"), time.Now()
	p.heat(firstOf)
	early, taken := p.memory(), p.taken
	p.visited = 0
	p.heat(sprayed/2 - firstOf)
	var words []string
	for held := false; !held && len(words) < attempts; {
		idle := s.warm(s.ctx, e, known, time.Second)
		h := p.heat(compared)
		h.idle = quantile(idle, 0.99)
		words = append(words, h.String())
		held = h.holds()
		if !held && len(words) == attempts {
			t.Errorf("%d times: %s", attempts, strings.Join(words, "; "))
		}
	}
	if rest := sprayed - compared - p.next; rest > 0 {
		p.heat(rest)
	}
	p.heat(compared)
	reads = s.reads() - reads
	t.Logf("%d names in %.1f s: %d refused, %d taken; store reads %.0f; %s",
		p.next, time.Since(began).Seconds(), p.refused, p.taken, reads, strings.Join(words, "; then "))
	t.Logf("in all of it the p99 was at most: refusals %s, known hosts %s, cold hosts %s",
		p.slowest, p.knownWorst, p.coldest)
	t.Logf("memory after the first %d and at the end: "+
		"Envoy %d and %d MB, with %d cold hosts more, lockstepd %d and %d MB",
		firstOf, early[0]>>20, p.least[0]>>20, p.visited, early[1]>>20, p.least[1]>>20)
	if p.refused+p.taken != p.next {
		t.Errorf("%d of %d names were neither refused nor taken", p.next-p.refused-p.taken, p.next)
	}
	evicted = s.metric("lockstep_xds_evicted_total") - evicted
	if most := 50*time.Since(began).Seconds() + 50; evicted > most {
		t.Errorf("%.0f names were evicted, at most %.0f may be", evicted, most)
	}
	t.Logf("%.0f names under a full wildcard gave way to others", evicted)
	if mayTake += int(evicted); p.taken > mayTake {
		t.Errorf("%d names were taken, at most %d may be", p.taken, mayTake)
	}
	if reads > mayRead {
		t.Errorf("%.0f reads of the store for %d names, at most %.0f", reads, p.next, mayRead)
	}
	if grown := p.least[0] - early[0] - (int64(p.visited+p.taken-taken)-int64(evicted))*hostInEnvoy; grown > flat {
		t.Errorf("Envoy has grown by %d MB beyond the hosts that it was given", grown>>20)
	}
	if grown := p.least[1] - early[1]; grown > flat {
		t.Errorf("lockstepd has grown by %d MB", grown>>20)
	}
}

func (p *spraying) memory() [2]int64 { return [2]int64{rss(p.t, p.e.PID()), rss(p.t, p.plane.PID())} }

// heat sends so many names, while others come for hosts that the node has and for such as it has
// not.
func (p *spraying) heat(count int) (h heat) {
	t := p.t
	ctx, stop := context.WithCancel(p.ctx)
	defer stop()
	var (
		k                    traffic.Knocker
		next, taken          atomic.Int64
		group, others        sync.WaitGroup
		mu                   sync.Mutex
		refused, busy, first []time.Duration
	)
	from := p.next
	p.next += count
	p.least = [2]int64{math.MaxInt64, math.MaxInt64}
	for range sprayers {
		group.Go(func() {
			var mine []time.Duration
			for i := int(next.Add(1) - 1); i < count; i = int(next.Add(1) - 1) {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				source := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(256), 1+rand.IntN(250))
				asked := time.Now()
				switch a, err := k.Knock(ctx, p.e.addr, source, p.name(from+i)); a {
				case traffic.Closed:
					mine = append(mine, time.Since(asked))
				case traffic.Taken:
					taken.Add(1)
				default:
					if p.silent.Add(1) < 5 {
						t.Error(err)
					}
				}
				cancel()
			}
			mu.Lock()
			refused = append(refused, mine...)
			mu.Unlock()
		})
	}
	others.Go(func() { busy = p.warm(ctx, p.e, p.known, time.Hour) })
	others.Go(func() {
		for ctx.Err() == nil && len(first) < count/150 { // a slow machine has no more of them
			asked := time.Now()
			if _, err := p.fullHandshake(p.ctx, p.e, (*p.cold)[0]); err != nil {
				t.Error(err)
			}
			first = append(first, time.Since(asked))
			*p.cold = (*p.cold)[1:]
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	others.Go(func() {
		for ctx.Err() == nil {
			now := p.memory()
			p.least = [2]int64{min(p.least[0], now[0]), min(p.least[1], now[1])}
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	group.Wait()
	stop()
	others.Wait()
	p.refused += len(refused)
	p.taken += int(taken.Load())
	p.visited += len(first)
	h = heat{refused: quantile(refused, 0.99), known: quantile(busy, 0.99), cold: quantile(first, 0.99)}
	p.slowest, p.knownWorst, p.coldest = max(p.slowest, h.refused), max(p.knownWorst, h.known), max(p.coldest, h.cold)
	return h
}

// warm makes handshakes with hosts that the node has, one after the other, and returns how long
// each took.
func (s *stage) warm(ctx context.Context, e *envoy, hosts []string, d time.Duration) (all []time.Duration) {
	for began := time.Now(); ctx.Err() == nil && time.Since(began) < d; {
		asked := time.Now()
		if _, err := s.fullHandshake(s.ctx, e, hosts[len(all)%len(hosts)]); err != nil {
			s.t.Error(err)
		}
		all = append(all, time.Since(asked))
		time.Sleep(5 * time.Millisecond)
	}
	return all
}

func (s *stage) reads() float64 { s.t.Helper(); return s.metric("lockstep_certificate_reads_total") }

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)].Round(10 * time.Microsecond)
}

// rss is a process's resident memory in bytes.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if kb, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(kb, "kB")), 10, 64)
			if err != nil {
				t.Error(err)
			}
			return n << 10
		}
	}
	t.Errorf("process %d has no resident memory", pid)
	return 0
}
