package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestNodesAreKeptWhereNobodyIsBetterOff: while the store is lost to all, sending nodes around
// would help nobody.
func TestNodesAreKeptWhereNobodyIsBetterOff(t *testing.T) {
	ask := func(_ context.Context, p Peer) (bool, error) {
		if p.Replica == "silent" {
			return false, errors.New("no answer")
		}
		return p.Replica == "down", nil
	}
	for peers, want := range map[string]answer{
		"":                 asWe,
		"up":               betterOff,
		"down":             asWe,
		"down down":        asWe,
		"down up":          betterOff,
		"silent":           unknown, // it may be we who are cut off
		"silent down":      unknown, // one may be cut off together with us
		"silent silent up": betterOff,
	} {
		var all []Peer
		for _, name := range strings.Fields(peers) {
			all = append(all, Peer{Replica: name})
		}
		if got := askOthers(t.Context(), all, ask); got != want {
			t.Errorf("%q: %v, want %v", peers, got, want)
		}
	}
}

func TestWhenNodesAreLetGo(t *testing.T) {
	const end = 400 // seconds
	for name, c := range map[string]struct {
		says func(second int) answer
		want []int
	}{
		"all the same": {func(int) answer { return asWe }, nil},
		"one is better off": {func(s int) answer {
			if s < 40 {
				return betterOff
			}
			return asWe
		}, []int{6, 16, 26, 36}},
		"nobody answers":                  {func(int) answer { return unknown }, []int{6, 16, 46, 136, 226, 316}},
		"it was only the first to notice": {func(s int) answer { return map[bool]answer{s < 6: betterOff}[true] }, nil},
		"nobody answers, then one": {func(s int) answer {
			if s < 20 {
				return unknown
			}
			return map[bool]answer{s < 60: betterOff}[true]
		}, []int{6, 16, 26, 36, 46, 56}},
		"nobody answers for long, then one": {func(s int) answer {
			if s < 70 {
				return unknown
			}
			return map[bool]answer{s < 90: betterOff}[true]
		}, []int{6, 16, 46, 70, 80}},
	} {
		var p parting
		var got []int
		start := time.Now()
		for s := range end {
			now := start.Add(time.Duration(s) * time.Second)
			if p.due(c.says(s), now, now) {
				got = append(got, s)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: at %v, want %v", name, got, c.want)
		}
	}
}

// TestNodesAreLetGoBeforeTheirReplicaIsTakenForDead: in time to be at another one within 30 s,
// also where nobody answers and each question is waited for.
func TestNodesAreLetGoBeforeTheirReplicaIsTakenForDead(t *testing.T) {
	for name, mute := range map[string]func(context.Context, Peer) (bool, error){
		"one is better off": func(context.Context, Peer) (bool, error) { return false, nil },
		"one is slow and better off": func(context.Context, Peer) (bool, error) {
			time.Sleep(answerWithin - time.Millisecond)
			return false, nil
		},
		"all hang": func(ctx context.Context, _ Peer) (bool, error) {
			<-ctx.Done()
			time.Sleep(5 * time.Millisecond) // a busy machine
			return false, ctx.Err()
		},
	} {
		// of the last word, in the time between two looks
		for _, late := range []time.Duration{0, time.Millisecond, lookEvery / 2, lookEvery - time.Millisecond} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				start := time.Now()
				var at []time.Duration
				unheard := func() time.Duration { return time.Since(start) - late }
				ask := func(ctx context.Context) answer {
					return askOthers(ctx, []Peer{{Replica: "one"}, {Replica: "two"}}, mute)
				}
				letGo(ctx, unheard, ask, func() { at = append(at, unheard()) })
				if len(at) != 1 || at[0] < letGoAfter+certainFor-lookEvery || at[0] > 26*time.Second {
					t.Errorf("%s: at %v", name, at)
				}
			})
		}
	}
}
