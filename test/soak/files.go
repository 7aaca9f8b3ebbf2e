package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
)

// ofFiles are changes of the policy and of the configuration, of which both replicas read the same
// file.
var ofFiles = []fault{
	{"another policy", func(ctx context.Context, s *stage, _ *rand.Rand) (outcome, error) {
		return s.spell(ctx, s.newPolicy, s.byAll(wants("policy", "", s.policy, "another policy is in force")),
			nothing, nil)
	}},
	{"a broken policy", func(ctx context.Context, s *stage, _ *rand.Rand) (outcome, error) {
		good, err := os.ReadFile(s.policy)
		if err != nil {
			return outcome{}, err
		}
		return s.spell(ctx, func() error { return replace(s.policy, []byte("rules: broken")) },
			s.byAll(wants("problem", "", "policy-unusable")),
			func() error { return replace(s.policy, good) }, s.byAll(wants("problem-over", "", "policy-unusable")))
	}},
	{"an older policy comes back", func(ctx context.Context, s *stage, _ *rand.Rand) (outcome, error) {
		older, err := os.ReadFile(s.policy)
		if err != nil {
			return outcome{}, err
		}
		changed := s.byAll(wants("policy", "", s.policy, "another policy is in force"))
		first, err1 := s.spell(ctx, s.newPolicy, changed, nothing, nil)
		second, err2 := s.spell(ctx, func() error { return replace(s.policy, older) },
			append(changed, s.byAll(wants("problem", "", "policy-put-back"))...),
			s.newPolicy, append(changed, s.byAll(wants("problem-over", "", "policy-put-back"))...))
		return outcome{want: append(first.want, second.want...)}, errors.Join(err1, err2)
	}},
	{"another configuration", func(ctx context.Context, s *stage, _ *rand.Rand) (outcome, error) {
		return s.spell(ctx, func() error { return errors.Join(s.newConfig(), s.hangup()) },
			s.byAll(wants("config", "", "node_names")), nothing, nil)
	}},
	{"a configuration that is not reloaded", func(ctx context.Context, s *stage, _ *rand.Rand) (outcome, error) {
		return s.spell(ctx, s.newConfig, s.byAll(wants("problem", "", "config-not-reloaded", "node_names")), s.hangup,
			s.byAll(wants("config", "", "node_names"), wants("problem-over", "", "config-not-reloaded")))
	}},
	{"a broken configuration", func(ctx context.Context, s *stage, _ *rand.Rand) (outcome, error) {
		good, err := os.ReadFile(s.config)
		if err != nil {
			return outcome{}, err
		}
		return s.spell(ctx, func() error { return errors.Join(replace(s.config, []byte("nonsense: 1\n")), s.hangup()) },
			s.byAll(wants("problem", "", "config-unusable", "nonsense")),
			func() error { return errors.Join(replace(s.config, good), s.hangup()) },
			s.byAll(wants("problem-over", "", "config-unusable")))
	}},
}

// hangup has both replicas read the configuration again.
func (s *stage) hangup() (err error) {
	for _, p := range s.planes {
		err = errors.Join(err, p.Signal(syscall.SIGHUP))
	}
	return err
}
