package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
)

// ofServers are faults of Redis and NATS.
var ofServers = []fault{
	{"the store hangs", func(ctx context.Context, s *stage, _ *rand.Rand) (outcome, error) {
		return s.withoutStore(ctx, s.redis.Pause, s.redis.Resume)
	}},
	{"the store is killed and comes back", func(ctx context.Context, s *stage, _ *rand.Rand) (outcome, error) {
		return s.withoutStore(ctx, s.redis.Kill,
			func() error { return errors.Join(s.redis.Restart(), s.redis.Ready(ctx)) })
	}},
	{"a replica is killed while the store is away", func(
		ctx context.Context, s *stage, r *rand.Rand,
	) (outcome, error) {
		p := of(r, s.planes)
		out, err := s.withoutStore(ctx, s.redis.Kill, func() error {
			return errors.Join(p.Kill(), s.redis.Restart(), s.redis.Ready(ctx), p.Restart(), p.Ready(ctx))
		})
		out.want = append(out.want, wants("replica-started", "", p.id()))
		return out, err
	}},
	{"NATS is killed and comes back", func(ctx context.Context, s *stage, _ *rand.Rand) (outcome, error) {
		return s.spell(ctx, s.nats.Servers[0].Kill, s.byAll(wants("problem", "", "events-down")),
			func() error { return errors.Join(s.nats.Servers[0].Restart(), s.nats.Ready(ctx)) },
			s.byAll(wants("problem-over", "", "events-down")))
	}},
}

func (s *stage) withoutStore(ctx context.Context, stop, start func() error) (outcome, error) {
	out, err := s.spell(ctx, stop, s.byAll(wants("problem", "", "store-down")),
		start, s.byAll(wants("problem-over", "", "store-down")))
	out.may = slices.Concat(storeless, moved)
	return out, err
}

// storeless may be told while the store is away.
var storeless = append(problems("store-down", "sealing-key-unusable", "audit-sink-down", "certificates-unaudited",
	"ring-unrecorded", "certificate-unloadable", "roster-unreadable"),
	wants("audit-down", "", ""), wants("audit-back", "", ""))
