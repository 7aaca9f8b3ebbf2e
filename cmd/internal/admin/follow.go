package admin

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	replicas "github.com/lockstep-tls/lockstep/rotation/fleet"
)

const (
	// lookForPeers is how often replicas are looked for that have come or left.
	lookForPeers = time.Second
	// followAgain is the pause before a replica is asked again.
	followAgain = 2 * time.Second
	// proofCounts is how long a stream to another replica lasts before that proves itself again.
	proofCounts = 10 * time.Minute
)

// follow sends what happens at the other replicas to out until ctx ends. It says once if a replica
// cannot be followed.
func (a *admin) follow(ctx context.Context, out chan<- *api.Line) {
	followed := map[string]context.CancelFunc{}
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(lookForPeers)
	defer tick.Stop()
	for {
		now := map[string]bool{}
		for _, p := range a.cfg.Rollouts.Peers() {
			now[p.Replica] = true
			if followed[p.Replica] == nil {
				one, cancel := context.WithCancel(ctx)
				followed[p.Replica] = cancel
				wg.Go(func() { a.followOne(one, p, out) })
			}
		}
		for replica, cancel := range followed {
			if !now[replica] { // replica-away tells of it
				cancel()
				delete(followed, replica)
			}
		}
		select {
		case <-ctx.Done():
			for _, cancel := range followed {
				cancel()
			}
			return
		case <-tick.C:
		}
	}
}

// followOne follows one replica until ctx ends.
func (a *admin) followOne(ctx context.Context, p replicas.Peer, out chan<- *api.Line) {
	send := func(l api.Line) error {
		select {
		case out <- &l:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	say := func(kind, text string) {
		send(api.Line{
			At: time.Now(), What: kind, Kind: kind, Name: p.Replica, Replica: a.cfg.Replica, Text: text,
		})
	}
	silent := false
	for ctx.Err() == nil {
		begun := false
		c, err := a.peers().client(p)
		if err == nil {
			err = c.WatchHere(ctx, func() {
				if begun = true; silent {
					silent = false
					say("replica-followed", "what happens at replica "+p.Replica+" is shown again")
				}
			}, send)
		}
		if ctx.Err() != nil {
			return
		}
		if begun { // the stream has ended; the next try says whether the replica is still there
			continue
		}
		if err = refusedBy(p, err); err != nil && !silent {
			silent = true
			say("replica-silent", fmt.Sprintf("what happens at replica %s is not shown: %v; "+
				"once it can be asked, lockstep events has what it wrote down", p.Replica, err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(followAgain):
		}
	}
}
