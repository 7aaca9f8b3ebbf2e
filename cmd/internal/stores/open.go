package stores

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/settings"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/bolt"
	"github.com/lockstep-tls/lockstep/store/jetstream"
	"github.com/lockstep-tls/lockstep/store/redis"
)

// Store is an open store that can be closed.
type Store interface {
	store.Store
	io.Closer
}

// Open opens the store that where names. It is a URL, or a data directory, which is made if it is
// missing.
func Open(ctx context.Context, where string) (Store, error) { return OpenLogging(ctx, where, nil) }

// OpenLogging is Open of a store that logs what its servers do. If log is nil, nothing is logged.
func OpenLogging(ctx context.Context, where string, log *slog.Logger) (Store, error) {
	switch scheme, _, isURL := strings.Cut(where, "://"); {
	case isURL && (scheme == "nats" || scheme == "tls"):
		c, err := jetstream.ParseURL(where)
		if err != nil {
			return nil, err
		}
		c.Log = log
		s, err := jetstream.Open(ctx, c)
		if err != nil {
			return nil, err
		}
		return natsStore{s}, nil
	case strings.HasPrefix(scheme, "redis") && isURL:
		c, err := redis.ParseURL(where)
		if err != nil {
			return nil, err
		}
		c.Log = log
		return redis.Open(ctx, c)
	case isURL:
		return nil, unknown(where, scheme)
	}
	if err := os.MkdirAll(where, 0o700); err != nil {
		return nil, err
	}
	return bolt.Open(filepath.Join(where, embedded))
}

// OpenToRead opens the embedded store of a data directory to read. The errors are those of
// [bolt.OpenToRead].
func OpenToRead(dir string) (Store, error) {
	s, err := bolt.OpenToRead(filepath.Join(dir, embedded))
	if err != nil {
		return nil, err
	}
	return s, nil
}

// ErrInUse is [bolt.ErrInUse].
var ErrInUse = bolt.ErrInUse

// Faults returns everything for which Open would refuse a URL without a word to the store. That is
// the URL itself, and the files that it names.
func Faults(where string) []error {
	scheme, _, isURL := strings.Cut(where, "://")
	switch {
	case isURL && (scheme == "nats" || scheme == "tls"):
		c, err := jetstream.ParseURL(where)
		if err != nil {
			return []error{err}
		}
		return c.Faults()
	case isURL && strings.HasPrefix(scheme, "redis"):
		c, err := redis.ParseURL(where)
		if err != nil {
			return []error{err}
		}
		return c.Faults()
	case isURL:
		return []error{unknown(where, scheme)}
	}
	return nil
}

func unknown(where, scheme string) error {
	return fmt.Errorf("store %s: %s is no kind of store", settings.Redact(where), scheme)
}

// natsStore gives Close the error that [Store] wants. There never is one.
type natsStore struct{ *jetstream.Store }

func (s natsStore) Close() error { s.Store.Close(); return nil }

// Files of a data directory. The sealing key stands there unless --kek names another source.
const (
	embedded = "store.db"
	KeyFile  = "sealing.key"
)

// HasEmbedded reports whether the data directory holds an embedded store.
func HasEmbedded(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, embedded))
	return err == nil
}

// IsURL reports whether where names a store by its URL, and not a data directory.
func IsURL(where string) bool { return strings.Contains(where, "://") }
