package daemon

import (
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

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/seal"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/bolt"
)

// dataDir is what lockstepd keeps on disk. The store's file lock makes it one process's at a time.
type dataDir struct {
	path    string
	store   store.Store // sealed
	bolt    *bolt.Store
	replica string // this replica's name; the same after a restart
	token   string // of the admin API
	nats    string // token of NATS clients
}

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
	file := filepath.Join(c.DataDir, "store.db")
	_, statErr := os.Stat(file)
	fresh := errors.Is(statErr, fs.ErrNotExist)
	if d.bolt, err = bolt.Open(file); err != nil {
		return nil, err
	}
	kek := c.KEK
	if kek == "" {
		kek = filepath.Join(c.DataDir, "sealing.key")
	}
	open := seal.LoadOrCreate
	if !fresh {
		open = seal.Load // a new key could open nothing of what is stored
	}
	sealer, err := open(kek)
	if err != nil {
		return nil, err
	}
	d.store = withFailpoints(store.Sealed(d.bolt, sealer))
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
		if err := writeFile(path, b); err != nil {
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
	return writeFile(filepath.Join(d.path, "admin.addr"), []byte(addr+"\n"))
}

// writeFile is atomic and synced, and readable by the owner only.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (d *dataDir) close() {
	if d.bolt != nil {
		d.bolt.Close()
	}
}

const knownKey = "dir"

func (k knownNames) Load(ctx context.Context) (names []keysource.Name, err error) {
	val, _, err := k.store.Get(ctx, store.Key(knownKey, "names"))
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
		_, rev, err := k.store.Get(ctx, store.Key(knownKey, "names"))
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return err
		}
		if _, err = k.store.Swap(ctx, store.Key(knownKey, "names"), rev, val); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}
