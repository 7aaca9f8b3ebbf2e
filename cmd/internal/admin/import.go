package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/archive"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
)

// These bound what one request may bring, and how many requests are in memory at once.
const (
	maxImport   = 64 << 20
	maxPairs    = 4096
	importsHeld = 6
)

// A store that is busy with the import itself may delay the audit log. The log is tried again, for
// some 15 s, before the request is refused.
const (
	auditTries = 6
	auditAgain = 500 * time.Millisecond // auditAgain doubles each time.
)

// importCerts stores the certificates of an archive. A bad one is named, and the others are stored.
func (a *admin) importCerts(r *http.Request) (out api.Imported, err error) {
	if err := guarded(r); err != nil {
		return out, err
	}
	ctx := r.Context()
	select {
	case a.imports <- struct{}{}:
		defer func() { <-a.imports }()
	case <-ctx.Done():
		return out, ctx.Err()
	}
	defer garbage.hold()()
	out.Failed = []api.ImportFailed{}
	fail := func(folder string, err error, n keysource.Name) {
		out.Failed = append(out.Failed,
			api.ImportFailed{Folder: folder, Error: strings.TrimPrefix(advice.Add(err).Error(), string(n)+": ")})
	}
	var pairs []catalog.Pair
	var folders []string
	for p, err := range archive.Tar(http.MaxBytesReader(nil, r.Body, maxImport), "the archive") {
		if err != nil {
			return out, unread(err, folders)
		}
		if len(pairs) == maxPairs {
			return out, &api.Error{Message: "more certificates than one request may bring: " +
				"lockstep cert import sends any number", Code: api.Usage}
		}
		n, bad := p.Name()
		if p.Err != nil {
			bad = p.Err
		}
		if bad != nil {
			fail(p.Folder, bad, n)
			continue
		}
		pairs, folders = append(pairs, catalog.Pair{Name: n, PEM: p.PEM}), append(folders, p.Folder)
	}
	outcomes, err := a.putAll(ctx, pairs)
	if err != nil {
		return out, err
	}
	var worse []keysource.Name
	var broken error // broken is an error of the store, not of a certificate
	var changed []keysource.Name
	for i, o := range outcomes {
		switch {
		case o.Err != nil:
			if !errors.Is(o.Err, keysource.ErrBadCertificate) && !errors.Is(o.Err, keysource.ErrBadName) {
				broken = o.Err
			}
			fail(folders[i], o.Err, pairs[i].Name)
			continue
		case o.Same:
			out.Same++
		default:
			changed = append(changed, pairs[i].Name)
		}
		for _, note := range o.Notes {
			out.Notes = append(out.Notes, api.ImportNote{Folder: folders[i], Note: note})
		}
		for _, why := range o.Warnings {
			out.Warnings = append(out.Warnings, api.ImportNote{Folder: folders[i], Note: why})
		}
		if len(o.Warnings) > 0 {
			worse = append(worse, pairs[i].Name)
		}
		out.Stored++
	}
	if broken != nil && out.Stored == 0 {
		return out, broken
	}
	if out.Stored > out.Same {
		// one for all, since whoever hears it looks what has changed
		text := fmt.Sprintf(
			"%d certificates were imported into the store by %s (lockstep audit show names the line that lists them)",
			out.Stored-out.Same, Actor(ctx))
		if len(worse) > 0 {
			text += fmt.Sprintf("; warning: %d of them look worse than what they replaced, or wrong: %s "+
				"(lockstep status)", len(worse), keysource.FirstFew(worse))
		}
		a.cfg.Events.Publish(events.Event{
			Kind: events.Cert, By: Actor(ctx), At: time.Now(), Text: text, Hosts: events.HostsOf(changed...),
		})
	}
	a.cfg.Log.Info("certificates imported", "stored", out.Stored, "same", out.Same, "failed", len(out.Failed))
	return out, nil
}

// unread says why an archive ended too soon, and behind which folder.
func unread(err error, folders []string) error {
	if len(folders) > 0 {
		err = fmt.Errorf("behind the folder %.300q: %w", folders[len(folders)-1], err)
	}
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		err = fmt.Errorf("%w, which is %d MiB: lockstep cert import sends any number", err, large.Limit>>20)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("nothing came for %s: %w", maxStall, err)
	}
	return &api.Error{Message: err.Error(), Code: api.Usage}
}

func (a *admin) putAll(ctx context.Context, pairs []catalog.Pair) (out []catalog.Outcome, err error) {
	pause := auditAgain
	for try := range auditTries {
		if out, err = a.cfg.Catalog.PutAll(ctx, pairs); !errors.Is(err, audit.ErrUnwritten) || try == auditTries-1 {
			break
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
			pause *= 2
		}
	}
	return out, err
}
