package dir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/layout"
	"github.com/lockstep-tls/lockstep/keysource/renewal"
)

const (
	crtFile = layout.ChainFile
	keyFile = layout.KeyFile
	maxFile = 1 << 20 // the same as in keysource: more is not PEM of a certificate
	// racy is how young a file may be for a second write to leave its size and time unchanged. Git
	// has the same rule.
	racy = 2 * time.Second
)

// host is one name. Dir.mu guards the fields below io.
type host struct {
	name keysource.Name

	// io is held while the files are read, so that an older look never overwrites a newer one. It
	// is taken before Dir.mu.
	io sync.Mutex

	folder string       // of the chain's file, if flat
	flat   layout.Files // the files, if they stand in the directory itself
	files  layout.Files // the files in the folder, if it has those of two certificates
	seen   uint64       // the last scan that found the folder
	sig    signature
	gone   time.Time // when the folder went missing; zero if it is there
	held   bool      // the folder is missing, and the name is held back

	asked bool // reports that the content is kept from now on
	// waiting reports that somebody was given an error, and is to be told when there is something
	// better.
	waiting bool
	good    *keysource.Certificate // the last good content, if asked

	version, leaf, issuer string // of good, or of what the last look found
	notAfter              time.Time
	life                  time.Duration // from its beginning to notAfter
	others                []string      // the certificate's names besides name
	notes                 []string      // what was put in order when it was read
	warnings              []string      // what looked worse than in the certificate before
	shorterSince          time.Time     // when the files got a shorter chain; zero if they did not
	wrongSince            time.Time     // when the files became wrong; zero if they are right
	problem               string        // what is wrong, once a second look found the same
}

// signature shows by stat alone whether files changed. The zero value equals that of no file, and
// means "look again".
type signature struct{ crt, key fileID }

type fileID struct {
	dev, ino uint64
	size     int64
	mtime    int64 // nanoseconds since 1970
}

func identify(fi fs.FileInfo) fileID {
	id := fileID{size: fi.Size(), mtime: fi.ModTime().UnixNano()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		id.dev, id.ino = uint64(st.Dev), uint64(st.Ino)
	}
	return id
}

// place is where the files of a name are. If they stand in the directory itself, folder is the path
// of the chain.
type place struct {
	folder string
	flat   layout.Files // the files, if they stand in the directory itself
	files  layout.Files // the files in the folder, if it has those of two certificates
}

// place returns where the files of h are. The caller holds Dir.mu.
func (h *host) place() place { return place{h.folder, h.flat, h.files} }

// find looks for other files than the usual ones.
func find(folder string) (layout.Files, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !missing(err) {
		return layout.Files{}, err
	}
	files, err := layout.Find(entryNames(entries))
	if err != nil {
		return files, fmt.Errorf("%s: %w (to remove the name, remove the folder)%s", folder, err,
			deeper(folder, entries))
	}
	return files, nil
}

// deeper says which directory to give instead if a folder holds certificates of its own.
func deeper(folder string, entries []fs.DirEntry) string {
	return layout.Deeper(folder, entryNames(entries), func(below string) []string {
		entries, _ := os.ReadDir(filepath.Join(folder, below))
		return entryNames(entries)
	})
}

func entryNames(entries []fs.DirEntry) (all []string) {
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// found is what a look by stat alone shows. key is empty if one file should hold both.
type found struct {
	chain, key string // paths
	sig        signature
}

// stat looks at the files through all symbolic links.
func (p place) stat() (found, error) {
	if p.flat != (layout.Files{}) {
		return p.statFiles(filepath.Dir(p.folder), p.flat)
	}
	if p.files != (layout.Files{}) {
		return p.statFiles(p.folder, p.files)
	}
	f, err := p.statFiles(p.folder, layout.Files{Chain: crtFile, Key: keyFile})
	if !missing(err) {
		return f, err
	}
	files, err := find(p.folder)
	if err != nil {
		return found{}, err
	}
	return p.statFiles(p.folder, files)
}

func (p place) statFiles(dir string, files layout.Files) (f found, err error) {
	f.chain = filepath.Join(dir, files.Chain)
	if f.sig.crt, err = p.statFile(f.chain); err != nil || files.Key == "" {
		return f, err
	}
	f.key = filepath.Join(dir, files.Key)
	f.sig.key, err = p.statFile(f.key)
	return f, err
}

func (p place) statFile(path string) (fileID, error) {
	fi, err := os.Stat(path)
	switch {
	case missing(err):
		return fileID{}, &missingFile{p.folder, filepath.Base(path)}
	case err != nil:
		return fileID{}, err
	case !fi.Mode().IsRegular():
		return fileID{}, fmt.Errorf("%s is not a file", path)
	}
	return identify(fi), nil
}

// missingFile is the error of a file that is missing. It wraps [fs.ErrNotExist].
type missingFile struct{ folder, file string }

func (e *missingFile) Error() string {
	if layout.Marked(e.file) {
		return fmt.Sprintf("%s: there is no %s (to remove the certificate, remove its other file, too)", e.folder,
			e.file)
	}
	return fmt.Sprintf("%s: there is no %s (to remove the name, remove the folder)", e.folder, e.file)
}

func (e *missingFile) Unwrap() error { return fs.ErrNotExist }

// signature is zero if a file cannot be found, so that it is looked at.
func (p place) signature() signature {
	f, err := p.stat()
	if err != nil {
		return signature{}
	}
	return f.sig
}

// read returns the certificate of n, and the signature of the files from which it came. The
// signature is zero if the files must be looked at again even if they seem unchanged.
//
// Files may be replaced one after the other, as certbot does with its links. Then the key does not
// belong to the chain, and read returns an error: the two halves are never mixed.
func (p place) read(n keysource.Name, now time.Time) (keysource.Certificate, signature, error) {
	// This comes first, so that a write meanwhile shows as a change at the next look.
	f, err := p.stat()
	if err != nil {
		return keysource.Certificate{}, signature{}, err
	}
	var pair keysource.PEM
	if pair.Chain, err = readFile(f.chain); err != nil {
		return keysource.Certificate{}, signature{}, err
	}
	switch {
	case f.key == "" && !hasKey(pair.Chain):
		return keysource.Certificate{}, signature{}, p.noKey(f.chain)
	case f.key != "":
		if pair.Key, err = readFile(f.key); err != nil {
			return keysource.Certificate{}, signature{}, err
		}
		if len(pair.Key) == 0 { // the chain is not asked for a key in place of this one
			pair.Key = []byte("\n")
		}
	}
	c, err := keysource.ParseCertificate(pair, now)
	advice := ""
	if err == nil {
		if err = c.CheckName(n); err != nil && filepath.Base(f.chain) != crtFile {
			entries, _ := os.ReadDir(p.folder)
			advice = deeper(p.folder, entries)
		}
	}
	if err != nil {
		return keysource.Certificate{}, signature{}, fmt.Errorf("%s: %w%s", p.folder, err, advice)
	}
	for _, id := range []fileID{f.sig.crt, f.sig.key} {
		if age := now.Sub(time.Unix(0, id.mtime)); id != (fileID{}) && age.Abs() < racy {
			return c, signature{}, nil
		}
	}
	return c, f.sig, nil
}

// hasKey reports whether a file of a chain seems to hold a private key, too. UTF-16 has a zero
// between its letters.
func hasKey(chain []byte) bool {
	return bytes.Contains(bytes.ReplaceAll(chain, []byte{0}, nil), []byte("PRIVATE KEY-----"))
}

func (p place) noKey(chain string) error {
	if p.flat != (layout.Files{}) {
		stem := strings.TrimSuffix(p.flat.Chain, filepath.Ext(p.flat.Chain))
		return fmt.Errorf("%s: it has no private key, and there is no %s.key (to remove the name, remove the file)",
			chain, stem)
	}
	if filepath.Base(chain) == "fullchain.pem" {
		return &missingFile{p.folder, "privkey.pem"}
	}
	return &missingFile{p.folder, keyFile}
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	return b, err
}

var errGone = errors.New("the folder went away while it was read")

// look reads the files of h now. A good certificate replaces the last one. Anything else leaves
// it.
func (d *Dir) look(h *host) error {
	h.io.Lock()
	defer h.io.Unlock()
	d.mu.Lock()
	at, was := h.place(), h.good // only a look changes good
	d.mu.Unlock()
	now := time.Now()
	c, sig, err := at.read(h.name, now)
	if err == nil {
		if err = d.checkPair(h, c); err != nil {
			sig, err = signature{}, fmt.Errorf("%s: %w", at.folder, err)
		}
	}
	var v renewal.Verdict
	if err == nil {
		c.Warnings, v = d.judge(h.name, was, c, now)
		if v.Keep != "" {
			sig, err = signature{}, kept(at.folder, v)
		}
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hosts[h.name] != h || h.held || !h.gone.IsZero() { // the scan takes care of this host now
		h.waiting = true
		return errors.Join(errGone, err)
	}
	h.sig = sig
	if err != nil {
		h.shorterSince = time.Time{}
		d.lookAt(v.Until)
		d.noteProblem(h, err, now)
		return err
	}
	if d.settles(h, v.Shorter, now) {
		h.sig = signature{}
		return nil
	}
	again := h.problem != ""
	if again {
		d.log.Info("certificate is good again", "name", h.name)
	}
	h.wrongSince, h.problem = time.Time{}, ""
	if v := c.Version(); h.waiting || v != h.version && h.good != nil {
		d.wake(h)
	}
	h.waiting = false
	if v := c.Version(); v != h.version || again {
		for _, n := range []keysource.Name{h.name.Host(), h.name.Second()} {
			if other := d.hosts[n]; other != nil && other != h {
				other.sig = signature{} // how it stands beside this one is looked at again
			}
		}
		bare := c
		bare.Key = nil
		d.noted(Change{Name: h.name, What: Taken, Certificate: bare, Version: v})
	}
	h.version, h.leaf, h.issuer, h.notAfter = c.Version(), c.Fingerprint(), c.Issuer, c.NotAfter
	h.life = c.NotAfter.Sub(c.NotBefore)
	h.others, h.warnings = otherNames(h.name, c), c.Warnings
	if !slices.Equal(h.notes, c.Notes) {
		h.notes = c.Notes
		for _, note := range c.Notes {
			d.log.Info("a certificate's files were put in order", "name", h.name, "folder", h.folder, "note", note)
		}
	}
	if h.asked {
		h.good = &c
	}
	return nil
}

// otherNames returns the names of c besides n, in normal form.
func otherNames(n keysource.Name, c keysource.Certificate) (out []string) {
	for _, s := range c.Names {
		if other, err := keysource.ServerName(s); err == nil && other != n && !slices.Contains(out, string(other)) {
			out = append(out, string(other))
		}
	}
	return out
}

// noteProblem notes that the files of h are not right. That becomes a problem when a second look
// finds it too. The caller holds mu.
func (d *Dir) noteProblem(h *host, err error, now time.Time) {
	h.waiting = h.asked && h.good == nil
	if h.good == nil {
		h.version, h.leaf, h.issuer, h.notAfter = "", "", "", time.Time{}
		h.life, h.others, h.notes, h.warnings = 0, nil, nil, nil
	}
	if h.wrongSince.IsZero() {
		h.wrongSince = now
	}
	switch {
	case now.Sub(h.wrongSince) < secondLook:
		d.lookAt(now.Add(secondLook))
	case h.problem != err.Error():
		h.problem = err.Error()
		d.noted(Change{Name: h.name, What: Refused, Problem: h.problem, Kept: h.version})
		said := "certificate cannot be used; the last good one stays"
		if h.good == nil {
			said = "certificate cannot be used, and there is no earlier one to serve"
		}
		d.log.Warn(said, "name", h.name, "version", h.version, "error", err)
	}
}

// lookAt has Run look again at a time, or before. The zero time asks for no look. The caller holds
// mu.
func (d *Dir) lookAt(at time.Time) {
	if !at.IsZero() && (d.again.IsZero() || at.Before(d.again)) {
		d.again = at
		d.signal()
	}
}

// wake has Changed called with the name of h. The caller holds mu.
func (d *Dir) wake(h *host) {
	d.woken[h.name] = struct{}{}
	d.signal()
}
