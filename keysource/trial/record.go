package trial

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lockstep-tls/lockstep/keysource"
)

// format is the version of the stored form. A record of a higher version was written by a newer
// lockstepd, and is neither read nor overwritten. Unknown fields are skipped, and are lost when
// the record is written again.
const format = 1

// These are the bounds of a record. A record beyond them was not written by lockstepd, and is
// replaced.
const (
	maxContents = 4
	maxKinds    = 64
	maxRecord   = 256 << 10 // bytes
	maxWords    = 500       // bytes of a node's own words
)

// errNewer means that a newer lockstepd wrote a record.
var errNewer = errors.New("the record of who gets a certificate first has a newer format: it is left to the " +
	"newer replicas")

// record is the value of "trial/<name>". It has a trial for each content, since the directories of
// replicas may differ.
type record struct {
	Format   int                 `json:"format"`
	Contents map[string]*content `json:"contents"` // by the version of the certificate
}

type content struct {
	Begun    time.Time             `json:"begun"`
	Released bool                  `json:"released,omitempty"` // every node gets it at once
	Kinds    map[string]*firstNode `json:"kinds,omitempty"`    // by kind of node
}

// firstNode is the node of a kind that goes first.
type firstNode struct {
	// State is a [keysource.Outcome]; an unknown name, of a newer replica, counts as trying.
	State   string    `json:"state"`
	Replica string    `json:"replica"` // the replica to which the node is connected
	Node    string    `json:"node"`
	Since   time.Time `json:"since"`           // when State was reached
	Words   string    `json:"words,omitempty"` // the node's own words, with Refused
}

// decode reads a stored record. Its error wraps errNewer if a newer lockstepd wrote it.
func decode(val []byte) (r record, err error) {
	if len(val) > maxRecord {
		return record{}, fmt.Errorf("a trial's record has %d bytes, more than %d", len(val), maxRecord)
	}
	var head struct {
		Format int `json:"format"`
	}
	if json.Unmarshal(val, &head) == nil && head.Format > format {
		return record{}, errNewer
	}
	if err := json.Unmarshal(val, &r); err != nil {
		return record{}, errors.New("a trial's record cannot be decoded")
	}
	if r.Format != format || len(r.Contents) > maxContents {
		return record{}, fmt.Errorf("a trial's record has format %d with %d contents", r.Format, len(r.Contents))
	}
	for _, c := range r.Contents {
		if c == nil || len(c.Kinds) > maxKinds {
			return record{}, errors.New("a trial's record lacks a content, or has too many kinds of nodes")
		}
		for _, o := range c.Kinds {
			if o == nil {
				return record{}, errors.New("a trial's record lacks a node")
			}
			o.Words = boundWords(o.Words)
		}
	}
	return r, nil
}

func (r record) encode() ([]byte, error) {
	r.Format = format
	return json.Marshal(r)
}

// of returns the trial of a content, and makes it if there is none. The oldest trial is dropped if
// there are too many.
func (r *record) of(version string, now time.Time) *content {
	if c := r.Contents[version]; c != nil {
		return c
	}
	if r.Contents == nil {
		r.Contents = map[string]*content{}
	}
	for len(r.Contents) >= maxContents {
		oldest := slices.MinFunc(slices.Sorted(maps.Keys(r.Contents)), func(a, b string) int {
			return r.Contents[a].Begun.Compare(r.Contents[b].Begun)
		})
		delete(r.Contents, oldest)
	}
	c := &content{Begun: now.UTC()}
	r.Contents[version] = c
	return c
}

func (o *firstNode) outcome() keysource.Outcome {
	for _, out := range []keysource.Outcome{keysource.Accepted, keysource.Refused, keysource.Silent} {
		if o.State == out.String() {
			return out
		}
	}
	return keysource.Trying
}

// verdict returns o as the replica sees it.
func (o *firstNode) verdict(replica string) keysource.Verdict {
	out := o.outcome()
	return keysource.Verdict{Outcome: out, Ours: out == keysource.Trying &&
		o.Replica == replica, Node: o.Node, Words: o.Words, Since: o.Since}
}

// refused returns the time of the latest refusal that still counts. It is zero if there is none.
func (r record) refused() (last time.Time) {
	for _, c := range r.Contents {
		for _, o := range c.Kinds {
			if !c.Released && o.outcome() == keysource.Refused && o.Since.After(last) {
				last = o.Since
			}
		}
	}
	return last
}

// boundWords bounds a node's words, and keeps them valid UTF-8.
func boundWords(words string) string {
	words = strings.ToValidUTF8(words, "?")
	if len(words) <= maxWords {
		return words
	}
	n := maxWords
	for !utf8.RuneStart(words[n]) {
		n--
	}
	return words[:n]
}
