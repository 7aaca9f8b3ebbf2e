package main

import (
	"context"
	"fmt"
	"math/rand/v2"
)

// ofOperators are what people type.
var ofOperators = []fault{
	{"a rotation", func(ctx context.Context, s *stage, r *rand.Rand) (out outcome, err error) {
		var said struct{ Rotation uint64 }
		err = s.show(ctx, of(r, s.planes), &said, "rotate", "--wait", "--timeout", "60s", "--why", "the soak")
		return outcome{want: ofRotation(said.Rotation, "distributing", "promoting", "done")}, err
	}},
	{"all keys are burnt", func(ctx context.Context, s *stage, r *rand.Rand) (out outcome, err error) {
		s.voids("")
		var said struct{ Rotation uint64 }
		err = s.show(ctx, of(r, s.planes), &said, "burn", "--yes", "--wait", "--timeout", "90s", "--why", "the soak")
		return outcome{want: ofRotation(said.Rotation, "burning", "burnt")}, err
	}},
	{"a node is excluded and let in", func(ctx context.Context, s *stage, r *rand.Rand) (out outcome, err error) {
		e := of(r, s.envoys)
		for _, d := range []string{"1h", "0"} {
			if err == nil {
				_, err = s.lockstep(ctx, of(r, s.planes), "exclude", e.name, "--for", d, "--why", "the soak")
			}
		}
		out.want = append(ofRotation(0, "excluded"), ofRotation(0, "included")...)
		for i := range out.want {
			out.want[i].words = []string{e.name}
		}
		out.may = problems("node-excluded")
		return out, err
	}},
	{"a token is made and revoked", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		name := fmt.Sprintf("soak-%d", r.Uint32())
		_, err := s.lockstep(ctx, of(r, s.planes), "token", "new", "--name", name, "--role", "read")
		if err == nil {
			_, err = s.lockstep(ctx, of(r, s.planes), "token", "revoke", name)
		}
		return outcome{want: []expectation{
			wants("operator", "", name, "token-new "+name+" by local administrator", "role read"),
			wants("operator", "", name, "token-revoked"),
		}}, err
	}},
	{"another sealing key", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		_, err := s.lockstep(ctx, of(r, s.planes), "kek", "rotate", "--retire", "--timeout", "90s")
		return outcome{
			want: []expectation{wants("operator", "", "kek-rotate"), wants("operator", "", "kek-retire")},
		}, err
	}},
}
