package events

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"sort"
	"strings"
)

const (
	// hostChars is the length of what stands for a host, a part of a digest.
	hostChars = 8
	// maxHosts bounds the hosts of one event. Further ones are not found.
	maxHosts = 50_000
)

// Hosts are the names that one event stands for, as parts of digests in their order. The record of
// what happened finds it by each of them, although it does not list them.
type Hosts string

// HostsOf returns the hosts of these names.
func HostsOf[N ~string](names ...N) Hosts {
	all := make([]string, 0, len(names))
	for _, name := range names {
		all = append(all, hostOf(string(name)))
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return Hosts(strings.Join(all[:min(len(all), maxHosts)], ""))
}

func hostOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return base64.RawURLEncoding.EncodeToString(sum[:hostChars*6/8])
}

// Has reports whether name is among h.
func (h Hosts) Has(name string) bool {
	want, n := hostOf(name), len(h)/hostChars
	i := sort.Search(n, func(i int) bool { return h.at(i) >= want })
	return i < n && h.at(i) == want
}

func (h Hosts) at(i int) string { return string(h[i*hostChars : (i+1)*hostChars]) }

// And returns the hosts of both.
func (h Hosts) And(o Hosts) Hosts {
	if h == "" || o == "" {
		return h + o
	}
	var all []string
	for _, of := range []Hosts{h, o} {
		for i := range len(of) / hostChars {
			all = append(all, of.at(i))
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return Hosts(strings.Join(all[:min(len(all), maxHosts)], ""))
}
