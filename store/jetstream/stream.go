package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-tls/lockstep/store"
)

// subjectOverlap is the server's code for a stream whose subjects another one has (its errors.json,
// 10065).
const subjectOverlap jetstream.ErrorCode = 10065

// settle is how long after its creation a stream of a single server is not yet taken for the only
// one: such a server lets two pass that are made at the same moment on the same subjects, and
// whoever made the second one then removes it. A cluster makes one after the other.
const settle = 300 * time.Millisecond

// Recreate implements [store.Store]. It takes the store's stream as it stands, or makes an empty
// one if there is none.
func (s *Store) Recreate(ctx context.Context) error {
	return s.persist(ctx, func(ctx context.Context) (bool, error) {
		name, err := s.find(ctx)
		if errors.Is(err, store.ErrLost) {
			name, err = s.create(ctx)
		}
		if err != nil {
			return transient(err), err
		}
		s.name.Store(&name)
		return false, nil
	})
}

// errForeign: the stream that has the subjects is not as this package makes it.
var errForeign = errors.New("store: a stream is in the way")

// transient says whether an error of find or create may pass by itself.
func transient(err error) bool {
	var e *jetstream.APIError
	if errors.As(err, &e) {
		return e.Code == 503 || e.ErrorCode == subjectOverlap || // somebody else is making it
			e.ErrorCode == jetstream.JSErrCodeStreamNotFound // it is listed before it can be asked
	}
	return !errors.Is(err, errForeign)
}

// find returns the name of the stream that has the bucket's subjects; the error wraps ErrLost where
// there is none.
func (s *Store) find(ctx context.Context) (string, error) {
	names, err := s.names(ctx)
	if err != nil {
		return "", err
	}
	switch len(names) {
	case 0:
		return "", fmt.Errorf("%w: there is no stream", store.ErrLost)
	case 1:
	default:
		return "", fmt.Errorf("store: streams %s have the same subjects; if this stays, remove all but the first",
			strings.Join(names, " and "))
	}
	name := names[0]
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return "", fmt.Errorf("store: stream %s: %w", name, err)
	}
	info := stream.CachedInfo()
	is := info.Config
	if !strings.HasPrefix(name, s.bucket+"-") || is.FirstSeq == 0 {
		return "", fmt.Errorf("%w: %s has subject %s>: remove it, or use another bucket; one that is made by hand "+
			"is named after its first sequence: %s", errForeign, name, s.prefix, s.command())
	}
	if is.Replicas == 1 && info.TimeStamp.Sub(info.Created) < settle {
		return "", fmt.Errorf("store: stream %s was made just now, and another one may have been", name)
	}
	if is.Discard != jetstream.DiscardNew && is.Description == description {
		is = s.refuseWhenFull(ctx, is)
	}
	if err := s.enough(is); err != nil {
		return "", err
	}
	if is.MaxBytes > 0 && info.State.Bytes > uint64(is.MaxBytes)/10*9 {
		s.log.Warn("the store's bucket is nearly full, and will refuse writes: raise its limit (nats stream edit "+
			"--max-bytes)", "stream", name, "bytes", info.State.Bytes, "limit", is.MaxBytes)
	}
	s.see(info.State.LastSeq)
	return name, nil
}

// create makes the stream. Its first sequence is above all that this process has seen, and above
// all that others have, since nobody writes once a microsecond.
func (s *Store) create(ctx context.Context) (string, error) {
	cfg := s.config(max(uint64(time.Now().UnixMicro()), s.seen.Load()+1))
	if _, err := s.js.CreateStream(ctx, cfg); err != nil {
		return "", s.advise(fmt.Errorf("store: making stream %s with %d replicas: %w", cfg.Name, cfg.Replicas, err))
	}
	if s.replicas > 1 {
		return cfg.Name, nil
	}
	select { // see settle
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(settle):
	}
	names, err := s.names(ctx)
	if err != nil {
		return "", err
	}
	if len(names) > 0 && names[0] != cfg.Name {
		return "", errors.Join(fmt.Errorf("store: %s was made at the same time", names[0]),
			s.js.DeleteStream(ctx, cfg.Name))
	}
	return cfg.Name, nil
}

// names are the streams that have the bucket's subjects, the oldest first.
func (s *Store) names(ctx context.Context) ([]string, error) {
	list := s.js.StreamNames(ctx, jetstream.WithStreamListSubject(s.prefix+">"))
	var names []string
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		return nil, s.advise(fmt.Errorf("store: looking for the stream of %s>: %w", s.prefix, err))
	}
	slices.Sort(names)
	return names, nil
}

// description marks a stream as one that this package has made.
const description = "the store of Lockstep: one message a key"

func (s *Store) config(first uint64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              fmt.Sprintf("%s-%d", s.bucket, first),
		Description:       description,
		Subjects:          []string{s.prefix + ">"},
		FirstSeq:          first,
		MaxMsgsPerSubject: 1,
		MaxBytes:          s.maxBytes,
		Discard:           jetstream.DiscardNew, // where there is a limit, or will be one
		Storage:           jetstream.FileStorage,
		Replicas:          s.replicas,
		AllowDirect:       true, // for scan
		DenyDelete:        true,
		DenyPurge:         true,
	}
}
