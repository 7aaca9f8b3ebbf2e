package dir

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// Entry is what is known of one folder. Version, Leaf, Issuer and NotAfter belong to the
// certificate that is served, or would be. They are empty if there is none, and at first, until
// the files were checked in the background.
type Entry struct {
	Name     keysource.Name // empty if the folder's name is not a server name
	Folder   string         // with the path
	Version  string
	Leaf     string // fingerprint
	Issuer   string
	NotAfter time.Time
	Life     time.Duration // from the certificate's beginning to NotAfter
	Problem  string        // what has been wrong for a second or more; empty if nothing is
	Expired  bool          // Expired says that it has expired, and that Problem says nothing else.
	Held     bool          // the folder is gone, with many others, and the name is held back
	// Unserved are the certificate's names that the directory has no folder for, nor one of their
	// wildcard. Another source may have them.
	Unserved []keysource.Name
	Notes    []string // what was put in order, or left out, when the files were read
	Warnings []string // what looks worse than in the certificate before, or wrong in itself
}

// Remarks returns what an operator should know of an entry that is no problem.
func (e Entry) Remarks() []string {
	out := slices.Concat(e.Warnings, e.Notes)
	if len(e.Unserved) == 0 {
		return out
	}
	return append(out, "not served under its other names, which have no folder: "+
		keysource.FirstFew(e.Unserved))
}

// Has reports whether the directory has the name, or holds it back. Then no other source is asked.
func (d *Dir) Has(n keysource.Name) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hosts[n] != nil
}

// Problem looks at the files of a name now, and says what is wrong with them. It is empty if
// nothing is, or if there is no such name. A look that [Dir.List] has not had twice is told, too.
func (d *Dir) Problem(n keysource.Name) string {
	d.mu.Lock()
	h := d.hosts[n]
	held := ""
	if h != nil && h.held {
		held = h.problem
	}
	d.mu.Unlock()
	if h == nil || held != "" {
		return held
	}
	if err := d.look(h); err != nil {
		return err.Error()
	}
	return ""
}

// unserved returns the other names of h for which there is no host. The caller holds mu.
func (d *Dir) unserved(h *host) (out []keysource.Name) {
	for _, other := range h.others {
		n := keysource.Name(other)
		if d.hosts[n] == nil && (n.Wildcard() == "" || d.hosts[n.Wildcard()] == nil) {
			out = append(out, n)
		}
	}
	return out
}

// List returns an entry for each folder and each held name, by name. Folders that have no name
// come first.
func (d *Dir) List() []Entry {
	now := time.Now()
	d.mu.Lock()
	list := make([]Entry, 0, len(d.hosts)+len(d.bad))
	for folder, why := range d.bad {
		list = append(list, Entry{Folder: filepath.Join(d.root, folder), Problem: why})
	}
	for _, h := range d.hosts {
		e := Entry{h.name, h.folder, h.version, h.leaf, h.issuer, h.notAfter, h.life, h.problem, false, h.held,
			d.unserved(h), h.notes, h.warnings}
		if why := keysource.NotYet(h.notAfter.Add(-h.life), now); why != "" {
			e.Warnings = append(slices.Clone(e.Warnings), why)
		}
		if why := h.settling(); why != "" {
			e.Notes = append(slices.Clone(e.Notes), why)
		}
		if e.Problem != "" && h.good != nil && !h.held {
			e.Problem = fmt.Sprintf("version %s is served on, since the files cannot be used: %s", h.version, h.problem)
		}
		if e.Problem == "" && e.Version != "" && now.After(e.NotAfter) {
			e.Expired = true
			e.Problem = fmt.Sprintf("%s: expired at %s", h.folder, e.NotAfter.UTC().Format(time.RFC3339))
		}
		list = append(list, e)
	}
	d.mu.Unlock()
	slices.SortFunc(list, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Folder, b.Folder))
	})
	return list
}
