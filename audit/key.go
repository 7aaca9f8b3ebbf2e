package audit

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/lockstep-tls/lockstep/store"
)

var (
	keyName  = store.Key("audit", "key")
	headName = store.Key("audit", "head")
)

const keySize = 32

// keys is the random secret that is made once and kept in the store, which seals it, and the key of the MACs, which is derived from it. Whoever
// changes the sealing key seals the secret anew, so every line stays verifiable.
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

// derive keeps what the key is used for apart from what it may be used for later (RFC 5869).
func derive(secret []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, secret, nil, "lockstep audit line v1", keySize)
}

func (l *Log) loadKey(ctx context.Context) ([]byte, error) {
	secret, _, err := l.cfg.Store.Get(ctx, keyName)
	if errors.Is(err, store.ErrNotExist) {
		if _, _, err = l.cfg.Store.Get(ctx, headName); err == nil {
			return nil, fmt.Errorf("%s is gone from the store, and without it the log that is there can neither be verified nor go on: "+
				"put it back from a backup, or remove %s to begin anew", keyName, headName)
		}
		if !errors.Is(err, store.ErrNotExist) {
			return nil, err
		}
		secret = make([]byte, keySize)
		rand.Read(secret)
		if _, err = l.cfg.Store.Swap(ctx, keyName, 0, secret); errors.Is(err, store.ErrConflict) {
			secret, _, err = l.cfg.Store.Get(ctx, keyName) // another replica was first
		}
	}
	if err != nil {
		return nil, err
	}
	if len(secret) != keySize {
		return nil, fmt.Errorf("%s has %d bytes, not %d: put it back from a backup", keyName, len(secret), keySize)
	}
	return secret, nil
}
