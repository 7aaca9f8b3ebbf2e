package presence

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
)

// room is what had none in the records.
type room struct {
	crowd     int       // crowd is how many connected nodes were not remembered at the last look.
	forgotten int       // forgotten counts nodes that have left, since the start.
	last      []string  // last are those of the last look that forgot some.
	at        time.Time // at is when that was.
}

// forgottenFor is how long nodes that were forgotten are a problem.
const forgottenFor = 24 * time.Hour

// noteRoom keeps and logs what a look had no room for.
func (r *Registry) noteRoom(p *plan) {
	var dropped []string
	for _, key := range slices.Sorted(maps.Keys(p.dropped)) {
		dropped = append(dropped, p.dropped[key]...)
	}
	r.mu.Lock()
	more := p.crowd > 0 && r.room.crowd == 0
	r.room.crowd = p.crowd
	if len(dropped) > 0 {
		r.room.forgotten += len(dropped)
		r.room.last, r.room.at = dropped, time.Now()
	}
	r.mu.Unlock()
	if len(dropped) > 0 {
		r.cfg.Log.Warn("nodes that have left are not remembered any more, those that left first: "+
			"there is no room for more", "nodes", len(dropped), "which", few(dropped), "room", shards*shardMax)
	}
	if more {
		r.cfg.Log.Warn("nodes are connected that cannot be remembered when they leave, unless others left before: "+
			"there is no room for more", "nodes", p.crowd, "room", shards*shardMax)
	}
}

// ofRoom says which nodes are not remembered.
func (r *Registry) ofRoom() (out []api.Problem) {
	r.mu.Lock()
	room := r.room
	r.mu.Unlock()
	if room.crowd > 0 {
		p := problems.New(problems.NodesUnremembered, "connected", fmt.Sprintf("%d nodes that are connected here are "+
			"beyond the %d or so that are remembered: when they leave, they may not be listed as gone",
			room.crowd, shards*shardMax))
		p.Count = room.crowd
		out = append(out, p)
	}
	if room.forgotten > 0 && time.Since(room.at) < forgottenFor {
		p := problems.New(problems.NodesUnremembered, "gone", fmt.Sprintf("%d nodes that have left were forgotten for "+
			"others, those that left first; the last ones were %s", room.forgotten, few(room.last)))
		p.Count, p.Since = room.forgotten, room.at
		out = append(out, p)
	}
	return out
}
