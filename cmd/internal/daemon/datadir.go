package daemon

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/cmd/internal/kek"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store"
)

// dataDir is what lockstepd keeps on disk. The store's file lock makes it one process's at a time.
type dataDir struct {
	path    string
	lock    *os.File      // nil: the embedded store's lock does it
	store   store.Store   // sealed
	vault   *stores.Vault // what store is made of
	replica string        // this replica's name; the same after a restart
	token   string        // of the admin API
	nats    string        // token of NATS clients
}

// openWithin bounds how long a start waits for its store.
const openWithin = 30 * time.Second

func openDataDir(c config.Config) (_ *dataDir, err error) {
	d := &dataDir{path: c.DataDir}
	defer func() {
		if err != nil {
			d.close()
			err = fmt.Errorf("data directory %s: %w", c.DataDir, err)
		}
	}()
	if err = os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, err
	}
	where := c.Store
	if where == "embedded" {
		where = c.DataDir
	}
	keys, err := kek.Source(cmp.Or(c.KEK, filepath.Join(c.DataDir, stores.KeyFile)))
	if err != nil {
		return nil, err
	}
	if c.Store != "embedded" {
		if d.lock, err = lockDir(c.DataDir); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), openWithin)
	defer cancel()
	raw, err := stores.Open(ctx, where)
	if err != nil {
		return nil, err
	}
	if d.vault, err = stores.Unlock(ctx, raw, keys); err != nil {
		return nil, err
	}
	d.store = withFailpoints(d.vault.Store)
	for _, f := range []struct {
		name string
		to   *string
	}{{"replica", &d.replica}, {"admin.token", &d.token}, {"nats.token", &d.nats}} {
		if *f.to, err = d.secret(f.name); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// secret reads a small file that holds a random word, or makes it (0600).
func (d *dataDir) secret(name string) (string, error) {
	path := filepath.Join(d.path, name)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = []byte(rand.Text() + "\n")
		if err := atomicfile.Write(path, b, 0o600); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	word := strings.TrimSpace(string(b))
	if word == "" {
		return "", fmt.Errorf("%s is empty: remove it, and a new one is made", path)
	}
	return word, nil
}

// writeAddr leaves the admin API's address where the CLI finds it.
func (d *dataDir) writeAddr(scheme string, a net.Addr) error {
	addr := scheme + "://" + a.String()
	if a.Network() == "unix" {
		addr = "unix:" + a.String()
	}
	return atomicfile.Write(filepath.Join(d.path, "admin.addr"), []byte(addr+"\n"), 0o600)
}

func (d *dataDir) close() {
	if d.vault != nil {
		d.vault.Close()
	}
	if d.lock != nil {
		d.lock.Close()
	}
}

const knownKey = "dir"

func (k knownNames) Load(ctx context.Context) (names []keysource.Name, err error) {
	val, _, err := k.store.Get(ctx, store.Key(knownKey, k.replica))
	if errors.Is(err, store.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(val, &names); err != nil {
		return nil, fmt.Errorf("the stored names of the directory: %w", err)
	}
	return names, nil
}

func (k knownNames) Save(ctx context.Context, names []keysource.Name) error {
	val, err := json.Marshal(names)
	if err != nil {
		return err
	}
	for {
		_, rev, err := k.store.Get(ctx, store.Key(knownKey, k.replica))
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		if _, err = k.store.Swap(ctx, store.Key(knownKey, k.replica), rev, val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
