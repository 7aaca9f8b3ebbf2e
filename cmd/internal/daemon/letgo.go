package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/rotation"
)

// When nodes are let go by a replica of which the others have not heard. They go on without its nodes after 30 s, or a lease, and nodes that stay here
// would then lack the new keys.
const (
	letGoAfter = 20 * time.Second
	refuseFor  = 3 * time.Second  // longer than a node's longest pause between two tries (retry_back_off in its bootstrap)
	letGoEvery = 10 * time.Second // those that came back, since they had nowhere to go, or since this one's turn came again
)

// letGo sends nodes to the other replicas while this one cannot write its roster and they can. Nodes that reach no other one come back and are served
// with what is known here.
func (d *Daemon) letGo(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		unheard := d.rolls.Unheard()
		if unheard < letGoAfter || time.Since(last) < letGoEvery || !missed(ctx, d.rolls.Peers(), d.status) {
			continue
		}
		last = time.Now()
		if n := d.xds.Dismiss(refuseFor); n > 0 {
			d.log.Warn("this replica cannot write to the store, and the others will go on without its nodes: they are sent to them",
				"unheard", unheard.Round(time.Second), "streams", n)
		}
	}
}

// missed reports whether the others may be going on without this replica: there are some, and not all that answer have lost the store, too.
func missed(parent context.Context, peers []rotation.Peer, ask func(context.Context, rotation.Peer) (api.Status, error)) bool {
	ctx, cancel := context.WithTimeout(parent, 2*time.Second)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var up, down int
	for _, p := range peers {
		wg.Go(func() {
			st, err := ask(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && st.StoreDown:
				down++
			case err == nil:
				up++
			}
		})
	}
	wg.Wait()
	return len(peers) > 0 && (up > 0 || down == 0) && parent.Err() == nil
}

func (d *Daemon) status(ctx context.Context, p rotation.Peer) (api.Status, error) {
	return admin.PeerStatus(ctx, d.peers, p)
}
