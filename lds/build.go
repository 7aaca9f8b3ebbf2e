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

// build is a template and the hosts that are eager: all that is served between two changes.
type build struct {
	template *Template
	hosts    []keysource.Name // sorted
	chains   map[keysource.Name][]byte
	policy   Policy // nil: everybody may have everything
	note     func(version string, hosts []keysource.Name)

	mu   sync.Mutex
	who  map[string]*xds.Resource            // by identity
	sets map[[sha256.Size]byte]*xds.Resource // by the hosts: many identities share one
	kept int                                 // bytes of sets
}

const (
	// maxKnown bounds what is kept of identities, whoever connects.
	maxKnown = 1 << 16
	// maxKept bounds the bytes of listeners that are kept encoded; at 2000 hosts one is some 2 MB. What is beyond is put together each time a node is looked after.
	maxKept = 64 << 20
)

// newBuild encodes the chains that the last build (nil: none) does not have.
func newBuild(t *Template, hosts []keysource.Name, p Policy, last *build, note func(string, []keysource.Name)) (*build, error) {
	b := &build{
		template: t, hosts: hosts, policy: p, note: note, chains: make(map[keysource.Name][]byte, len(hosts)),
		who: map[string]*xds.Resource{}, sets: map[[sha256.Size]byte]*xds.Resource{},
	}
	for _, h := range hosts {
		if last != nil && last.template == t && last.chains[h] != nil {
			b.chains[h] = last.chains[h]
			continue
		}
		chain, err := t.eager(h)
		if err != nil {
			return nil, err
		}
		b.chains[h] = chain
	}
	if p == nil {
		b.who[""], _ = b.of(hosts)
	}
	return b, nil
}

// listener is what a node of that identity is sent: the chains of those hosts that it may have.
func (b *build) listener(identity string) *xds.Resource {
	if b.policy == nil {
		identity = ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.who[identity]; r != nil {
		return r
	}
	if len(b.who) >= maxKnown {
		clear(b.who)
		clear(b.sets)
		b.kept = 0
	}
	var hosts []keysource.Name
	if b.policy.AllowsScope(identity, b.template.opt.Scope) { // a chain without a ring would keep the port closed
		hosts = slices.DeleteFunc(slices.Clone(b.hosts), func(h keysource.Name) bool { return !b.policy.AllowsName(identity, h) })
	}
	r, kept := b.of(hosts)
	if kept {
		b.who[identity] = r
	}
	return r
}

// of is the listener with the chains of hosts, which must be among b.hosts, in order; kept: the same is returned next time. The on-demand chain comes last.
func (b *build) of(hosts []keysource.Name) (r *xds.Resource, kept bool) {
	set := sha256.New()
	size := len(b.template.base) + len(b.template.onDemand)
	for _, h := range hosts {
		set.Write([]byte(h))
		set.Write([]byte{0})
		size += len(b.chains[h])
	}
	key := [sha256.Size]byte(set.Sum(nil))
	if r := b.sets[key]; r != nil {
		return r, true
	}
	match, err := matcher(hosts)
	if err != nil { // of names alone: it cannot be
		match = nil
	}
	size += len(match)
	body := bytes.NewBuffer(make([]byte, 0, size))
	body.Write(b.template.base)
	for _, h := range hosts {
		body.Write(b.chains[h])
	}
	body.Write(b.template.onDemand)
	body.Write(match)
	sum := sha256.Sum256(body.Bytes())
	r = &xds.Resource{
		Name: b.template.name, Version: hex.EncodeToString(sum[:12]), Body: &anypb.Any{TypeUrl: TypeURL, Value: body.Bytes()},
	}
	b.note(r.Version, hosts)
	if len(b.sets) > 0 && b.kept+size > maxKept {
		return r, false
	}
	b.sets[key] = r
	b.kept += size
	return r, true
}
