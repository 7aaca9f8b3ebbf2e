package double_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/double"
)

// TestTheDoubleAnswersAsTheOriginal plays generated sequences to the double and to a real Envoy.
// After each step it compares the answer, the claims of a node that connects again, and what each
// chain serves: whether it does, which leaf, which key encrypts, which keys decrypt.
//
// LOCKSTEP_DOUBLE_SEQUENCES says how many, LOCKSTEP_DOUBLE_SEED says from which seed on.
func TestTheDoubleAnswersAsTheOriginal(t *testing.T) {
	sequences, first := number(t, "LOCKSTEP_DOUBLE_SEQUENCES", 100), number(t, "LOCKSTEP_DOUBLE_SEED", 1)
	ca := newIssuer(t)
	for i := range sequences {
		seed := uint64(first + i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel() // it mostly waits for Envoy
			p := &play{t: t, ca: ca, seq: generate(t, ca, seed, 40), ctx: within(t, 2*time.Minute)}
			p.run()
		})
	}
}

func number(t *testing.T, name string, or int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return or
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a positive number", name, s)
	}
	return n
}

// play is one sequence at work.
type play struct {
	t    *testing.T
	ctx  context.Context
	ca   *issuer
	seq  *sequence
	real *real
	// models are all states that the double may be in by what was seen: the order in which Envoy
	// takes the secrets of one response is not fixed, so each order is tried and those that explain
	// what the original did are kept.
	models []*double.Envoy
	done   []string
}

func (p *play) run() {
	p.models = []*double.Envoy{p.fresh()}
	p.real = newReal(p.ctx, p.t, p.seq.concurrency, p.seq.chains)
	for _, s := range p.seq.steps {
		p.done = append(p.done, s.what)
		switch {
		case s.restart:
			if err := p.real.Restart(); err != nil {
				p.t.Fatal(err)
			}
			p.models = []*double.Envoy{p.fresh()}
			p.real.connected(p.ctx, p.models[0])
		case s.cut != nil:
			claims := p.real.cut(p.ctx, s.on, s.cut)
			p.keep(fmt.Sprintf("claims %v", claims), func(m *double.Envoy) error {
				if got := m.Claims(s.on, s.cut...); !maps.Equal(got, claims) {
					return fmt.Errorf("claims %v", got)
				}
				return nil
			})
		default:
			p.deliver(s)
		}
		p.look()
	}
}

func (p *play) fresh() *double.Envoy {
	return double.New(double.Config{Chains: p.seq.chains, Refuses: refuses})
}

// deliver gives one response to both, in all orders to the double.
func (p *play) deliver(s step) {
	p.t.Helper()
	words := p.real.deliver(p.ctx, s.on, s.resources, s.removed)
	p.done[len(p.done)-1] += " → " + strconv.Quote(words)
	answers := map[*double.Envoy]string{}
	var next []*double.Envoy
	for _, m := range p.models {
		for _, order := range orders(s.resources) {
			c := m.Clone()
			answers[c] = c.Deliver(s.on, order, s.removed)
			next = append(next, c)
		}
	}
	p.models = next
	p.keep(fmt.Sprintf("answers %q", words), func(m *double.Envoy) error {
		if a := answers[m]; (a == "") != (words == "") || !strings.Contains(words, a) {
			return fmt.Errorf("answers %q", a)
		}
		return nil
	})
}

// look compares what each chain serves.
func (p *play) look() {
	p.t.Helper()
	if p.models[0].Open() { // the workers begin to listen a moment after the answer
		p.await()
	}
	for i := range p.seq.chains {
		l, opens, err := p.see(i)
		if err != nil {
			p.t.Fatalf("chain %d: %v", i, err)
		}
		p.keep(fmt.Sprintf("chain %d: open %t, serves %t, leaf %s, key %x, decrypts %x",
			i, l.open, l.serves, digest(l.leaf), l.key, opens), func(m *double.Envoy) error {
			return p.alike(m, i, l, opens)
		})
	}
	p.distinct()
}

// await waits until the port accepts.
func (p *play) await() {
	p.t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if l, _ := observe(p.ctx, p.real.addr, host(0), p.ca.roots()); l.open {
			return
		}
	}
}

// see makes a full handshake with a chain of the original, and offers it a ticket of each key.
func (p *play) see(i int) (look, []string, error) {
	sni := host(i)
	l, err := observe(p.ctx, p.real.addr, sni, p.ca.roots())
	if err != nil || !l.serves {
		return l, nil, err
	}
	made := p.seq.keys[l.key]
	if made == nil {
		return l, nil, fmt.Errorf("an unknown key %x encrypts", l.key)
	}
	var opens []string
	for name, key := range p.seq.keys {
		ok, err := resumes(p.ctx, p.real.addr, sni, p.ca.roots(), l.session, made, key)
		if err != nil {
			return l, nil, err
		}
		if ok {
			opens = append(opens, name)
		}
	}
	slices.Sort(opens)
	return l, opens, nil
}

// alike says how a model differs from what was seen of a chain.
func (p *play) alike(m *double.Envoy, i int, l look, opens []string) error {
	context := m.Serves(i)
	if m.Open() != l.open || m.Open() && (context != nil) != l.serves {
		return fmt.Errorf("open %t, has a context %t", m.Open(), context != nil)
	}
	if !l.serves {
		return nil
	}
	leaf, _ := pem.Decode(context.Certificate.GetCertificateChain().GetInlineBytes())
	var keys []string
	for _, k := range context.Keys {
		keys = append(keys, string(k[:16]))
	}
	first := keys[0]
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if string(leaf.Bytes) != l.leaf || first != l.key || !slices.Equal(keys, opens) {
		return fmt.Errorf("leaf %s, key %x, decrypts %x", digest(string(leaf.Bytes)), first, keys)
	}
	return nil
}

// keep drops the models that do not explain what was seen, and fails when none does.
func (p *play) keep(seen string, alike func(*double.Envoy) error) {
	p.t.Helper()
	var kept []*double.Envoy
	var why strings.Builder
	for _, m := range p.models {
		if err := alike(m); err != nil {
			fmt.Fprintf(&why, "\n  the double: %v\n    (%s)", err, m)
			continue
		}
		kept = append(kept, m)
	}
	if len(kept) == 0 {
		p.t.Fatalf("%s, concurrency %d, chains %v, steps:\n  %s\n  the original: %s%s",
			p.t.Name(), p.seq.concurrency, p.seq.chains,
			strings.Join(p.done, "\n  "), seen, why.String())
	}
	p.models = kept
}

// distinct drops models that are equal to another one.
func (p *play) distinct() {
	seen := map[string]bool{}
	p.models = slices.DeleteFunc(p.models, func(m *double.Envoy) bool {
		s := m.String()
		defer func() { seen[s] = true }()
		return seen[s]
	})
}

// orders returns all orders of the resources.
func orders(r []double.Resource) [][]double.Resource {
	if len(r) < 2 {
		return [][]double.Resource{r}
	}
	var all [][]double.Resource
	for i := range r {
		for _, rest := range orders(slices.Delete(slices.Clone(r), i, i+1)) {
			all = append(all, append([]double.Resource{r[i]}, rest...))
		}
	}
	return all
}
