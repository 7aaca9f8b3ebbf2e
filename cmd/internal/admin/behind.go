package admin

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

const (
	// behindFor is how long a node may have an older certificate than the newest.
	behindFor = 5 * time.Minute
	// lookAgain is how old a look at all certificates of all streams may be. Many hosts make it
	// long.
	lookAgain = 30 * time.Second
	// maxFollowed bounds the certificates on streams that are followed.
	maxFollowed = 10_000
)

// behind finds the nodes that have older certificates than the newest for long. Its zero value is
// ready, and it is safe for concurrent use.
type behind struct {
	mu    sync.Mutex
	at    time.Time // at is when the last look was.
	since map[onStream]time.Time
	found api.StaleCertificates
}

// onStream is a certificate on a stream.
type onStream struct {
	stream uint64
	name   string
}

// look returns what streams shows at now, or what it showed within 30 s.
func (b *behind) look(now time.Time, streams func(keep func(string, server.NameState) bool) []server.StreamView,
) api.StaleCertificates {
	b.mu.Lock()
	defer b.mu.Unlock()
	if age := now.Sub(b.at); !b.at.IsZero() && age >= 0 && age < lookAgain {
		return b.found
	}
	stale := func(_ string, st server.NameState) bool { return st.State(now) == stateStale }
	since := map[onStream]time.Time{}
	var found api.StaleCertificates
	nodes := map[string]bool{}
	for _, s := range streams(stale) {
		for _, v := range s.Names {
			if _, ring := keysource.RingScope(v.Name); s.Node.ID == "" || ring || v.Type != sds.TypeURL {
				continue
			}
			k := onStream{s.Node.Stream, v.Name}
			from, known := b.since[k]
			switch {
			case known:
			case v.Sent == v.Current && !v.SentAt.IsZero():
				from = v.SentAt // it has not answered
			default:
				from = now // it is to be sent, and was not yet
			}
			if len(since) < maxFollowed {
				since[k] = from
			}
			if now.Sub(from) < behindFor {
				continue
			}
			nodes[s.Node.ID] = true
			if found.Node == "" || from.Before(found.Since) {
				found.Node, found.Name, found.Since = s.Node.ID, v.Name, from
			}
		}
	}
	found.Nodes, found.IDs = len(nodes), someIDs(maps.Keys(nodes))
	b.at, b.since, b.found = now, since, found
	return found
}

// addStale sums up what two replicas say.
func addStale(a, b api.StaleCertificates) api.StaleCertificates {
	if a.Node == "" || b.Node != "" && b.Since.Before(a.Since) {
		a.Node, a.Name, a.Since = b.Node, b.Name, b.Since
	}
	a.Nodes, a.IDs = sumNodes(a.Nodes, a.IDs, b.Nodes, b.IDs)
	return a
}

// maxIDs bounds the ids of nodes that one replica tells another.
const maxIDs = 100

// someIDs are the first of all, by name.
func someIDs(all iter.Seq[string]) []string {
	ids := slices.Sorted(all)
	return ids[:min(len(ids), maxIDs)]
}

// sumNodes counts the nodes that two replicas say, n with ids and m with more. A node with streams
// to both counts once. If some ids are not known, there are at least as many as it returns.
func sumNodes(n int, ids []string, m int, more []string) (int, []string) {
	both := map[string]bool{}
	for _, id := range slices.Concat(ids, more) {
		both[id] = true
	}
	total := len(both)
	if len(ids) < n || len(more) < m {
		total = max(total, n, m)
	}
	return total, someIDs(maps.Keys(both))
}

// nodesOf is a number of nodes in words.
func nodesOf(n int, ids []string) string {
	if len(ids) < n {
		return fmt.Sprintf("at least %d nodes", n)
	}
	return fmt.Sprintf("%d nodes", n)
}

// ofStale says which nodes do not take the newest certificate.
func ofStale(s api.StaleCertificates) []api.Problem {
	if s.Nodes == 0 {
		return nil
	}
	p := problems.New(problems.CertificatesStale, "", fmt.Sprintf("%s have an older certificate than the "+
		"newest for more than 5m: %s has not taken that of %s", nodesOf(s.Nodes, s.IDs), s.Node, s.Name))
	p.Next = "lockstep nodes " + s.Node + "; restart that node if it does not answer"
	p.Since, p.Count = s.Since, s.Nodes
	return []api.Problem{p}
}
