package replica

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/store"
)

// maxText bounds a text of a record.
const maxText = 100

// record is what a replica says of itself. Only that replica writes it. A field that this version
// does not know is kept.
type record struct {
	Version string
	// Started is when its process started, and At when it wrote this, by the store's clock.
	Started, At time.Time
	// Stopped reports that the replica has stopped on purpose.
	Stopped bool
	// Run is a random word of the process. Admin is the URL of its admin API.
	Run, Admin string
	// Mixed is since when the replicas have different versions, by the store's clock.
	Mixed time.Time

	extra map[string]json.RawMessage
}

func keyOf(name string) string { return store.Replicas.Key(name) }

// fields are those that this version knows.
func (r *record) fields() map[string]any {
	return map[string]any{
		"version": &r.Version, "started": &r.Started, "at": &r.At, "stopped": &r.Stopped,
		"run": &r.Run, "admin": &r.Admin, "mixed": &r.Mixed,
	}
}

// decode reads a record. A field that is missing is zero.
func decode(val []byte) (r record, err error) {
	if err := json.Unmarshal(val, &r.extra); err != nil {
		return record{}, err
	}
	for name, to := range r.fields() {
		if raw, ok := r.extra[name]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return record{}, fmt.Errorf("%s: %w", name, err)
			}
			delete(r.extra, name)
		}
	}
	for _, text := range []*string{&r.Version, &r.Run, &r.Admin} {
		if *text = strings.ToValidUTF8(*text, "?"); len(*text) > maxText {
			*text = strings.ToValidUTF8((*text)[:maxText], "")
		}
	}
	return r, nil
}

func (r record) encode() ([]byte, error) {
	out := maps.Clone(r.extra)
	if out == nil {
		out = map[string]json.RawMessage{}
	}
	for name, from := range r.fields() {
		raw, err := json.Marshal(from)
		if err != nil {
			return nil, err
		}
		out[name] = raw
	}
	return json.Marshal(out)
}
