package dir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

const (
	crtFile = "tls.crt"
	keyFile = "tls.key"
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

	folder string
	seen   uint64 // the last scan that found the folder
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

// stat looks at both files through all symbolic links.
func stat(folder string) (signature, error) {
	var ids [2]fileID
	for i, file := range []string{crtFile, keyFile} {
		fi, err := os.Stat(filepath.Join(folder, file))
		switch {
		case missing(err):
			return signature{}, fmt.Errorf("%s: there is no %s (to remove the name, remove the folder)", folder, file)
		case err != nil:
			return signature{}, err
		case !fi.Mode().IsRegular():
			return signature{}, fmt.Errorf("%s is not a file", filepath.Join(folder, file))
		}
		ids[i] = identify(fi)
	}
	return signature{ids[0], ids[1]}, nil
}

// read returns the certificate in folder, and the signature of the files from which it came. The
// signature is zero if the files must be looked at again even if they seem unchanged.
func read(folder string, n keysource.Name, now time.Time) (keysource.Certificate, signature, error) {
	// This comes first, so that a write meanwhile shows as a change at the next look.
	sig, err := stat(folder)
	if err != nil {
		return keysource.Certificate{}, signature{}, err
	}
	var p keysource.PEM
	if p.Chain, err = readFile(filepath.Join(folder, crtFile)); err != nil {
		return keysource.Certificate{}, signature{}, err
	}
	if p.Key, err = readFile(filepath.Join(folder, keyFile)); err != nil {
		return keysource.Certificate{}, signature{}, err
	}
	c, err := keysource.ParseCertificate(p, now)
	if err == nil {
		err = c.CheckName(n)
	}
	if err != nil {
		return keysource.Certificate{}, signature{}, fmt.Errorf("%s: %w", folder, err)
	}
	for _, id := range []fileID{sig.crt, sig.key} {
		if age := now.Sub(time.Unix(0, id.mtime)); age.Abs() < racy {
			return c, signature{}, nil
		}
	}
	return c, sig, nil
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
	folder := h.folder
	d.mu.Unlock()
	now := time.Now()
	c, sig, err := read(folder, h.name, now)

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hosts[h.name] != h || h.held || !h.gone.IsZero() { // the scan takes care of this host now
		h.waiting = true
		return errors.Join(errGone, err)
	}
	h.sig = sig
	if err != nil {
		d.noteProblem(h, err, now)
		return err
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
		bare := c
		bare.Key = nil
		d.noted(Change{Name: h.name, What: Taken, Certificate: bare, Version: v})
	}
	h.version, h.leaf, h.issuer, h.notAfter = c.Version(), c.Fingerprint(), c.Issuer, c.NotAfter
	h.life = c.NotAfter.Sub(c.NotBefore)
	if h.asked {
		h.good = &c
	}
	return nil
}

// noteProblem notes that the files of h are not right. That becomes a problem when a second look
// finds it too. The caller holds mu.
func (d *Dir) noteProblem(h *host, err error, now time.Time) {
	h.waiting = h.asked && h.good == nil
	if h.good == nil {
		h.version, h.leaf, h.issuer, h.notAfter = "", "", "", time.Time{}
		h.life = 0
	}
	if h.wrongSince.IsZero() {
		h.wrongSince = now
	}
	switch {
	case now.Sub(h.wrongSince) < secondLook:
		d.lookAgain(now)
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

// lookAgain has Run take its second look. The caller holds mu.
func (d *Dir) lookAgain(now time.Time) {
	if d.again.IsZero() {
		d.again = now.Add(secondLook)
		d.signal()
	}
}

// wake has Changed called with the name of h. The caller holds mu.
func (d *Dir) wake(h *host) {
	d.woken[h.name] = struct{}{}
	d.signal()
}
