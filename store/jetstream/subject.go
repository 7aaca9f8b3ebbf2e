package jetstream

import (
	"fmt"
	"strings"

	"github.com/lockstep-tls/lockstep/store"
)

// maxKey bounds a key in bytes: with the prefix it has to fit into the line of a NATS request (4096
// bytes).
const maxKey = 2048

// A key's segments are the tokens of its subject, so that the server can filter by whole segments.
// What parts segments in one parts tokens in the other: "/" and "." change places. An empty segment
// is "%", which no key holds.
var (
	toTokens = strings.NewReplacer("/", ".", ".", "/")
	empty    = "%"
)

// subject is where the value of key is stored, below the prefix ("lockstep.store.<bucket>.").
func (s *Store) subject(key string) (string, error) {
	if key == "" || len(key) > maxKey || !possible(key) {
		return "", fmt.Errorf("store: %.100q is not a key that store.Key makes, of at most %d bytes", key, maxKey)
	}
	return s.prefix + tokens(key), nil
}

func tokens(key string) string {
	segments := strings.Split(toTokens.Replace(key), ".")
	for i, token := range segments {
		if token == "" {
			segments[i] = empty
		}
	}
	return strings.Join(segments, ".")
}

// key undoes subject; not ok is a subject that it never returns.
func (s *Store) key(subject string) (key string, ok bool) {
	rest, ok := strings.CutPrefix(subject, s.prefix)
	if !ok {
		return "", false
	}
	segments := strings.Split(rest, ".")
	for i, token := range segments {
		if token == empty {
			segments[i] = ""
		}
	}
	key = toTokens.Replace(strings.Join(segments, "."))
	return key, possible(key)
}

// filter matches the subjects of all keys that begin with prefix. Where prefix ends inside a
// segment it matches more.
func (s *Store) filter(prefix string) string {
	end := strings.LastIndexByte(prefix, '/')
	if end < 0 {
		return s.prefix + ">"
	}
	return s.prefix + tokens(prefix[:end]) + ".>"
}

// possible says whether a key that [store.Key] makes may begin with s.
func possible(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' ||
			c >= '0' && c <= '9' || strings.IndexByte("._-=/", c) >= 0) {
			return false
		}
	}
	return true
}

// rev is the revision of the message with sequence seq. The last bit is set for a delete, so that
// its revision is never mistaken for that of a value, without a look at the message.
func rev(seq uint64, deleted bool) store.Rev {
	r := store.Rev(seq) << 1
	if deleted {
		r |= 1
	}
	return r
}

func sequence(r store.Rev) uint64 { return uint64(r >> 1) }
func ofDelete(r store.Rev) bool   { return r&1 != 0 }
func upTo(seq uint64) store.Rev   { return rev(seq, true) } // whatever the message was
