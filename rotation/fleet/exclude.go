package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

// Exclude lets rollouts go on without a node for a time. A time of 0 takes the exclusion back; see
// [rotation.Rollout.Exclude]. A node that is on no roster of the scope is refused with
// [keysource.ErrNotExist], and the error names those that may be meant. A member that stands for
// others is no node.
func (c *Coordinator) Exclude(ctx context.Context, scope, node, by, why string, d time.Duration) error {
	return c.change(ctx, scope, func(v view) (rotation.Rollout, error) {
		if _, again := v.r.Excluded[node]; d > 0 && node != "" && !again && !hasNode(v.t.Members, node) {
			return v.r, c.unknown(scope, node, v.t.Members)
		}
		return v.r.Exclude(node, by, why, v.now.Add(d), v.now)
	})
}

func hasNode(ms []rotation.Member, node string) bool {
	return slices.ContainsFunc(ms, func(m rotation.Member) bool { return m.Node == node && !m.Sum })
}

// unknown says that a scope knows no such node, and which may be meant.
func (c *Coordinator) unknown(scope, node string, ms []rotation.Member) error {
	absent := func(format string, a ...any) error {
		return fmt.Errorf("node %q %w in scope %q: %s", node, keysource.ErrNotExist, scope, fmt.Sprintf(format, a...))
	}
	for _, m := range ms {
		if m.Sum && node == m.Node || m.Sum && node == m.Name() {
			return absent("it stands for nodes that are not known here one by one; " +
				"exclude a node by its own id, at the replica that it came to")
		}
		if m.Name() == node {
			return absent("it is a further stream of the node %q, and a node is excluded with all its streams", m.Node)
		}
	}
	var elsewhere []string
	for _, other := range c.Scopes() {
		if st, err := c.Status(other); err == nil && other != scope && hasNode(st.Members, node) {
			elsewhere = append(elsewhere, fmt.Sprintf("%q", other))
		}
	}
	if len(elsewhere) > 0 {
		return absent("it is a node of scope %s", strings.Join(elsewhere, ", "))
	}
	near, known := nearest(node, ms)
	switch {
	case known == 0:
		return absent("it has no nodes now")
	case len(near) > 0:
		return absent("the nearest of its %d nodes is %s", known, strings.Join(near, ", "))
	}
	return absent("none of its %d nodes is named alike", known)
}

const (
	// maxNear are named.
	maxNear = 3
	// nearBy is how many letters may be wrong in a name that counts as near.
	nearBy = 3
)

// nearest returns those ids that differ in few letters, the nearest first, and how many ids there
// are.
func nearest(node string, ms []rotation.Member) (near []string, known int) {
	apart := map[string]int{}
	all := map[string]struct{}{}
	for i := range ms {
		id := ms[i].Node
		if _, seen := all[id]; seen || ms[i].Sum {
			continue
		}
		all[id] = struct{}{}
		longer := max(len(id), len(node)) - min(len(id), len(node))
		switch {
		case strings.EqualFold(id, node):
			apart[id] = 0
		case strings.HasPrefix(id, node) && node != "":
			apart[id] = 1
		case longer <= nearBy:
			if d := distance(id, node); d <= nearBy && 2*d < max(len(id), len(node)) {
				apart[id] = d
			}
		}
	}
	for id := range apart {
		near = append(near, id)
	}
	slices.SortFunc(near, func(a, b string) int { return cmp.Or(apart[a]-apart[b], strings.Compare(a, b)) })
	return near[:min(len(near), maxNear)], len(all)
}

// distance returns how many letters must be changed, added or left out to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			wrong := diagonal
			if a[i] != b[j] {
				wrong++
			}
			diagonal = row[j+1]
			row[j+1] = min(wrong, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
