package dir

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// More than one name in lossShare, and at least lossCount, gone within lossWindow: that is a volume that is not mounted, not an operator who
// removes names. The window is there for the unmount that is seen half-way.
const (
	lossShare  = 10
	lossCount  = 3
	lossWindow = time.Minute
)

// lost is a name that went away and was believed; it is held back after all if enough others follow.
type lost struct {
	host *host
	at   time.Time
}

// miss looks for the hosts that the scan did not find. err is why it could not read the directory; then nothing is believed to be gone.
func (d *Dir) miss(err error, first bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.again.After(now) { // this is the second look
		d.again = time.Time{}
	}
	if err == nil || !missing(err) {
		d.accepted = false
	}
	if err != nil && !d.accepted {
		d.setUnread(fmt.Errorf("the certificates' directory cannot be read: %w", err))
	} else {
		d.setUnread(nil)
	}
	var gone []*host
	for _, h := range d.hosts {
		if h.seen == d.scans || h.held {
			continue
		}
		if h.gone.IsZero() {
			h.gone = now
		}
		if first || now.Sub(h.gone) >= secondLook {
			gone = append(gone, h)
		} else {
			d.lookAgain(now)
		}
	}
	d.judge(gone, now)
}

func (d *Dir) setUnread(err error) {
	switch {
	case err != nil && (d.unread == nil || d.unread.Error() != err.Error()):
		d.log.Error("no certificate is believed to be gone until the directory can be read", "error", err)
	case err == nil && d.unread != nil:
		d.log.Info("the certificates' directory can be read again", "dir", d.root)
	}
	d.unread = err
}

// judge removes the hosts that are gone, or holds them back. Needs mu.
func (d *Dir) judge(gone []*host, now time.Time) {
	for n, l := range d.recent {
		if now.Sub(l.at) >= lossWindow {
			delete(d.recent, n)
		}
	}
	if len(gone) == 0 {
		return
	}
	missing, all := len(gone)+len(d.recent), len(d.hosts)+len(d.recent)
	for _, h := range d.hosts {
		if h.held {
			missing++
		}
	}
	d.unsaved = true
	if d.unread == nil && (missing < lossCount || missing*lossShare <= all) {
		for _, h := range gone {
			delete(d.hosts, h.name)
			d.recent[h.name] = lost{h, now}
			d.wake(h)
			d.log.Info("certificate removed", "name", h.name)
		}
		return
	}
	for n, l := range d.recent {
		d.hosts[n] = l.host
		gone = append(gone, l.host)
	}
	clear(d.recent)
	for _, h := range gone {
		h.held = true
		h.wrong, h.problem = time.Time{}, d.heldError(h).Error()
		d.wake(h)
	}
	d.log.Error("many certificates are gone at once and are held back; is the volume mounted? `"+d.accept+"` accepts the loss",
		"dir", d.root, "gone", missing, "of", all, "one of them", gone[0].name)
}

// heldError says what a node's certificate waits for. It never wraps keysource.ErrNotExist.
func (d *Dir) heldError(h *host) error {
	return fmt.Errorf("held back: %s is gone from %s; is the volume mounted? `%s` accepts the loss", h.name, d.root, d.accept)
}

// held returns the names that are gone from the directory and held back, in order.
func (d *Dir) held() []keysource.Name {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []keysource.Name
	for n, h := range d.hosts {
		if h.held {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// ConfirmLoss accepts that the held names are gone, and returns them: from now on they do not exist. It refuses while the directory is there
// and cannot be read, since then nobody can know.
func (d *Dir) ConfirmLoss() ([]keysource.Name, error) {
	names := d.held()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unread != nil && !missing(d.unread) {
		return nil, fmt.Errorf("the loss cannot be confirmed: %w", d.unread)
	}
	if d.unread != nil {
		d.accepted, d.unread = true, nil
	}
	kept := names[:0]
	for _, n := range names {
		if h := d.hosts[n]; h != nil && h.held {
			delete(d.hosts, n)
			d.wake(h)
			d.unsaved = true
			kept = append(kept, n)
		}
	}
	d.log.Warn("the loss of certificates was confirmed", "names", len(kept))
	return kept, nil
}
