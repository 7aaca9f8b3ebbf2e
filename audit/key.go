package audit

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Names of records.
const (
	prefix   = "audit/"
	keyName  = prefix + "key"
	headName = prefix + "head"
)

const keySize = 32

// keys is a random secret and the key of the MACs, which is derived from it. The secret is made
// once and is a record. Whoever changes the sealing key seals that record anew, so every line
// stays verifiable.
type keys struct{ secret, mac []byte }

func (l *Log) keys(ctx context.Context) (*keys, error) {
	l.mu.Lock()
	have := l.known
	l.mu.Unlock()
	if have != nil {
		return have, nil
	}
	secret, err := giveUp(ctx, l.loadKey)
	if err != nil {
		return nil, err
	}
	mac, err := derive(secret)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = &keys{secret, mac}
	}
	return l.known, nil
}

// adopt goes on with another key than the one that was used so far.
func (l *Log) adopt(k *keys) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known = k
	l.cfg.Log.Error("the audit log in the store has another key than before: the store was lost, "+
		"and another replica began the log anew; lines with the old key, in files too, can no longer be verified",
		"replica", l.cfg.Replica)
}

// stored returns the keys by which the records can be verified. Another replica may have made new
// ones after the store was lost. If the records do not say, these are the ones that were used so
// far.
func (l *Log) stored(ctx context.Context) (*keys, error) {
	k, err := l.keys(ctx)
	if err != nil {
		return nil, err
	}
	other, err := l.shared.otherKey(ctx, k)
	if err != nil || other == nil {
		return k, nil
	}
	l.adopt(other)
	return other, nil
}

// errKey says that the records have another key than the one that is used.
var errKey = fmt.Errorf("%s is another one than before", keyName)

// putKey stores the key unless it is there. If another one is there, the error is errKey.
func (s *sharedSink) putKey(ctx context.Context, k *keys) error {
	if s.keyed {
		return nil
	}
	if _, err := s.records.Swap(ctx, keyName, 0, k.secret); err != nil && !errors.Is(err, ErrConflict) {
		return err
	} else if err != nil {
		switch other, err := s.otherKey(ctx, k); {
		case err != nil:
			return err
		case other != nil:
			return errKey
		}
	}
	s.keyed = true
	return nil
}

// otherKey returns the stored key if it is another one than k. It is nil if it is the same, or if
// none is stored.
func (s *sharedSink) otherKey(ctx context.Context, k *keys) (*keys, error) {
	secret, _, err := s.records.Get(ctx, keyName)
	if errors.Is(err, ErrNotExist) || err == nil && bytes.Equal(secret, k.secret) {
		return nil, nil
	}
	if err == nil && len(secret) != keySize {
		err = fmt.Errorf("%s has %d bytes, not %d: %w", keyName, len(secret), keySize, ErrBroken)
	}
	if err != nil {
		return nil, err
	}
	mac, err := derive(secret)
	return &keys{secret, mac}, err
}

// derive separates what the key is used for from later uses of the secret (RFC 5869).
func derive(secret []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, nil, "lockstep audit line v1", keySize)
}

func (l *Log) loadKey(ctx context.Context) ([]byte, error) {
	secret, _, err := l.cfg.Records.Get(ctx, keyName)
	if errors.Is(err, ErrNotExist) {
		if _, _, err = l.cfg.Records.Get(ctx, headName); err == nil {
			return nil, fmt.Errorf("%s is gone from the store, and without it the log that is there "+
				"can neither be verified nor go on: %w",
				keyName, ErrBroken)
		}
		if !errors.Is(err, ErrNotExist) {
			return nil, err
		}
		secret = make([]byte, keySize)
		rand.Read(secret)
		if _, err = l.cfg.Records.Swap(ctx, keyName, 0, secret); errors.Is(err, ErrConflict) {
			secret, _, err = l.cfg.Records.Get(ctx, keyName) // another replica was first
		}
	}
	if errors.Is(err, ErrSealed) {
		err = fmt.Errorf("%w: %w", err, ErrBroken)
	}
	if err != nil {
		return nil, err
	}
	if len(secret) != keySize {
		return nil, fmt.Errorf("%s has %d bytes, not %d: %w", keyName, len(secret), keySize, ErrBroken)
	}
	return secret, nil
}
