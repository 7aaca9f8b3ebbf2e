package presence

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// The nodes are spread over records, so that no record grows beyond what a store takes, and a
// change of one node rewrites few others.
const (
	shards = 64
	// shardMax is how many nodes a record has: 64 × 200 are some 12 000 in all.
	shardMax = 200
)

// shard is one record: some of the nodes, by id. A field that this version does not know is kept.
type shard struct {
	nodes map[string]known
	extra map[string]json.RawMessage
}

// known is what is remembered of a node.
type known struct {
	// Replica is where it is connected, or was last.
	Replica string
	// Connected is false from when it left that replica.
	Connected bool
	// At is when it came or left, by the store's clock.
	At time.Time
	// Gone reports that it was away for longer than its lease, and that this was told.
	Gone     bool
	Identity string
	Rings    map[string]string // Rings are the versions that it accepted last, by scope.

	extra map[string]json.RawMessage
}

// shardOf returns the key of the record that has the node.
func shardOf(id string) string {
	h := fnv.New32a()
	h.Write([]byte(id))
	return store.KnownNodes.Key(fmt.Sprintf("%02x", h.Sum32()%shards))
}

func decodeShard(val []byte) (s shard, err error) {
	s.nodes = map[string]known{}
	if len(val) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(val, &s.extra); err != nil {
		return s, err
	}
	if b, ok := s.extra["nodes"]; ok {
		err = json.Unmarshal(b, &s.nodes)
		delete(s.extra, "nodes")
	}
	return s, err
}

func (s shard) encode() ([]byte, error) {
	out := maps.Clone(s.extra)
	if out == nil {
		out = map[string]json.RawMessage{}
	}
	var err error
	if out["nodes"], err = json.Marshal(s.nodes); err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// fields are those of a known node that this version knows.
func (k *known) fields() map[string]any {
	return map[string]any{
		"replica": &k.Replica, "connected": &k.Connected, "at": &k.At, "gone": &k.Gone, "identity": &k.Identity,
		"rings": &k.Rings,
	}
}

// UnmarshalJSON implements [json.Unmarshaler].
func (k *known) UnmarshalJSON(b []byte) error {
	*k = known{}
	if err := json.Unmarshal(b, &k.extra); err != nil {
		return err
	}
	for name, to := range k.fields() {
		if raw, ok := k.extra[name]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			delete(k.extra, name)
		}
	}
	return nil
}

// MarshalJSON implements [json.Marshaler].
func (k known) MarshalJSON() ([]byte, error) {
	out := maps.Clone(k.extra)
	if out == nil {
		out = map[string]json.RawMessage{}
	}
	for name, from := range k.fields() {
		raw, err := json.Marshal(from)
		if err != nil {
			return nil, err
		}
		out[name] = raw
	}
	return json.Marshal(out)
}

// put sets a node, and reports whether there was room. A node that is connected takes nobody's
// place, since each look would put it there again. One that has left takes the place of the node
// that left first, which is returned.
func (s shard) put(id string, k known) (ok bool, gaveWay string) {
	if _, there := s.nodes[id]; !there && len(s.nodes) >= shardMax {
		oldest := s.oldest()
		if k.Connected || oldest == "" || s.nodes[oldest].At.After(k.At) {
			return false, ""
		}
		delete(s.nodes, oldest)
		gaveWay = oldest
	}
	s.nodes[id] = k
	return true, gaveWay
}

// oldest is the node that left first. It is empty if all are connected.
func (s shard) oldest() string {
	ids := slices.Collect(maps.Keys(s.nodes))
	ids = slices.DeleteFunc(ids, func(id string) bool { return s.nodes[id].Connected })
	if len(ids) == 0 {
		return ""
	}
	return slices.MinFunc(ids, func(a, b string) int {
		return cmp.Or(s.nodes[a].At.Compare(s.nodes[b].At), cmp.Compare(a, b))
	})
}
