package corpus

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// sample is one chain and key, and what it is about.
type sample struct {
	family string // family is the rule that the sample tries
	note   string // note says what was varied
	host   string // host is the name that a client asks for
	chain  []byte // chain is the PEM, leaf first
	key    []byte // key is the PEM
	trust  []byte // trust is the PEM of what its clients trust
	size   int    // size is that of the certificates
}

func (s sample) String() string { return fmt.Sprintf("%s (%s)", s.family, s.note) }

// generator makes the samples of one seed.
type generator struct {
	*rand.Rand
	now    time.Time
	seed   int
	made   int
	root   authority
	inter  authority
	keys   *cache
	family string
	out    []sample
	err    error
}

// cache holds what is slow to make, for all seeds.
type cache struct {
	keys map[string]key
	rsa  map[string]numbers
}

func (c *cache) get(what string, make func() key) key {
	k, ok := c.keys[what]
	if !ok {
		if c.keys == nil {
			c.keys = map[string]key{}
		}
		k = make()
		c.keys[what] = k
	}
	return k
}

func newGenerator(seed int, now time.Time, keys *cache) *generator {
	g := &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 13)), now: now, seed: seed, keys: keys}
	g.root = authority{}.newCA(p256(), fmt.Sprintf("Corpus Root %d", seed), now, nil)
	g.inter = g.root.newCA(p256(), fmt.Sprintf("Corpus CA %d", seed), now, nil)
	return g
}

// seeds makes every family's samples.
func (g *generator) seeds() ([]sample, error) {
	for _, f := range families {
		g.family = f.name
		f.make(g)
		if g.err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, g.err)
		}
	}
	return g.out, nil
}

// next is the name of the next sample's host.
func (g *generator) next() string {
	g.made++
	return fmt.Sprintf("c%d-%03d.corpus.test", g.seed, g.made)
}

// leaf is a usual leaf for host, signed by ca.
func (g *generator) leaf(ca authority, k key, host string) *spec {
	s := ca.spec(k, g.now)
	s.subject = commonName(host)
	s.add(extKeyUsage, yes, usage(0))
	s.add(extEKU, nil, purposes(purposeServer))
	s.add(extAltName, nil, seq(dns(host)))
	return s
}

// add adds a sample whose clients trust the root.
func (g *generator) add(note, host string, k key, ders ...[]byte) *sample {
	size := 0
	for _, d := range ders {
		size += len(d)
	}
	g.out = append(g.out, sample{g.family, note, host, pemOf(ders...), k.pem, pemOf(g.root.der), size})
	return &g.out[len(g.out)-1]
}

// vary adds a usual leaf that edit has changed, below the usual CA.
func (g *generator) vary(note string, edit func(*spec)) *sample {
	return g.under(note, g.inter, p256(), edit, g.inter.der)
}

// withKey adds a usual leaf for k.
func (g *generator) withKey(note string, k key) *sample {
	return g.under(note, g.inter, k, nil, g.inter.der)
}

// under adds a leaf signed by ca, and the certificates above it.
func (g *generator) under(note string, ca authority, k key, edit func(*spec), above ...[]byte) *sample {
	host := g.next()
	s := g.leaf(ca, k, host)
	if edit != nil {
		edit(s)
	}
	return g.add(note, host, k, append([][]byte{s.sign(ca.key)}, above...)...)
}

// below makes a CA below the usual one and adds a leaf of it.
func (g *generator) below(note string, edit func(*spec)) *sample {
	ca := g.inter.newCA(p256(), fmt.Sprintf("Corpus CA %d.%d", g.seed, g.made), g.now, edit)
	return g.under(note, ca, p256(), nil, ca.der, g.inter.der)
}

// named adds a leaf whose host stands in its certificate's subject as edit says.
func (g *generator) named(note string, edit func(s *spec, host string)) *sample {
	host := g.next()
	k := p256()
	s := g.leaf(g.inter, k, host)
	edit(s, host)
	return g.add(note, host, k, s.sign(g.inter.key), g.inter.der)
}

// pick returns one of them.
func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// some returns a few of them, at least one.
func some[T any](g *generator, of ...T) []T {
	g.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	return of[:1+g.IntN(len(of))]
}

func words(v any) string { return strings.Trim(fmt.Sprint(v), "[]") }
