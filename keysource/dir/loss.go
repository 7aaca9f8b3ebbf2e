package dir

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
)

// A loss is more than one name in lossShare, and at least lossCount, that go within lossWindow.
// Then a volume is not mounted. An operator does not remove so many. The window is needed if a
// scan runs while a volume is being unmounted.
const (
	lossShare  = 10
	lossCount  = 3
	lossWindow = time.Minute
)

// goneName is a name whose folder went away, and which was removed. It is held back after all if
// enough others follow.
type goneName struct {
	host *host
	at   time.Time
}

// findMissing looks for the hosts that the scan did not find. err is why the scan could not read
// the directory. In that case no host is believed to be gone.
func (d *Dir) findMissing(err error, first bool, now time.Time) {
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
			d.lookAt(now.Add(secondLook))
		}
	}
	d.removeOrHold(gone, now)
}

// setUnread notes why the directory cannot be read, or that it can. It logs a change. The caller
// holds mu.
func (d *Dir) setUnread(err error) {
	switch {
	case err != nil && (d.unread == nil || d.unread.Error() != err.Error()):
		d.log.Error("no certificate is believed to be gone until the directory can be read", "error", err)
	case err == nil && d.unread != nil:
		d.log.Info("the certificates' directory can be read again", "dir", d.root)
	}
	d.unread = err
}

// removeOrHold removes the hosts that are gone, or holds them back. The caller holds mu.
func (d *Dir) removeOrHold(gone []*host, now time.Time) {
	for n, l := range d.recentlyGone {
		if now.Sub(l.at) >= lossWindow {
			delete(d.recentlyGone, n)
		}
	}
	if len(gone) == 0 {
		return
	}
	missing, all := len(gone)+len(d.recentlyGone), len(d.hosts)+len(d.recentlyGone)
	for _, h := range d.hosts {
		if h.held {
			missing++
		}
	}
	d.unsaved = true
	if d.unread == nil && (missing < lossCount || missing*lossShare <= all) {
		for _, h := range gone {
			delete(d.hosts, h.name)
			d.recentlyGone[h.name] = goneName{h, now}
			d.wake(h)
			d.noted(Change{Name: h.name, What: Removed})
			d.log.Info("certificate removed", "name", h.name)
		}
		return
	}
	for n, l := range d.recentlyGone {
		d.hosts[n] = l.host
		gone = append(gone, l.host)
	}
	clear(d.recentlyGone)
	for _, h := range gone {
		h.held = true
		h.wrongSince, h.problem = time.Time{}, d.heldError(h).Error()
		d.noted(Change{Name: h.name, What: Held})
		d.wake(h)
	}
	d.log.Error("many certificates are gone at once and are held back; is the volume mounted? `"+d.accept+
		"` accepts the loss",
		"dir", d.root, "gone", missing, "of", all, "one of them", gone[0].name)
}

// heldError says why the certificate of h is held back. It never wraps keysource.ErrNotExist.
func (d *Dir) heldError(h *host) error {
	return fmt.Errorf("held back: %s is gone from %s; is the volume mounted? `%s` accepts the loss",
		h.name, d.root, d.accept)
}

// held returns, in order, the names that are gone from the directory and held back.
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

// Loss reports that ConfirmLoss would change something, or refuse to. Names are held back, or the
// directory cannot be read.
func (d *Dir) Loss() bool {
	if len(d.held()) > 0 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unread != nil
}

// ConfirmLoss accepts that the held names are gone, and returns them. From now on they do not
// exist. It refuses if the directory exists and cannot be read, since nobody can know then.
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
			d.noted(Change{Name: n, What: Removed})
			d.wake(h)
			d.unsaved = true
			kept = append(kept, n)
		}
	}
	d.log.Warn("the loss of certificates was confirmed", "names", len(kept))
	return kept, nil
}
