package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// moved may be told when a replica is away for long: its Envoys come to the other one, and on a
// busy machine not within their lease.
var moved = []expectation{wants("node-gone", "", ""), wants("node-let-go", "", ""), wants("replica-away", "", "")}

// ofReplicas are faults of lockstepd.
var ofReplicas = []fault{
	{"a replica is killed", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		p := of(r, s.planes)
		err := errors.Join(p.Kill(), sleep(ctx, time.Second), p.Restart(), p.Ready(ctx))
		return outcome{want: []expectation{wants("replica-started", "", p.id())}, may: moved}, err
	}},
	{"a replica is restarted", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		p := of(r, s.planes)
		err := errors.Join(p.Stop(20*time.Second), p.Restart(), p.Ready(ctx))
		return outcome{want: []expectation{
			wants("replica-stopping", "", p.id()), wants("replica-started", "", p.id()),
		}, may: moved}, err
	}},
	{"both replicas are restarted", func(ctx context.Context, s *stage, _ *rand.Rand) (out outcome, err error) {
		for _, p := range s.planes {
			err = errors.Join(err, p.Stop(20*time.Second))
			out.want = append(out.want, wants("replica-stopping", "", p.id()), wants("replica-started", "", p.id()))
		}
		for _, p := range s.planes {
			err = errors.Join(err, p.Restart())
		}
		for _, p := range s.planes {
			err = errors.Join(err, p.Ready(ctx))
		}
		for _, e := range s.envoys {
			out.want = append(out.want, wants("node-connected", e.name, ""))
		}
		out.may = moved
		return out, err
	}},
	{"a replica hangs", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		p := of(r, s.planes)
		out, err := s.spell(ctx, p.Pause, []expectation{wants("replica-away", "", p.id()).by(s.other(p).id())},
			p.Resume, []expectation{wants("replica-back", "", p.id(), "again").by(s.other(p).id())})
		out.may = cutOff(p)
		return out, err
	}},
	{"a replica is cut off from the store", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		p := of(r, s.planes)
		nodes, err := s.nodes(ctx)
		if err != nil {
			return outcome{}, err
		}
		begins := []expectation{
			wants("problem", "", "store-down").by(p.id()), wants("replica-away", "", p.id()).by(s.other(p).id()),
		}
		for _, e := range s.envoys {
			if n := nodes[e.name]; n.at(p.id()) {
				begins = append(begins, s.moves(n, p)...)
			}
		}
		if len(begins) > 2 {
			begins = append(begins, wants("node-let-go", "", "").by(p.id()))
		}
		out, err := s.spell(ctx, func() error { p.store.cut(); return nil }, begins,
			func() error { p.store.join(); return nil }, []expectation{
				wants("problem-over", "", "store-down").by(p.id()),
				wants("replica-back", "", p.id(), "again").by(s.other(p).id()),
			})
		out.may = cutOff(p)
		return out, err
	}},
	{"a replica is cut off from NATS", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		p := of(r, s.planes)
		return s.spell(ctx, func() error { p.events.cut(); return nil },
			[]expectation{wants("problem", "", "events-down").by(p.id())},
			func() error { p.events.join(); return nil },
			[]expectation{wants("problem-over", "", "events-down").by(p.id())})
	}},
}

// cutOff may be told when a replica is not there for half a minute.
func cutOff(p *plane) []expectation {
	return append([]expectation{
		wants("replica-away", "", "").by(p.id()), wants("replica-away", "", p.id()),
		wants("problem", "", "").by(p.id()), wants("problem-over", "", "").by(p.id()),
		wants("audit-down", "", "").by(p.id()), wants("audit-back", "", "").by(p.id()),
	}, moved...)
}
