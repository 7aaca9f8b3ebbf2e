package certlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
	"github.com/lockstep-tls/lockstep/keysource"
)

// minAppended is how many lines there may be behind a small base.
const minAppended = 1000

// file keeps versions on disk. There is a base, which has all of a moment, and beside it a file of
// lines, which has each change since. So a change costs a line, however many certificates there
// are. The first line names the base by its digest: lines of another base do not count. Nor does a
// last line that a crash cut off.
type file struct {
	base  string
	lines int    // lines are the changes behind the base.
	sum   string // sum is the digest of the base.
	whole bool   // whole says that the next write must write the base.
}

// line is one of the lines. The first one has Base alone, and the others do not have it.
type line struct {
	Base    *string        `json:"base,omitempty"`
	Name    keysource.Name `json:"name,omitempty"`
	Version *version       `json:"version,omitempty"` // Version is nil if the name is gone.
}

func (f *file) appended() string { return f.base + ".log" }

// read returns what was written. A file that is not there has nothing.
func (f *file) read() (_ versions, err error) {
	defer func() { f.whole = f.whole || err != nil }()
	v := versions{}
	b, err := os.ReadFile(f.base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return v, err
	default:
		if err := json.Unmarshal(b, &v); err != nil {
			return versions{}, fmt.Errorf("%s: %w", f.base, err)
		}
	}
	f.sum = sumOf(b)
	b, err = os.ReadFile(f.appended())
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	f.whole = true // the next lines must not follow one that was cut off
	for i, one := range bytes.SplitAfter(b, []byte("\n")) {
		var l line
		if !bytes.HasSuffix(one, []byte("\n")) || json.Unmarshal(one, &l) != nil {
			break
		}
		switch {
		case i == 0 && (l.Base == nil || *l.Base != f.sum):
			return v, nil
		case i == 0:
		case l.Version == nil:
			delete(v, l.Name)
		default:
			v[l.Name] = *l.Version
		}
	}
	return v, nil
}

// write makes lasting what changed in v since the last write.
func (f *file) write(v versions, changed map[keysource.Name]struct{}) error {
	if f.whole || f.lines+len(changed) > max(minAppended, len(v)) {
		return f.rewrite(v)
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	if f.lines == 0 {
		if err := out.Encode(line{Base: &f.sum}); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(changed)) {
		l := line{Name: name}
		if now, ok := v[name]; ok {
			l.Version = &now
		}
		if err := out.Encode(l); err != nil {
			return err
		}
	}
	if err := f.append(b.Bytes()); err != nil {
		f.whole = true
		return err
	}
	f.lines += len(changed)
	return nil
}

func (f *file) append(b []byte) (err error) {
	to, err := os.OpenFile(f.appended(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = to.Write(b)
	err = errors.Join(err, to.Sync(), to.Close())
	if err == nil && f.lines == 0 {
		err = atomicfile.SyncDir(filepath.Dir(f.base))
	}
	return err
}

// rewrite writes a new base. The lines of the old one count no longer from then on.
func (f *file) rewrite(v versions) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(f.base, b, 0o600); err != nil {
		return err
	}
	f.sum, f.lines, f.whole = sumOf(b), 0, true
	if err := os.Remove(f.appended()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.whole = false
	return nil
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// written reports whether there ever was something to write. The file stays when the directory of
// certificates is emptied.
func (f *file) written() bool {
	for _, path := range []string{f.base, f.appended()} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}
