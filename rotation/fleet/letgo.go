package fleet

import (
	"context"
	"sync"
	"time"
)

// LetGo has nodes go to the other replicas while this one cannot write its roster and they can,
// until ctx ends. dismiss ends the streams of all nodes, refuses new ones for a time, and returns
// how many it ended. Nodes that reach no other replica come back and are served with what is known
// here.
func (c *Coordinator) LetGo(ctx context.Context, dismiss func(refuse time.Duration) int) error {
	if c.cfg.Peers == nil {
		<-ctx.Done()
		return nil
	}
	ask := func(ctx context.Context) answer { return askOthers(ctx, c.notDead(), c.cfg.Peers.Mute) }
	letGo(ctx, c.unheard, ask, func() {
		if n := dismiss(refuseFor); n > 0 {
			c.cfg.Log.Warn("this replica cannot write to the store, and the others will go on without its nodes: "+
				"they are sent to them",
				"unheard", c.unheard().Round(time.Second), "streams", n)
		}
	})
	return nil
}

// letGo calls dismiss whenever nodes are to be let go, until ctx ends.
func letGo(ctx context.Context, unheard func() time.Duration, ask func(context.Context) answer, dismiss func()) {
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
		if p.due(ask(ctx), asked, time.Now()) && ctx.Err() == nil {
			dismiss()
		}
	}
}

// answer is what the other replicas say while this one cannot write.
type answer int

const (
	// asWe says that there are none, or that all say that they cannot write, either.
	asWe answer = iota
	// unknown says that not all answer, so this replica may be cut off, or they have ended.
	unknown
	betterOff // betterOff says that one of them can write.
)

// parting decides when nodes are let go. Its zero value is the start of an outage.
type parting struct {
	// since is from when on the others have said that they may be going on without this one.
	since   time.Time
	last    time.Time // last is when nodes were let go last.
	guesses int       // guesses counts how often they were although not all had answered.
}

// due takes what the others answer at now to what they were asked at asked, and reports whether
// nodes are to be let go now. If it is not known whether anybody is better off, nodes go seldom.
// They find nothing better if the store is lost to all.
func (p *parting) due(a answer, asked, now time.Time) bool {
	if a == asWe {
		p.since = time.Time{}
		return false
	}
	if p.since.IsZero() {
		p.since = asked
	}
	every := letGoEvery
	if a == unknown {
		every = guessEvery[min(p.guesses, len(guessEvery)-1)]
	}
	if now.Sub(p.since) < certainFor || now.Sub(p.last) < every {
		return false
	}
	if a == unknown {
		p.guesses++
	}
	p.last = now
	return true
}

// askOthers asks all peers at once whether they cannot write.
func askOthers(ctx context.Context, peers []Peer, mute func(context.Context, Peer) (bool, error)) answer {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
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
