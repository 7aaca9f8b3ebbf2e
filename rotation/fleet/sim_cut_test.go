package fleet

import (
	"slices"
	"time"
)

// sever cuts a replica off from the store, or joins it again. What it was doing fails.
func (w *world) sever(c *simReplica, cut bool) {
	if cut && !c.cut {
		for _, e := range c.asked {
			e.asked = !e.ready
		}
		c.step, c.asked = 0, nil
	}
	c.cut = cut
	for _, c := range w.replicas {
		switch {
		case !c.cut || !slices.ContainsFunc(w.replicas, func(o *simReplica) bool { return !o.cut }):
			c.unlike = time.Time{}
		case c.unlike.IsZero():
			c.unlike = w.now
			for _, n := range w.nodes {
				if n.at == c && n.stream != 0 && !w.known(n) && n.back {
					n.back, n.away = false, w.now
				}
			}
		}
	}
}

// pass lets time go by. A replica that is cut off lets its nodes go while that is due, as
// lockstepd does.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for _, c := range w.replicas {
		if c.unlike.IsZero() || w.clinging {
			continue
		}
		// until it is certain that others are better off
		const sure = certainFor + answerWithin + lookEvery
		if at := latest(c.said.Add(letGoAfter+sure), c.unlike.Add(sure), w.now); !at.After(end) {
			w.now = at
			w.act()
			w.dismiss(c)
		}
	}
	w.now = end
}

func (w *world) dismiss(c *simReplica) {
	for _, n := range w.nodes {
		if n.at != c || n.stream == 0 {
			continue
		}
		w.disconnect(n)
		if w.rnd.IntN(3) > 0 {
			i := slices.IndexFunc(w.replicas, func(o *simReplica) bool { return !o.cut })
			w.connect(n, w.replicas[i])
		}
	}
}
