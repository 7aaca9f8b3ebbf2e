package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFile bounds what is read, in bytes; a key takes about 250.
const maxFile = 1 << 20

// Load reads the keyset of a file. It refuses one that group or others may read or write. An absent file is an error that wraps
// [fs.ErrNotExist].
func Load(path string) (*Sealer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened, not of what the path says by now
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("seal: %s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("seal: others may open the sealing key (mode %04o): chmod 600 %s", mode, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	s, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("seal: %s: %w; put the file back from a backup: what was sealed with it opens with nothing else", path, err)
	}
	return s, nil
}

// Create makes a new keyset, writes it to path (mode 0600, whole or not at all, synced) and returns it. A file that is there
// already is never overwritten: the error then wraps [fs.ErrExist].
func Create(path string) (*Sealer, error) {
	s, b, err := generate()
	if err != nil {
		return nil, fmt.Errorf("seal: making a key: %w", err)
	}
	if err := writeNew(path, b); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return s, nil
}

// LoadOrCreate is Load, or Create where there is no file yet. If several processes do so at once, all get the same keyset.
func LoadOrCreate(path string) (*Sealer, error) {
	s, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if s, err = Create(path); errors.Is(err, fs.ErrExist) {
		return Load(path)
	}
	return s, err
}

// writeNew writes a file beside path, and links it to path, which fails if path is there: rename would overwrite.
func writeNew(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
