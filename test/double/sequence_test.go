package double_test

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lockstep-tls/lockstep/test/double"
)

// step is one thing that happens to an Envoy.
type step struct {
	what      string
	on        double.Stream
	resources []double.Resource // together with removed, one response
	removed   []string
	cut       []string // the stream that asked for these names ends, and the node connects again
	restart   bool     // the process is killed and started again
}

// sequence is what is played to the double and to the original.
type sequence struct {
	chains      []double.Chain
	concurrency int
	steps       []step
	keys        map[string][]byte // all ticket keys, by their names
}

// generator makes a sequence. The same seed makes the same one, but for the bytes of keys and
// certificates.
type generator struct {
	t     testing.TB
	rnd   *rand.Rand
	ca    *issuer
	seq   *sequence
	n     int               // of versions
	sent  map[string][]byte // the last bytes that were sent, by name
	certs map[string]*x509.Certificate
	rings map[string][][]byte
	late  string // the one name that is not sent in the first steps; "" if there is none
}

// generate makes the sequence of a seed.
func generate(t testing.TB, ca *issuer, seed uint64, length int) *sequence {
	g := &generator{
		t: t, rnd: rand.New(rand.NewPCG(seed, 13)), ca: ca, seq: &sequence{keys: map[string][]byte{}},
		sent: map[string][]byte{}, certs: map[string]*x509.Certificate{}, rings: map[string][][]byte{},
	}
	g.seq.concurrency = 1 + g.rnd.IntN(2)
	g.layout()
	if g.rnd.IntN(2) == 0 { // else the start is left to chance, too
		g.fill()
	} else if g.rnd.IntN(3) > 0 {
		names := g.ringNames()
		if len(names) == 1 || g.rnd.IntN(2) == 0 {
			names = append(names, g.certificates()...)
		}
		g.late = pick(g.rnd, names)
	}
	for len(g.seq.steps) < length {
		g.step()
	}
	return g.seq
}

// layout chooses the chains: most have a certificate of their own and one ring; some share a
// certificate.
func (g *generator) layout() {
	names := []string{"a", "b", "c", "d"}
	if g.rnd.IntN(2) == 0 {
		slices.Reverse(names)
	}
	for i := range 2 + g.rnd.IntN(3) {
		c := double.Chain{Certificate: names[i], Ring: "ring"}
		if i > 0 && g.rnd.IntN(6) == 0 {
			c.Certificate = g.seq.chains[0].Certificate
		}
		if g.rnd.IntN(4) == 0 {
			c.Ring = "other"
		}
		g.seq.chains = append(g.seq.chains, c)
	}
}

func (g *generator) certificates() []string {
	var names []string
	for _, c := range g.seq.chains {
		names = append(names, c.Certificate)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (g *generator) ringNames() []string {
	var names []string
	for _, c := range g.seq.chains {
		names = append(names, c.Ring)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// fill sends a good secret of each name, in any order.
func (g *generator) fill() {
	var steps []func()
	for _, name := range g.certificates() {
		steps = append(steps, func() { g.send(double.ADS, g.fresh(name, good)) })
	}
	for _, name := range g.ringNames() {
		steps = append(steps, func() { g.send(double.SDS, g.rotate(name)) })
	}
	g.rnd.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	for _, s := range steps {
		s()
	}
}

// without leaves the late name out.
func (g *generator) without(names []string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return n == g.late })
}

func (g *generator) step() {
	if len(g.seq.steps) == 15 {
		g.late = ""
	}
	certificates, rings := g.without(g.certificates()), g.without(g.ringNames())
	switch n := g.rnd.IntN(100); {
	case len(rings) > 0 && (n < 25 || len(certificates) == 0):
		g.send(double.SDS, g.anyRing(pick(g.rnd, rings)))
	case n < 70:
		g.send(double.ADS, g.anyCertificate(pick(g.rnd, certificates)))
	case n < 84: // several certificates in one response, and perhaps a removal
		names := slices.Clone(certificates)
		g.rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		names = names[:min(len(names), 2+g.rnd.IntN(3))]
		var removed []string
		if len(names) > 1 && g.rnd.IntN(4) == 0 {
			removed, names = names[:1], names[1:]
		}
		var offers []offer
		for _, name := range names {
			offers = append(offers, g.anyCertificate(name))
		}
		g.send(double.ADS, offers...)
		g.seq.steps[len(g.seq.steps)-1].removed = removed
	case n < 89:
		name := pick(g.rnd, certificates)
		g.add(step{what: "remove " + name, on: double.ADS, removed: []string{name}})
	case n < 90 && len(rings) > 0:
		name := pick(g.rnd, rings)
		g.add(step{what: "remove " + name, on: double.SDS, removed: []string{name}})
	case n < 97:
		s := step{on: double.ADS, cut: g.certificates()}
		if g.rnd.IntN(2) == 0 {
			s = step{on: double.SDS, cut: []string{pick(g.rnd, g.ringNames())}}
		}
		s.what = fmt.Sprintf("cut the stream of %v", s.cut)
		g.add(s)
	default:
		g.add(step{what: "restart", restart: true})
	}
}

func (g *generator) add(s step) { g.seq.steps = append(g.seq.steps, s) }

// offer is a secret that may be sent.
type offer struct {
	what, name string
	bytes      []byte
}

func (g *generator) send(on double.Stream, offers ...offer) {
	s := step{on: on}
	for _, o := range offers {
		g.n++
		version := fmt.Sprint("v", g.n)
		if s.what != "" {
			s.what += ", "
		}
		s.what += o.what + " as " + version
		s.resources = append(s.resources, double.Resource{Name: o.name, Version: version, Secret: o.bytes})
		g.sent[o.name] = o.bytes
	}
	g.add(s)
}

func (g *generator) anyCertificate(name string) offer {
	switch n := g.rnd.IntN(14); {
	case n == 12:
		return offer{"half of " + name, name, g.ca.half(name, g.rnd.IntN(2) == 0)}
	case n == 13 && g.rnd.IntN(2) == 0:
		return offer{"a ring in place of " + name, name, ring(g.t, name, g.newKey())}
	case n == 13:
		return offer{"another name in place of " + name, name, g.ca.certificate("x", g.ca.issue("*.example", good), "")}
	case n < 4:
		return g.fresh(name, good)
	case n < 6:
		return g.fresh(name, needsStaple)
	case n < 7:
		return g.fresh(name, keyAgreement)
	case n < 9 && g.sent[name] != nil:
		return offer{"the same " + name, name, g.sent[name]}
	case n < 11 && g.certs[name] != nil: // the last good one, which heals
		return offer{"the last good " + name, name, g.ca.certificate(name, g.certs[name], "")}
	case g.certs[name] != nil:
		return offer{
			"a variant of " + name, name, g.ca.certificate(name, g.certs[name], fmt.Sprintf("variant %d\n", g.n)),
		}
	default:
		return g.fresh(name, good)
	}
}

func (g *generator) fresh(name string, f flaw) offer {
	c := g.ca.issue("*.example", f)
	if f == good {
		g.certs[name] = c
	}
	return offer{fmt.Sprintf("%s %s", f, name), name, g.ca.certificate(name, c, "")}
}

func (g *generator) anyRing(name string) offer {
	keys := g.rings[name]
	switch n := g.rnd.IntN(24); {
	case n == 22:
		return offer{
			"a certificate in place of " + name, name, g.ca.certificate(name, g.ca.issue("*.example", good), ""),
		}
	case n == 23:
		return offer{"no keys in " + name, name, ring(g.t, name)}
	case n < 10 || len(keys) == 0:
		return g.rotate(name)
	case n < 14:
		return offer{"the same " + name, name, g.sent[name]}
	case n < 17:
		return offer{"a variant of " + name, name, ring(g.t, name, append(slices.Clone(keys), keys[0])...)}
	case n < 19:
		g.rings[name] = [][]byte{g.newKey()}
		return offer{"a burn of " + name, name, ring(g.t, name, g.rings[name]...)}
	case n < 21:
		return offer{"79 bytes in " + name, name, ring(g.t, name, append(slices.Clone(keys), make([]byte, 79))...)}
	default:
		return offer{"the last " + name, name, ring(g.t, name, keys...)}
	}
}

// rotate does the next step of a rotation: appends a key, puts the last one first, or drops the
// last one.
func (g *generator) rotate(name string) offer {
	keys := slices.Clone(g.rings[name])
	what := "appended to "
	switch n := len(keys); {
	case n < 2 || n < 4 && g.rnd.IntN(3) == 0:
		keys = append(keys, g.newKey())
	case g.rnd.IntN(2) == 0:
		what = "promoted in "
		keys = slices.Insert(keys[:n-1], 0, keys[n-1])
	default:
		what = "dropped from "
		keys = keys[:n-1]
	}
	g.rings[name] = keys
	return offer{what + name, name, ring(g.t, name, keys...)}
}

func (g *generator) newKey() []byte {
	k := newKey()
	g.seq.keys[string(k[:16])] = k
	return k
}
