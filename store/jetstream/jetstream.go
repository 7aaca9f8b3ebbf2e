package jetstream

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-tls/lockstep/store"
)

// Store keeps the [store.Store] contract in a stream. Safe for concurrent use. Every request is
// given up after 5 s at the latest; when the cluster is back it goes on by itself.
//
// If the stream is gone, every method's error wraps [store.ErrLost], until [Store.Recreate].
type Store struct {
	conn     *nats.Conn
	js       jetstream.JetStream
	bucket   string
	replicas int
	maxBytes int64
	domain   string
	api      string // of the requests to JetStream, with its dot
	prefix   string // of all subjects, with its dot
	log      *slog.Logger
	refusals *refusals

	name   atomic.Pointer[string] // of the stream
	drops  atomic.Bool            // it has a limit beyond which records are dropped
	seen   atomic.Uint64          // the highest sequence that this process knows of
	newest newest
}

// Open connects, and makes the stream if there is none. It needs a majority of the servers.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	refusals := &refusals{}
	conn, err := cfg.connect(refusals.note)
	if err != nil {
		return nil, err
	}
	s := &Store{
		conn: conn, bucket: cfg.Bucket, replicas: cfg.Replicas, maxBytes: cfg.MaxBytes, domain: cfg.Domain,
		api: "$JS.API.", prefix: "lockstep.store." + cfg.Bucket + ".", log: cfg.Log, refusals: refusals,
	}
	s.name.Store(new(string))
	if s.domain == "" {
		s.js, err = jetstream.New(conn)
	} else {
		s.api = "$JS." + s.domain + ".API."
		s.js, err = jetstream.NewWithDomain(conn, s.domain)
	}
	if err == nil {
		err = s.Recreate(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// Close ends all use; calls under way fail.
func (s *Store) Close() { s.conn.Close() }

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	subject, err := s.subject(key)
	if err != nil {
		return nil, 0, err
	}
	m, found, err := s.load(ctx, query{Last: subject})
	if err != nil {
		return nil, 0, err
	}
	if !found || m.deleted {
		return nil, 0, fmt.Errorf("%w: %s", store.ErrNotExist, key)
	}
	if m.data == nil {
		m.data = []byte{} // nil is no value
	}
	return m.data, rev(m.seq, false), nil
}

// GetAll implements [store.Store].
func (s *Store) GetAll(ctx context.Context, keys []string) []store.Value {
	return store.OneByOne(s).GetAll(ctx, keys)
}

// SwapAll implements [store.Store].
func (s *Store) SwapAll(ctx context.Context, changes []store.Change) []store.Outcome {
	return store.OneByOne(s).SwapAll(ctx, changes)
}

// KeysAfter implements [store.Store].
func (s *Store) KeysAfter(ctx context.Context, prefix, last string) iter.Seq2[string, error] {
	return store.OneByOne(s).KeysAfter(ctx, prefix, last)
}

// Now implements [store.Store]: the clock of the server that leads the stream.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	info, err := s.info(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if info.TimeStamp.IsZero() {
		return time.Time{}, errors.New("store: NATS does not tell its time: it needs to be 2.11 or later")
	}
	return info.TimeStamp, nil
}

func (s *Store) stream() string { return *s.name.Load() }

// see remembers how far the stream was.
func (s *Store) see(seq uint64) {
	for old := s.seen.Load(); seq > old && !s.seen.CompareAndSwap(old, seq); old = s.seen.Load() {
	}
}
