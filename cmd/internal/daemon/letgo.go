package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/rotation"
)

// When nodes are let go by a replica of which the others have not heard. They take it for dead, and its nodes for away, after 30 s, and go on without them a lease later;
// nodes that stay here would then lack the new keys. They are let go after 26 s at the latest, also where the others' answers are waited for in vain, so that within the 30 s
// a node's longest pause between two tries is over.
const (
	letGoAfter = 18 * time.Second
	lookEvery  = time.Second
	answerIn   = time.Second      // what the others are asked is in their memory
	certainFor = 6 * time.Second  // what the others say must stand that long: longer than one try to write of ours, which may just be succeeding
	refuseFor  = 3 * time.Second  // longer than a node's longest pause between two tries (retry_back_off in its bootstrap)
	guessEvery = 90 * time.Second // less than the others wait for our nodes, with the usual lease, from their start or from when they have the store again: 105 s
	letGoEvery = 10 * time.Second // those that came back, since they had nowhere to go, or since this one's turn came again
)

// letGo sends nodes to the other replicas while this one cannot write its roster and they can. Nodes that reach no other one come back and are served
// with what is known here.
func (d *Daemon) letGo(ctx context.Context) error {
	ask := func(ctx context.Context) others { return askOthers(ctx, d.rolls.Others(), d.mute) }
	part(ctx, d.rolls.Unheard, ask, func() {
		if n := d.xds.Dismiss(refuseFor); n > 0 {
			d.log.Warn("this replica cannot write to the store, and the others will go on without its nodes: they are sent to them",
				"unheard", d.rolls.Unheard().Round(time.Second), "streams", n)
		}
	})
	return nil
}

// part calls dismiss whenever nodes are to be let go, until ctx ends.
func part(ctx context.Context, unheard func() time.Duration, ask func(context.Context) others, dismiss func()) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var p parting
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		if unheard() < letGoAfter {
			p = parting{}
			continue
		}
		if p.heard(ask(ctx), asked, time.Now()) && ctx.Err() == nil {
			dismiss()
		}
	}
}

// others is what the other replicas say while this one cannot write.
type others int

const (
	asWe      others = iota // there are none, or all say that they cannot write, either
	unknown                 // not all answer: it may be we who are cut off, or they have ended, or their addresses do not lead to them
	betterOff               // one can write
)

// parting decides when nodes are let go. Its zero value is the start of an outage.
type parting struct {
	since   time.Time // the others have said since then, without a break, that they may be going on without us
	last    time.Time // when nodes were let go last
	guesses int       // how often they were although not all had answered
}

// heard takes what the others say at now, having been asked at asked, and reports whether nodes are to be let go now. Where it is not known whether anybody is better off,
// they go seldom: if the store is lost to all, they find nothing better.
func (p *parting) heard(o others, asked, now time.Time) bool {
	if o == asWe {
		p.since = time.Time{}
		return false
	}
	if p.since.IsZero() {
		p.since = asked
	}
	every := letGoEvery
	if o == unknown {
		every = []time.Duration{letGoEvery, letGoEvery, 30 * time.Second, guessEvery}[min(p.guesses, 3)]
	}
	if now.Sub(p.since) < certainFor || now.Sub(p.last) < every {
		return false
	}
	if o == unknown {
		p.guesses++
	}
	p.last = now
	return true
}

// askOthers asks all of them at once.
func askOthers(ctx context.Context, peers []rotation.Peer, mute func(context.Context, rotation.Peer) (bool, error)) others {
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	answers := map[bool]int{}
	for _, p := range peers {
		wg.Go(func() {
			is, err := mute(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				answers[is]++
			}
		})
	}
	wg.Wait()
	switch {
	case answers[false] > 0:
		return betterOff
	case answers[true] == len(peers):
		return asWe
	}
	return unknown
}

func (d *Daemon) mute(ctx context.Context, p rotation.Peer) (bool, error) {
	return admin.PeerMute(ctx, d.peers, p)
}
