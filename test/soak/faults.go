package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// deed is one thing that was done, with what must be found again in the events.
type deed struct {
	what string
	at   time.Time
	want []expectation
}

// expectation is an event that must be there.
type expectation struct {
	what  string
	match func(event) bool
}

// wants is an expectation of an event of that kind about a node or name, with these words.
func wants(kind, node, name string, words ...string) expectation {
	return expectation{fmt.Sprintf("%s %s%s %v", kind, node, name, words), func(e event) bool {
		return e.Kind == kind && (node == "" || e.Node == node) && (name == "" || e.Name == name) &&
			!slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(e.Text, w) })
	}}
}

// fault does something to the stage, and says what must be told of it.
type fault struct {
	name string
	do   func(ctx context.Context, s *stage, r *rand.Rand) ([]expectation, error)
}

var faults = []fault{
	{"an Envoy is killed and comes back", func(ctx context.Context, s *stage, r *rand.Rand) ([]expectation, error) {
		e := s.envoys[r.IntN(len(s.envoys))]
		err := errors.Join(e.Kill(), sleep(ctx, time.Second), e.Restart(), e.Ready(ctx))
		return []expectation{wants("node-away", e.name, ""), wants("node-connected", e.name, "")}, err
	}},
	{"an Envoy stays away", func(ctx context.Context, s *stage, r *rand.Rand) ([]expectation, error) {
		e := s.envoys[r.IntN(len(s.envoys))]
		err := e.Kill()
		if err == nil {
			err = s.awaits(ctx, time.Now(), wants("node-gone", e.name, ""))
		}
		err = errors.Join(err, e.Restart(), e.Ready(ctx))
		return []expectation{wants("node-gone", e.name, ""), wants("node-connected", e.name, "")}, err
	}},
	{"a replica is killed", func(ctx context.Context, s *stage, r *rand.Rand) ([]expectation, error) {
		p := s.planes[r.IntN(len(s.planes))]
		err := errors.Join(p.Kill(), sleep(ctx, time.Second), p.Restart(), p.Ready(ctx))
		return []expectation{wants("replica-started", "", replicaOf(p))}, err
	}},
	{"a replica is restarted", func(ctx context.Context, s *stage, r *rand.Rand) ([]expectation, error) {
		p := s.planes[r.IntN(len(s.planes))]
		err := errors.Join(p.Stop(20*time.Second), p.Restart(), p.Ready(ctx))
		return []expectation{
			wants("replica-stopping", "", replicaOf(p)), wants("replica-started", "", replicaOf(p)),
		}, err
	}},
	{"the store hangs", func(ctx context.Context, s *stage, _ *rand.Rand) ([]expectation, error) {
		began := time.Now()
		err := s.redis.Pause()
		if err == nil {
			err = s.awaits(ctx, began, wants("problem", "", "store-down"))
		}
		err = errors.Join(err, s.redis.Resume())
		if err == nil {
			err = s.awaits(ctx, began, wants("problem-over", "", "store-down"))
		}
		return []expectation{
			wants("problem", "", "store-down"),
			wants("problem-over", "", "store-down"),
		}, err
	}},
	{"a certificate is renewed", func(_ context.Context, s *stage, r *rand.Rand) ([]expectation, error) {
		host := s.hosts[r.IntN(len(s.hosts))]
		return []expectation{wants("cert-taken", "", host, ", before ", "issued by CN=")}, s.renew(host, s.ca)
	}},
	{"another CA issues", func(_ context.Context, s *stage, r *rand.Rand) (want []expectation, err error) {
		if s.ca, err = fleet.NewCA(fmt.Sprintf("Soak CA %d", r.Uint32())); err != nil {
			return nil, err
		}
		host := s.hosts[r.IntN(len(s.hosts))]
		err = s.renew(host, s.ca)
		return []expectation{wants("cert-taken", "", host, "its session tickets end: another issuer")}, err
	}},
	{"a certificate is broken", func(ctx context.Context, s *stage, r *rand.Rand) ([]expectation, error) {
		host := s.hosts[r.IntN(len(s.hosts))]
		began := time.Now()
		err := os.WriteFile(filepath.Join(fleet.HostDir(s.certs, host), "tls.crt"), []byte("broken"), 0o600)
		if err == nil {
			err = s.awaits(ctx, began, wants("cert-refused", "", host))
		}
		return []expectation{wants("cert-refused", "", host), wants("cert-taken", "", host)},
			errors.Join(err, s.renew(host, s.ca))
	}},
	{"a certificate goes into the store", func(ctx context.Context, s *stage, r *rand.Rand) ([]expectation, error) {
		host := fmt.Sprintf("stored-%d.example", r.Uint32())
		pair, err := s.ca.Issue(fleet.Leaf{Names: []string{host}})
		crt, key := filepath.Join(s.fleet.Dir(), "put.crt"), filepath.Join(s.fleet.Dir(), "put.key")
		err = errors.Join(err, os.WriteFile(crt, pair.Chain, 0o600), os.WriteFile(key, pair.Key, 0o600))
		if err == nil {
			_, err = s.lockstep(ctx, s.planes[r.IntN(2)], "cert", "put", host, "--cert", crt, "--key", key)
		}
		if err == nil {
			_, err = s.lockstep(ctx, s.planes[r.IntN(2)], "cert", "rm", host)
		}
		return []expectation{
			wants("cert", "", host, "was put into the store"), wants("cert", "", host, "was removed from the store"),
		}, err
	}},
	{"a rotation", func(ctx context.Context, s *stage, r *rand.Rand) (want []expectation, err error) {
		out, err := s.lockstep(ctx, s.planes[r.IntN(2)], "-o", "json", "rotate", "--wait", "--timeout", "60s", "--why",
			"the soak")
		var said struct{ Rotation uint64 }
		if err == nil {
			err = json.Unmarshal(out, &said)
		}
		for _, phase := range []string{"distributing", "promoting", "done"} {
			want = append(want, expectation{fmt.Sprintf("rotation %d %s", said.Rotation, phase), func(e event) bool {
				return e.Kind == "rotation" && e.Name == "tickets/default" && e.Rotation == said.Rotation &&
					e.Phase == phase
			}})
		}
		return want, err
	}},
	{"a node refuses a ring", refusal(func(*stage) string { return "tickets/default" })},
	{"a node refuses a certificate", refusal(func(s *stage) string { return s.hosts[0] })},
}

// refusal is a fault: a node of its own comes, refuses a secret, and goes.
func refusal(of func(*stage) string) func(context.Context, *stage, *rand.Rand) ([]expectation, error) {
	return func(ctx context.Context, s *stage, r *rand.Rand) ([]expectation, error) {
		s.refusers++
		node, secret := fmt.Sprintf("refuser-%d", s.refusers), of(s)
		refused := wants("node-refused", node, secret, "this node refuses for the test")
		began := time.Now()
		err := s.refuses(ctx, s.planes[r.IntN(2)], node, secret, func() error { return s.awaits(ctx, began, refused) })
		return []expectation{wants("node-connected", node, ""), refused, wants("node-away", node, "")}, err
	}
}

// replicaOf is the name of a replica, from its data directory.
func replicaOf(p *fleet.Lockstepd) string {
	b, err := os.ReadFile(filepath.Join(p.Data, "replica"))
	if err != nil {
		return err.Error() // which no event has
	}
	return strings.TrimSpace(string(b))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// within is how long an event may take on a busy machine. A deed may wait for two things, each for
// a minute at most.
const within = 3 * time.Minute

// awaits waits until an event is told.
func (s *stage) awaits(ctx context.Context, since time.Time, want expectation) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return fleet.Until(ctx, func() error {
		for _, p := range s.planes {
			// One that is asked alone may be away. Both are asked in the end.
			all, _ := s.events(ctx, p, since)
			if slices.ContainsFunc(all, want.match) {
				return nil
			}
		}
		return errors.New("there is no " + want.what)
	})
}

// runFaults does random faults until ctx ends, and then looks for each of them in the events. Each
// fault has its turn before one has its second.
func runFaults(ctx context.Context, s *stage, length time.Duration, seed uint64, say func(string, ...any)) error {
	r := rand.New(rand.NewPCG(seed, seed))
	say("the seed is %d", seed)
	var done []deed
	var turns []int
	began := time.Now()
	for round := 0; round < len(faults) || time.Since(began) < length; round++ {
		if len(turns) == 0 {
			turns = r.Perm(len(faults))
		}
		f := faults[turns[0]]
		turns = turns[1:]
		at := time.Now()
		want, err := f.do(ctx, s, r)
		if err != nil {
			return fmt.Errorf("after %s: %s: %w", time.Since(began).Round(time.Second), f.name, err)
		}
		say("%8s  %s, %s", time.Since(began).Round(time.Millisecond), f.name, time.Since(at).Round(time.Millisecond))
		done = append(done, deed{f.name, at, want})
	}
	return s.account(ctx, done, say)
}

// account looks for everything that was done in what each of the replicas tells.
func (s *stage) account(ctx context.Context, done []deed, say func(string, ...any)) error {
	var last error
	within, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	wanted := 0
	for _, p := range s.planes {
		err := fleet.Until(within, func() error {
			all, err := s.events(within, p, done[0].at)
			if err != nil {
				return err
			}
			var errs []error
			wanted = 0
			for _, d := range done {
				for _, want := range d.want {
					wanted++
					if !slices.ContainsFunc(all, func(e event) bool { return want.found(e, d) }) {
						errs = append(errs, fmt.Errorf("%s at %s: %s does not tell %s", d.what,
							d.at.Format(time.TimeOnly), p.Name(), want.what))
					}
				}
			}
			for _, e := range all {
				if e.Kind == "node-gone" && !slices.ContainsFunc(done, func(d deed) bool {
					return d.what == "an Envoy stays away" && wants("node-gone", e.Node, "").match(e)
				}) && !strings.HasPrefix(e.Node, "refuser-") {
					errs = append(errs, fmt.Errorf("%s is told as gone, and was not: %+v", e.Node, e))
				}
			}
			return errors.Join(errs...)
		})
		last = errors.Join(last, err)
	}
	say("%d things were done, and %d events of them looked for at each of %d replicas",
		len(done), wanted, len(s.planes))
	return last
}

// found reports whether e is the event of that deed. Clocks of replica and test are one. What a
// node did too often for a line each is told by a later line that counts it.
func (w expectation) found(e event, d deed) bool {
	if e.At.Before(d.at.Truncate(time.Millisecond)) || !w.match(e) {
		return false
	}
	late := e.At.Sub(d.at)
	return late < within || strings.Contains(e.Text, " times more in ") && late < 2*time.Minute+within
}
