// Package corpus compares keysource's check with a real Envoy and real clients, on certificates
// that it makes from seeds. LOCKSTEP_ENVOY names another Envoy than the installed one.
package corpus

import (
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

const (
	seeds       = 3
	minSamples  = 300
	minFamilies = 40
)

// ours is what lockstepd says of a sample for its host, and what it sends of one that it takes.
func ours(s sample, now time.Time) (sample, error) {
	c, err := keysource.ParseCertificate(keysource.PEM{Chain: s.chain, Key: s.key}, now)
	if err != nil {
		return s, err
	}
	if !c.Covers(keysource.Name(s.host)) {
		return s, fmt.Errorf("%w: it is for other names", keysource.ErrBadCertificate)
	}
	s.chain, s.key = c.Chain, c.Key
	return s, nil
}

// verdict is what all say of one sample.
type verdict struct {
	sample
	ours, envoy error
	clients     []error // clients is in the order of clients; nil if Envoy refused
}

// served reports whether Envoy serves it to at least one client.
func (v verdict) served() bool { return v.envoy == nil && slices.Contains(v.clients, nil) }

func (v verdict) refusal() string {
	if v.envoy != nil {
		return "Envoy: " + v.envoy.Error()
	}
	var out []string
	for i, err := range v.clients {
		if err != nil {
			out = append(out, fmt.Sprintf("%s: %v", clients[i].name, err))
		}
	}
	return strings.Join(out, "; ")
}

func TestNoCertificateIsTakenThatEnvoyOrEveryClientRefuses(t *testing.T) {
	if testing.Short() {
		t.Skip("some hundred Envoys are started")
	}
	cryptotest.SetGlobalRandom(t, 13)
	now := time.Now().Truncate(time.Second)
	began := time.Now()
	var samples []sample
	keys := &cache{}
	for seed := range seeds {
		more, err := newGenerator(seed, now, keys).seeds()
		if err != nil {
			t.Fatal(err)
		}
		samples = append(samples, more...)
	}
	t.Logf("made %d samples in %v", len(samples), time.Since(began).Round(time.Millisecond))
	verdicts := compare(t, samples, now)

	rules := rulesOf(t)
	count := map[string]int{}
	whyOurs := map[string]int{}
	fired := map[string]int{}
	for _, v := range verdicts {
		for _, rule := range rules {
			if v.ours != nil && strings.HasPrefix(v.ours.Error(), keysource.ErrBadCertificate.Error()+": "+rule+": ") {
				fired[rule]++
			}
		}
		switch taken, served := v.ours == nil, v.served(); {
		case taken && served:
			count["taken by both"]++
		case !taken && !served:
			count["refused by both"]++
		case taken:
			count["refused by Envoy or every client only"]++
			t.Errorf("%v is taken, and refused: %.300s", v.sample, v.refusal())
		default:
			count["refused by lockstepd only"]++
			reason := reasonFor(v.ours.Error())
			whyOurs[reason]++
			if reason == "" {
				t.Errorf("%v is served, and refused without a reason that reasons has: %v", v.sample, v.ours)
			}
		}
		if testing.Verbose() {
			fmt.Printf("%v\n\tlockstepd: %s\n\tothers: %s\n", v.sample, orTaken(v.ours), v.refusal())
		}
	}
	t.Logf("%d samples of %d families: %v", len(samples), len(families), count)
	t.Logf("refused by lockstepd only: %s", table(whyOurs))
	t.Logf("rules of keysource: %s", table(fired))
	for _, r := range rules {
		if fired[r] == 0 {
			t.Errorf("the rule %s refuses nothing of the corpus", r)
		}
	}
	if len(samples) < minSamples || len(families) < minFamilies {
		t.Errorf("%d samples of %d families, want %d and %d", len(samples), len(families), minSamples, minFamilies)
	}
}

// rulesOf returns the names in the table of rules of keysource.
func rulesOf(t *testing.T) (names []string) {
	t.Helper()
	src, err := os.ReadFile("../../keysource/rules.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t\{"([a-z-]+)", \w+\},$`).FindAllSubmatch(src, -1) {
		names = append(names, string(m[1]))
	}
	if len(names) < 10 {
		t.Fatalf("only %d rules were found: %q", len(names), names)
	}
	return names
}

func orTaken(err error) string {
	if err == nil {
		return "taken"
	}
	return err.Error()
}

// table is a count on lines of its own.
func table(count map[string]int) string {
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&b, "\n%5d %s", count[what], what)
	}
	return b.String()
}

// compare asks everybody.
func compare(t *testing.T, samples []sample, now time.Time) []verdict {
	t.Helper()
	own := map[string]error{}
	for i, s := range samples {
		samples[i], own[s.host] = ours(s, now)
	}
	began := time.Now()
	envoys := judge(t.Context(), t.TempDir(), samples, func(s sample) bool { return own[s.host] == nil })
	t.Logf("Envoy judged in %v", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	var loaded []sample
	for _, s := range samples {
		if envoys[s.host] == nil {
			loaded = append(loaded, s)
		}
	}
	addr := serve(t, loaded)
	dir := t.TempDir()
	var mu sync.Mutex
	shaken := map[string][]error{}
	parallel(loaded, func(s sample) {
		var errs []error
		for _, c := range clients {
			errs = append(errs, c.dial(t.Context(), dir, addr, s))
		}
		mu.Lock()
		defer mu.Unlock()
		shaken[s.host] = errs
	})
	t.Logf("%d handshakes in %v", len(loaded)*len(clients), time.Since(began).Round(time.Millisecond))
	var out []verdict
	for _, s := range samples {
		out = append(out, verdict{s, own[s.host], envoys[s.host], shaken[s.host]})
	}
	return out
}

// serve starts one Envoy with all of samples.
func serve(t *testing.T, samples []sample) (addr string) {
	t.Helper()
	f := fleet.ForTest(t)
	addr, admin := must(fleet.Addr()), must(fleet.Addr())
	path, err := fleet.EnvoyPath()
	if err != nil {
		t.Fatal(err)
	}
	file := f.Dir() + "/corpus.json"
	if err := os.WriteFile(file, config(addr, admin, samples), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Start(fleet.Command{
		Name: "envoy", Path: path, Ready: "http://" + admin + "/ready",
		Args: []string{"-c", file, "--concurrency", "2", "--use-dynamic-base-id",
			"--disable-hot-restart", "--log-level", "warning"},
	}); err != nil {
		t.Fatal(err)
	}
	err = fleet.Until(t.Context(), func() error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
