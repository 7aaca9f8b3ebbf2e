package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store/bolt"
	"github.com/lockstep-tls/lockstep/store/guard"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// data makes a data directory for a lockstepd with so many certificates in its store.
func (b *bench) data(ctx context.Context, certs int) (dir string, err error) {
	return b.dataOf(ctx, certs, func(int) ([]byte, []byte, error) { return b.pair.Chain, b.pair.Key, nil })
}

// dataOf is data with certificates (chain and key, PEM) of the caller's.
func (b *bench) dataOf(ctx context.Context, certs int, cert func(int) (chain, key []byte, err error)) (dir string, err error) {
	dir = filepath.Join(b.fleet.Dir(), b.fresh("data"))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	sealer, err := seal.Create(filepath.Join(dir, "sealing.key"))
	if err != nil {
		return "", err
	}
	db, err := bolt.Open(filepath.Join(dir, "store.db"))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	c := catalog.New(catalog.Config{Store: guard.Sealed(db, sealer)})
	for i := 0; i < certs; {
		var some []catalog.Pair
		for ; i < certs && len(some) < 4096; i++ {
			chain, key, err := cert(i)
			if err != nil {
				return "", err
			}
			some = append(some, catalog.Pair{Name: keysource.Name(certName(i)), PEM: keysource.PEM{Chain: chain, Key: key}})
		}
		out, err := c.PutAll(ctx, some)
		if err != nil {
			return "", err
		}
		for _, o := range out {
			if o.Err != nil {
				return "", o.Err
			}
		}
	}
	return dir, nil
}

// bigData is one with 100 000 certificates, made once in a run; only one lockstepd at a time may use it.
func (b *bench) bigData(ctx context.Context) (string, error) {
	if b.big == "" {
		begin, n := time.Now(), b.size(100_000, 2000)
		dir, err := b.data(ctx, n)
		if err != nil {
			return "", err
		}
		b.big = dir
		b.say("a store of %d certificates was made in %.1fs", n, time.Since(begin).Seconds())
	}
	return b.big, nil
}

// hugeData is one with a million certificates: the one into which they were imported, or one that is made.
func (b *bench) hugeData(ctx context.Context, n int) (string, error) {
	if b.huge == "" {
		begin := time.Now()
		dir, err := b.data(ctx, n)
		if err != nil {
			return "", err
		}
		b.huge = dir
		b.say("a store of %d certificates was made in %.1fs", n, time.Since(begin).Seconds())
	}
	return b.huge, nil
}

// awaitPort waits until somebody listens.
func awaitPort(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return fleet.Until(ctx, func() error {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return fmt.Errorf("nobody listens on %s: %w", addr, err)
		}
		return conn.Close()
	})
}
