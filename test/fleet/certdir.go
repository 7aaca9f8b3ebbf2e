package fleet

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// HostDir is the folder of a host in a certificate directory: its name, with "_" for the star of a
// wildcard.
func HostDir(dir, host string) string {
	return filepath.Join(dir, strings.Replace(host, "*", "_", 1))
}

// WriteHost puts a pair into a certificate directory as plain files, each replaced by one rename,
// the key first: for a moment the two do not belong together.
func WriteHost(dir, host string, p Pair) error {
	folder := HostDir(dir, host)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("fleet: certificate of %s: %w", host, err)
	}
	if err := replace(filepath.Join(folder, "tls.key"), p.Key); err != nil {
		return fmt.Errorf("fleet: key of %s: %w", host, err)
	}
	if err := replace(filepath.Join(folder, "tls.crt"), p.Chain); err != nil {
		return fmt.Errorf("fleet: certificate of %s: %w", host, err)
	}
	return nil
}

// MountHost puts a pair into a certificate directory as the kubelet mounts a Secret: the files are
// links through ..data, one link that is swapped to a new folder, so that both change at once.
func MountHost(dir, host string, p Pair) error {
	folder := HostDir(dir, host)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("fleet: mount of %s: %w", host, err)
	}
	data := filepath.Join(folder, "..data")
	old, _ := os.Readlink(data) // "" the first time
	version := "..version-" + rand.Text()[:10]
	if err := os.Mkdir(filepath.Join(folder, version), 0o755); err != nil {
		return fmt.Errorf("fleet: mount of %s: %w", host, err)
	}
	for name, b := range map[string][]byte{"tls.crt": p.Chain, "tls.key": p.Key} {
		if err := os.WriteFile(filepath.Join(folder, version, name), b, 0o600); err != nil {
			return fmt.Errorf("fleet: mount of %s: %w", host, err)
		}
	}
	if err := os.Symlink(version, data+"_tmp"); err != nil {
		return fmt.Errorf("fleet: mount of %s: %w", host, err)
	}
	if err := os.Rename(data+"_tmp", data); err != nil {
		return fmt.Errorf("fleet: mount of %s: %w", host, err)
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(folder, old))
	}
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(folder, name)); err != nil {
			return fmt.Errorf("fleet: mount of %s: %w", host, err)
		}
	}
	return nil
}

func replace(path string, b []byte) error {
	// The dot keeps the half-written file from looking like one of the two.
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
