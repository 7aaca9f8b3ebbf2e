package double_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	// in the listener
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/test/double"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// The tests of this file show what an Envoy does that gets its listener from the control plane, or
// is cured. No model is involved.

// bench is an Envoy with what a test needs to say in one line what is sent and what must be seen.
type bench struct {
	*real
	t       *testing.T
	ctx     context.Context
	ca      *issuer
	version int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	t.Parallel() // it mostly waits for Envoy
	return &bench{t: t, ctx: within(t, 2*time.Minute), ca: newIssuer(t)}
}

// static starts an Envoy with chains, each of a certificate and the ring "ring".
func (b *bench) static(certificates ...string) {
	b.t.Helper()
	b.real = newReal(b.ctx, b.t, 1, chainsOf(certificates))
}

func chainsOf(certificates []string) (chains []double.Chain) {
	for _, c := range certificates {
		chains = append(chains, double.Chain{Certificate: c, Ring: "ring"})
	}
	return chains
}

// says sends one secret and checks the answer.
func (b *bench) says(want string, on double.Stream, name string, secret []byte) {
	b.t.Helper()
	b.version++
	if got := b.deliver(b.ctx, on,
		[]double.Resource{{Name: name, Version: fmt.Sprint(b.version), Secret: secret}}, nil); got != want {
		b.t.Fatalf("%s was answered with %q, want %q", name, got, want)
	}
}

func (b *bench) certificate(want, name string, f flaw) []byte {
	b.t.Helper()
	secret := b.ca.certificate(name, b.ca.issue("*.example", f), "")
	b.says(want, double.ADS, name, secret)
	return secret
}

// ring sends a ring of one new key, and returns it.
func (b *bench) ring(want string) []byte {
	b.t.Helper()
	k := newKey()
	b.says(want, double.SDS, "ring", ring(b.t, "ring", k))
	return k
}

// removed sends a removal.
func (b *bench) removed(on double.Stream, name string) {
	b.t.Helper()
	if words := b.deliver(b.ctx, on, nil, []string{name}); words != "" {
		b.t.Fatalf("a removal of %s was answered with %q", name, words)
	}
}

// encrypts checks that a chain serves and encrypts tickets with a key; nil: that it resets its
// clients.
func (b *bench) encrypts(chain int, key []byte) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Second)
	defer cancel()
	err := fleet.Until(ctx, func() error {
		l, err := observe(b.ctx, b.addr, host(chain), nil)
		if err != nil || !l.open || l.serves != (key != nil) || key != nil && l.key != string(key[:16]) {
			return fmt.Errorf("chain %d: open %t, serves %t, key %x, %v; want key %.16x",
				chain, l.open, l.serves, l.key, err, key)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// closed checks that the port does not accept.
func (b *bench) closed() {
	b.t.Helper()
	time.Sleep(300 * time.Millisecond) // a port that is about to open has the time
	if l, err := observe(b.ctx, b.addr, host(0), nil); err != nil || l.open {
		b.t.Fatalf("the port is open (%v)", err)
	}
}

// TestAPlaceholderHealsTheOtherHosts shows that a self-signed certificate in place of a refused one
// lets the ring through, whether the host had a good certificate before or not. The ring must then
// be sent as bytes that differ.
func TestAPlaceholderHealsTheOtherHosts(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("first=%t", first), func(t *testing.T) {
			b := newBench(t)
			b.static("bad", "fine")
			one := b.ring("")
			b.certificate("", "fine", good)
			if !first {
				b.certificate("", "bad", good)
			}
			b.certificate(mustStaple, "bad", needsStaple)
			b.encrypts(1, one)
			two := b.ring(mustStaple)
			b.encrypts(1, one) // the ring did not get there
			b.says("", double.ADS, "bad", b.ca.certificate("bad", b.ca.placeholder("bad.example"), ""))
			// the same bytes are looked at by nobody
			b.says("", double.SDS, "ring", ring(t, "ring", two))
			b.encrypts(0, two)
			b.encrypts(1, one)
			b.says("", double.SDS, "ring", ring(t, "ring", two, two))
			b.encrypts(1, two)
		})
	}
}

// TestARemovalHealsNothing shows that a removal of a certificate that was refused, the first of its
// host, leaves it stored.
func TestARemovalHealsNothing(t *testing.T) {
	b := newBench(t)
	b.static("bad", "fine")
	one := b.ring("")
	b.certificate("", "fine", good)
	bad := b.certificate(mustStaple, "bad", needsStaple)
	b.removed(double.ADS, "bad")
	b.ring(mustStaple)
	b.says("", double.ADS, "bad", bad) // known bytes
	b.ring(mustStaple)
	b.encrypts(0, nil)
	b.encrypts(1, one)
}

// TestARemovalEndsTheWaitAtTheStart shows that the port opens once everything was sent, refused or
// removed, and not before.
func TestARemovalEndsTheWaitAtTheStart(t *testing.T) {
	b := newBench(t)
	b.static("one", "two")
	b.certificate("", "one", good)
	key := b.ring("")
	b.closed()
	b.removed(double.ADS, "two")
	b.encrypts(0, key)
	b.encrypts(1, nil)
}

// TestARefusalOpensThePortBeforeTheOthersAreThere shows that a refused certificate ends the wait
// for every certificate of the stream.
func TestARefusalOpensThePortBeforeTheOthersAreThere(t *testing.T) {
	b := newBench(t)
	b.static("bad", "late")
	key := b.ring("")
	b.closed()
	b.certificate(mustStaple, "bad", needsStaple)
	b.encrypts(0, nil)
	b.encrypts(1, nil)
	b.certificate("", "late", good)
	b.encrypts(1, key)
}

// dynamic starts an Envoy that gets its listener by LDS. The chains are what [bench.listener]
// chooses from.
func (b *bench) dynamic(certificates ...string) {
	b.t.Helper()
	b.real = prepare(b.t, chainsOf(certificates))
	config := b.parsed(b.chains)
	delete(config["static_resources"].(map[string]any), "listeners")
	config["dynamic_resources"].(map[string]any)["lds_config"] = map[string]any{
		"ads": map[string]any{}, "resource_api_version": "V3", "initial_fetch_timeout": "0s",
	}
	out, err := json.Marshal(config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.start(out, 1)
	select {
	case b.ads = <-b.script.ads:
	case <-b.ctx.Done():
		b.t.Fatal(context.Cause(b.ctx))
	}
}

// parsed is the bootstrap with a static listener of chains.
func (b *bench) parsed(chains []double.Chain) (config map[string]any) {
	b.t.Helper()
	if err := yaml.Unmarshal(b.bootstrap(b.admin, chains), &config); err != nil {
		b.t.Fatal(err)
	}
	return config
}

const listenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"

// listener sends a listener that has some of the chains, in that order, and checks the answer.
func (b *bench) listener(want string, chains ...int) {
	b.t.Helper()
	l := b.parsed(b.chains)["static_resources"].(map[string]any)["listeners"].([]any)[0].(map[string]any)
	all := l["filter_chains"].([]any)
	var chosen []any
	for _, i := range chains {
		chosen = append(chosen, all[i])
	}
	l["filter_chains"] = chosen
	asJSON, err := json.Marshal(l)
	if err != nil {
		b.t.Fatal(err)
	}
	m := &listenerv3.Listener{}
	if err := protojson.Unmarshal(asJSON, m); err != nil {
		b.t.Fatal(err)
	}
	b.version++
	words, err := b.ads.ask(b.ctx, &response{TypeUrl: listenerType, Resources: []*resource{{
		Name: m.GetName(), Version: fmt.Sprint(b.version),
		Resource: &anypb.Any{TypeUrl: listenerType, Value: encode(b.t, m)},
	}}})
	if err != nil || words != want {
		b.t.Fatalf("the listener with chains %v was answered with %q (%v), want %q", chains, words, err, want)
	}
}

// asked waits until both streams ask for the names; the ring's stream is opened by the first
// listener.
func (b *bench) asked(certificates ...string) {
	b.t.Helper()
	w := b.ads
	for {
		if names := slices.Compact(slices.Sorted(slices.Values(w.subscribed))); slices.Equal(names,
			slices.Sorted(slices.Values(certificates))) {
			break
		}
		if _, err := w.next(b.ctx); err != nil {
			b.t.Fatalf("asked for %v: %v", w.subscribed, err)
		}
	}
	if b.rings["ring"] == nil {
		b.open(b.ctx, double.SDS, []string{"ring"})
	}
}

// listenerRefusal is how Envoy says that a listener failed.
func listenerRefusal(words string) string {
	return "Error adding/updating listener(s) tls: " + words + "\n"
}

// TestARefusedListenerIsLookedAtAnew shows that a listener is refused in the words of a certificate
// that is stored bad, and that the same bytes are taken once the certificate is cured. The earlier
// listener goes on meanwhile.
func TestARefusedListenerIsLookedAtAnew(t *testing.T) {
	b := newBench(t)
	b.dynamic("fine", "bad", "bad")
	b.listener("", 0, 1)
	b.asked("fine", "bad")
	key := b.ring("")
	b.certificate("", "fine", good)
	b.certificate("", "bad", good)
	b.encrypts(0, key)
	b.certificate(mustStaple, "bad", needsStaple)
	b.listener(listenerRefusal(mustStaple), 0, 1, 2)
	b.listener(listenerRefusal(mustStaple), 0, 1, 2)
	b.encrypts(0, key)
	b.encrypts(1, key)
	b.certificate("", "bad", good)
	b.listener("", 0, 1, 2)
	b.encrypts(2, key)
}

// TestTheOrderIsThatInWhichChainsWereMade shows that a chain that a later listener puts first is
// told last.
func TestTheOrderIsThatInWhichChainsWereMade(t *testing.T) {
	b := newBench(t)
	b.dynamic("fine", "bad")
	b.listener("", 1)
	b.asked("bad")
	one := b.ring("")
	b.certificate("", "bad", good)
	b.encrypts(1, one)
	b.listener("", 0, 1)
	b.asked("fine", "bad")
	b.certificate("", "fine", good)
	b.encrypts(0, one)
	b.certificate(mustStaple, "bad", needsStaple)
	b.ring(mustStaple)
	b.encrypts(0, one) // it stands before the bad one, and was told nothing
}

// TestAChainThatDrainsStillRefuses shows that a chain that has left the listener keeps a ring from
// the chains made after it.
func TestAChainThatDrainsStillRefuses(t *testing.T) {
	b := newBench(t)
	b.dynamic("bad", "fine")
	b.listener("", 0, 1)
	b.asked("fine", "bad")
	one := b.ring("")
	b.certificate("", "fine", good)
	b.certificate("", "bad", good)
	b.encrypts(1, one)
	b.certificate(mustStaple, "bad", needsStaple)
	b.listener("", 1)
	b.ring(mustStaple)
	b.encrypts(1, one)
}
