package metrics

import (
	"cmp"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/lockstep-tls/lockstep/xds/server"
)

var connected = desc("nodes_connected", "Nodes connected here, by program and version as they say. "+
	"The 20 most frequent are told apart; the rest is other.", "program", "version")

// maxAgents bounds the programs and versions that are told apart, since nodes say what they like.
const maxAgents = 20

func agentMetrics(gauge func(*prometheus.Desc, float64, ...string), all map[server.Agent]int) {
	for _, a := range mostFrequent(all) {
		gauge(connected, float64(a.n), a.Program, a.Version)
	}
}

type counted struct {
	server.Agent
	n int
}

// mostFrequent returns at most 20 agents, and behind them the sum of the others as other.
func mostFrequent(all map[server.Agent]int) (out []counted) {
	keys := slices.SortedFunc(maps.Keys(all), func(a, b server.Agent) int {
		return cmp.Or(all[b]-all[a], cmp.Compare(a.Program, b.Program), cmp.Compare(a.Version, b.Version))
	})
	other := counted{Agent: server.Agent{Program: "other", Version: "other"}}
	for i, k := range keys {
		if i < maxAgents && k != other.Agent {
			out = append(out, counted{k, all[k]})
		} else {
			other.n += all[k]
		}
	}
	if other.n > 0 {
		out = append(out, other)
	}
	return out
}
