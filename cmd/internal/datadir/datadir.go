package datadir

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/kek"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
	"github.com/lockstep-tls/lockstep/seal"
)

// Config of [Open].
type Config struct {
	Path  string // of the directory; it is made if it is missing
	Store string // URL of a store elsewhere, or Embedded
	KEK   string // source of the sealing key; empty: a file in the directory, made if missing
	// KEKNew makes the file that KEK names if it is missing while the store is empty.
	KEKNew bool
	Log    *slog.Logger // nil: a store elsewhere logs nothing
}

// source opens the source of the sealing key.
func (c Config) source() (seal.Keys, error) {
	return kek.Source(cmp.Or(c.KEK, filepath.Join(c.Path, stores.KeyFile)))
}

// mayMake reports whether a missing sealing key may be made while the store is empty.
func (c Config) mayMake() bool { return c.KEK == "" || c.KEKNew }

// advise adds to the error of a sealing key that is missing what to do.
func (c Config) advise(err error) error {
	if errors.Is(err, stores.ErrNoKey) && !c.mayMake() {
		return fmt.Errorf("kek: %w: put it there; or give kek_new (--kek-new), and one is made if the store is "+
			"empty", err)
	}
	return err
}

// Embedded is the store that lives in the data directory.
const Embedded = "embedded"

// Dir is an open data directory with its store.
type Dir struct {
	Vault     *stores.Vault // the store
	Replica   string        // this replica's name; the same after a restart
	Token     string        // of the admin API
	NATSToken string        // of NATS clients

	path string
	lock *os.File // nil: the lock of the embedded store does it
}

// openWithin bounds how long a start waits for its store.
const openWithin = 30 * time.Second

// Open locks the directory and opens the store.
func Open(c Config) (_ *Dir, err error) {
	d := &Dir{path: c.Path}
	defer func() {
		if err != nil {
			d.Close()
			err = fmt.Errorf("data directory %s: %w", c.Path, err)
		}
	}()
	if err = os.MkdirAll(c.Path, 0o700); err != nil {
		return nil, err
	}
	where := c.Store
	if where == Embedded {
		where = c.Path
	}
	keys, err := c.source()
	if err != nil {
		return nil, err
	}
	if c.Store != Embedded {
		if d.lock, err = lockDir(c.Path); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), openWithin)
	defer cancel()
	raw, err := stores.OpenLogging(ctx, where, c.Log)
	if err != nil {
		return nil, err
	}
	d.Vault, err = stores.Unlock(ctx, raw, keys, c.mayMake())
	if err != nil {
		return nil, c.advise(err)
	}
	for i, to := range []*string{&d.Replica, &d.Token, &d.NATSToken} {
		if *to, err = d.secret(words[i]); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// File is the path of a file in the directory.
func (d *Dir) File(name string) string { return filepath.Join(d.path, name) }

// secret reads a small file that holds a random word. It makes the file (0600) if there is none.
func (d *Dir) secret(name string) (string, error) {
	path := d.File(name)
	word, err := readWord(path)
	if errors.Is(err, fs.ErrNotExist) {
		word = rand.Text()
		err = atomicfile.Write(path, []byte(word+"\n"), 0o600)
	}
	return word, err
}

// words are the files that hold a random word each: the name of the replica, and tokens.
var words = []string{"replica", "admin.token", "nats.token"}

func readWord(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	word := strings.TrimSpace(string(b))
	if word == "" {
		return "", fmt.Errorf("%s is empty: remove it, and a new one is made", path)
	}
	return word, nil
}

// WriteAddr leaves the address of the admin API where the CLI finds it.
func (d *Dir) WriteAddr(scheme string, a net.Addr) error {
	addr := scheme + "://" + a.String()
	if a.Network() == "unix" {
		addr = "unix:" + a.String()
	}
	return atomicfile.Write(d.File("admin.addr"), []byte(addr+"\n"), 0o600)
}

// WriteXDS leaves the address for nodes where `lockstep bootstrap` finds it. It is unix:/path,
// tcp:host:port, or tls:host:port if nodes need certificates there.
func (d *Dir) WriteXDS(a net.Addr, mtls bool) error {
	kind := a.Network()
	if kind == "tcp" && mtls {
		kind = "tls"
	}
	return atomicfile.Write(d.File("xds.addr"), []byte(kind+":"+a.String()+"\n"), 0o600)
}

// Close closes the store and gives the directory back.
func (d *Dir) Close() {
	if d.Vault != nil {
		d.Vault.Close()
	}
	if d.lock != nil {
		d.lock.Close()
	}
}
