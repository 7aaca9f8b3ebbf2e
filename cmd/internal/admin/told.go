package admin

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
)

// askForProblems is how long a status waits for the other replicas. One that is silent is named.
const askForProblems = time.Second

// told is what another replica says of itself, or why it says nothing.
type told struct {
	replica string
	api.Problems
	silent error
	// earlier reports that it answers, and does not know the question.
	earlier bool
}

// problemsHere answers another replica.
func (a *admin) problemsHere(r *http.Request) (api.Problems, error) {
	out := api.Problems{Replica: a.cfg.Replica, Version: a.cfg.Version, Problems: a.cfg.Problems.Told(r.Context())}
	skew, _ := a.cfg.Rollouts.Skew()
	out.SkewSeconds = skew.Seconds()
	out.More = max(0, len(out.Problems)-problems.MaxTold)
	out.Problems = list(out.Problems[:len(out.Problems)-out.More])
	return out, nil
}

// askProblems asks the other replicas that are alive, all at once.
func (a *admin) askProblems(ctx context.Context) (all []told) {
	ctx, cancel := context.WithTimeout(ctx, askForProblems)
	defer cancel()
	peers := a.peers()
	var mu sync.Mutex
	a.cfg.Rollouts.AskPeers(ctx, func(ctx context.Context, p replicas.Peer) error {
		one := told{replica: p.Replica}
		one.Problems, one.silent = peers.problems(ctx, p)
		var said *api.Error
		if errors.As(one.silent, &said) && said.Replica == "" {
			if _, err := peers.Mute(ctx, p); err == nil {
				one.silent, one.earlier = nil, true
			}
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, one)
		return nil
	})
	slices.SortFunc(all, func(x, y told) int { return cmp.Compare(x.replica, y.replica) })
	return all
}

// problems asks another replica what is not well with it.
func (o Peers) problems(ctx context.Context, p replicas.Peer) (said api.Problems, err error) {
	c, err := o.client(p)
	if err != nil {
		return said, err
	}
	if said, err = c.Problems(ctx); err == nil {
		err = sameReplica(p, said.Replica)
	} else {
		err = refusedBy(p, err)
	}
	return said, err
}

// fleetProblems are own, those of this replica, with troubles of nodes, and those that others told.
func (a *admin) fleetProblems(own []api.Problem, troubles api.Troubles, said []told) []api.Problem {
	var others []problems.Told
	for _, t := range said {
		if t.silent == nil {
			others = append(others, problems.Told{
				Replica: t.replica, Problems: t.Problems.Problems, Summed: slices.Contains(troubles.Of, t.replica),
			})
		}
	}
	out := problems.Join(a.cfg.Replica, a.cfg.Problems.with(own, troubles), others)
	a.cfg.Problems.Acks.Apply(out, time.Now())
	problems.Sort(out)
	return out
}

// replicaList is what this replica knows of all, with what they have just said.
func (a *admin) replicaList(said []told) []api.Replica {
	all := a.cfg.Replicas.List()
	skew, _ := a.cfg.Rollouts.Skew()
	for i := range all {
		one := &all[i]
		if one.Replica == a.cfg.Replica {
			seconds := skew.Seconds()
			one.Answers, one.SkewSeconds = true, &seconds
			continue
		}
		j, asked := slices.BinarySearchFunc(said, one.Replica, func(t told, name string) int {
			return cmp.Compare(t.replica, name)
		})
		switch {
		case !asked:
		case said[j].silent != nil:
			one.Silent = said[j].silent.Error()
		case said[j].earlier:
			one.Answers, one.Silent = true, ""
		default:
			t := said[j]
			one.Answers, one.Silent, one.SkewSeconds, one.MoreProblems = true, "", &t.SkewSeconds, t.More
			one.Version = cmp.Or(t.Version, one.Version)
		}
	}
	return all
}
