package lds

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// build is a template and the eager hosts: all that is served between two changes.
type build struct {
	template *Template
	// hosts has the hosts, sorted, and the names of their second certificates where there are any.
	hosts []keysource.Name
	// chains has the chain of each host, under the name of its second certificate if it has one.
	chains map[keysource.Name][]byte
	policy Policy // nil allows everything to everybody
	note   func(version string, hosts []keysource.Name)

	mu         sync.Mutex
	byIdentity map[string]*xds.Resource // the listeners, by identity
	// byHosts is the listeners, by the hash of their hosts; many identities share one.
	byHosts   map[[sha256.Size]byte]*xds.Resource
	keptBytes int // bytes of byHosts
}

const (
	// maxIdentities bounds for how many identities listeners are kept, whoever connects.
	maxIdentities = 1 << 16
	// maxKeptBytes bounds the bytes of listeners that are kept encoded. With 2000 hosts one has
	// some 2 MB. A listener beyond that is put together each time that a node is looked after.
	maxKeptBytes = 64 << 20
)

// newBuild encodes the chains that the last build does not have. last may be nil.
func newBuild(t *Template, hosts []keysource.Name, p Policy, last *build, note func(string, []keysource.Name)) (*build,
	error) {
	b := &build{
		template: t, hosts: hosts, policy: p, note: note, chains: make(map[keysource.Name][]byte, len(hosts)),
		byIdentity: map[string]*xds.Resource{}, byHosts: map[[sha256.Size]byte]*xds.Resource{},
	}
	known := chainsOf(last, t)
	for i, h := range hosts {
		if h.IsSecond() {
			continue
		}
		both := hasSecond(hosts, i)
		k := chainKey(h, both)
		if known[k] != nil {
			b.chains[k] = known[k]
			continue
		}
		chain, err := t.eager(h, both)
		if err != nil {
			return nil, err
		}
		b.chains[k] = chain
	}
	if p == nil {
		b.byIdentity[""], _ = b.of(hosts)
	}
	return b, nil
}

// chainsOf returns the chains of b, if it has the template t. b may be nil.
func chainsOf(b *build, t *Template) map[keysource.Name][]byte {
	if b == nil || b.template != t {
		return nil
	}
	return b.chains
}

// hasSecond reports whether hosts has the second certificate of hosts[i]. It sorts behind its host,
// and only names that the host begins stand between them.
func hasSecond(hosts []keysource.Name, i int) bool {
	_, ok := slices.BinarySearch(hosts[i:], hosts[i].Second())
	return ok
}

func chainKey(host keysource.Name, both bool) keysource.Name {
	if both {
		return host.Second()
	}
	return host
}

// listener returns what a node of that identity is sent: the chains of those hosts that it may
// have.
func (b *build) listener(identity string) *xds.Resource {
	if b.policy == nil {
		identity = ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.byIdentity[identity]; r != nil {
		return r
	}
	if len(b.byIdentity) >= maxIdentities {
		clear(b.byIdentity)
		clear(b.byHosts)
		b.keptBytes = 0
	}
	var hosts []keysource.Name
	// Without a ring a chain would keep the port closed.
	if b.policy.AllowsScope(identity, b.template.opt.Scope) {
		hosts = slices.DeleteFunc(slices.Clone(b.hosts),
			func(h keysource.Name) bool { return !b.policy.AllowsName(identity, h.Host()) })
	}
	r, kept := b.of(hosts)
	if kept {
		b.byIdentity[identity] = r
	}
	return r
}

// of returns the listener with the chains of hosts, which must be among b.hosts, in order. With a
// host goes its second certificate. kept reports that the same listener is returned next time. The
// on-demand chain comes last.
func (b *build) of(hosts []keysource.Name) (r *xds.Resource, kept bool) {
	set := sha256.New()
	size := len(b.template.base) + len(b.template.onDemand)
	for _, h := range hosts {
		set.Write([]byte(h))
		set.Write([]byte{0})
		size += len(b.chains[h]) // each chain once, since it is under one of two names
	}
	key := [sha256.Size]byte(set.Sum(nil))
	if r := b.byHosts[key]; r != nil {
		return r, true
	}
	match, err := matcher(hosts)
	if err != nil { // this cannot happen with names alone
		match = nil
	}
	size += len(match)
	body := bytes.NewBuffer(make([]byte, 0, size))
	body.Write(b.template.base)
	for i, h := range hosts {
		if !h.IsSecond() {
			body.Write(b.chains[chainKey(h, hasSecond(hosts, i))])
		}
	}
	body.Write(b.template.onDemand)
	body.Write(match)
	sum := sha256.Sum256(body.Bytes())
	r = &xds.Resource{
		Name: b.template.name, Version: hex.EncodeToString(sum[:12]),
		Body: &anypb.Any{TypeUrl: TypeURL, Value: body.Bytes()},
	}
	b.note(r.Version, hosts)
	if len(b.byHosts) > 0 && b.keptBytes+size > maxKeptBytes {
		return r, false
	}
	b.byHosts[key] = r
	b.keptBytes += size
	return r, true
}
