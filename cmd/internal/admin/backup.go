package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/backup"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/store"
)

// guarded refuses a request that came over a connection that others can read. TLS, loopback and
// unix sockets are good. The configuration allows no other today.
func guarded(r *http.Request) error {
	if r.TLS != nil {
		return nil
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch addr := local.(type) {
	case *net.UnixAddr:
		return nil
	case *net.TCPAddr:
		if addr.IP.IsLoopback() {
			return nil
		}
	}
	return &api.Error{Message: "this is only for loopback, a unix socket or mTLS", Code: api.Denied}
}

// backup streams a backup. A failure in the middle breaks the connection, so that no client takes
// the beginning for the whole.
func (a *admin) backup(w http.ResponseWriter, r *http.Request) {
	deny := func(err error) {
		a.failed(r, err)
		w.Header().Set("Content-Type", "application/json")
		fail(w, err)
	}
	if err := guarded(r); err != nil {
		deny(err)
		return
	}
	var q api.BackupRequest
	if err := body(r, &q); err != nil {
		deny(err)
		return
	}
	to, err := backup.Recipients(q.Recipients, q.Passphrase)
	if err != nil {
		deny(&api.Error{Message: err.Error(), Code: api.Usage})
		return
	}
	why := "with a passphrase"
	if len(q.Recipients) > 0 {
		why = "to " + strings.Join(q.Recipients, ", ")
	}
	who := claimed(r, q.By)
	if err := a.writeDown(r.Context(), audit.Entry{What: "backup", Why: why}); err != nil {
		deny(err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	n, err := backup.Take(r.Context(), w, to, a.cfg.Vault)
	if err != nil {
		a.settle(r.Context(), err)
		a.cfg.Log.Error("the backup failed", "by", who, "err", err)
		panic(http.ErrAbortHandler)
	}
	a.done(r.Context())
	a.cfg.Log.Info("the backup was taken", "by", who, "records", n)
}

// restore takes the inner text of a backup.
func (a *admin) restore(r *http.Request) (out api.Restored, err error) {
	if err := guarded(r); err != nil {
		return out, err
	}
	text, err := backup.NewReader(r.Body)
	if err != nil {
		return out, bad(err)
	}
	who := claimed(r, r.URL.Query().Get("by"))
	var hosts []string
	do := backup.Restore{
		Store: a.cfg.Vault, By: who, Plan: r.URL.Query().Get("plan") == "true",
		Before: func(ctx context.Context, c backup.Change) error {
			if store.Certificates.Has(c.Key) || store.EagerHosts.Has(c.Key) {
				if name, err := store.Segment(c.Key); err == nil {
					hosts = append(hosts, name)
				}
			}
			return a.writeDown(ctx, audit.Entry{What: "restored", Name: c.Key, Why: c.What})
		},
		Ring: func(ctx context.Context, scope string, record []byte) (rotation.Restored, bool, error) {
			if !a.cfg.Rollouts.Has(scope) {
				return rotation.Restored{}, false, nil
			}
			out, err := a.cfg.Rollouts.Restore(ctx, scope, who, record)
			return out, true, err
		},
	}
	if !do.Plan {
		if err := a.writeDown(r.Context(), audit.Entry{
			What: "restore", Why: "a backup of " + text.Made.Format(time.RFC3339),
		}); err != nil {
			return out, err
		}
	}
	sum, err := do.Run(r.Context(), text)
	if !do.Plan {
		a.cfg.Catalog.Wake()
		for _, scope := range a.cfg.Rollouts.Scopes() {
			a.cfg.Rollouts.Poke(scope)
		}
		a.cfg.Events.Publish(events.Event{Kind: events.Cert, By: who, Text: fmt.Sprintf(
			"a backup of %s was restored by %s", text.Made.Format(time.RFC3339), who), Hosts: events.HostsOf(hosts...)})
	}
	return sum.Shown(do.Plan), bad(err)
}

func bad(err error) error {
	if errors.Is(err, backup.ErrBad) || errors.Is(err, backup.ErrRefused) {
		return &api.Error{Message: err.Error(), Code: api.Refused}
	}
	return err
}

// records streams the store as it is sealed, for a copy.
func (a *admin) records(w http.ResponseWriter, r *http.Request) {
	var since store.Rev
	if err := json.NewDecoder(strings.NewReader(r.URL.Query().Get("since"))).Decode(&since); err != nil {
		fail(w, &api.Error{Message: "since is a number", Code: api.Usage})
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	enc := json.NewEncoder(w)
	head, err := a.cfg.Vault.Records(r.Context(), since, func(key string, val []byte) error {
		return enc.Encode(api.StoreRecord{Key: key, Value: val, Gone: val == nil})
	})
	if err == nil {
		h := uint64(head)
		err = enc.Encode(api.StoreRecord{Head: &h})
	}
	if err != nil {
		a.cfg.Log.Error("the store could not be read for a copy", "err", err)
		panic(http.ErrAbortHandler)
	}
}

func (a *admin) freeze(r *http.Request) (struct{}, error) {
	var q api.FreezeRequest
	if err := body(r, &q); err != nil {
		return struct{}{}, err
	}
	now, err := a.cfg.Vault.Now(r.Context())
	if err != nil {
		return struct{}{}, err
	}
	who := claimed(r, q.By)
	if err := a.writeDown(r.Context(), audit.Entry{What: "store-frozen", Why: q.Why}); err != nil &&
		!errors.Is(err, stores.ErrFrozen) {
		return struct{}{}, err
	}
	a.cfg.Log.Warn("the store is frozen: nothing changes until it is thawed", "by", who, "why", q.Why)
	return struct{}{}, a.cfg.Vault.Freeze(r.Context(), who, q.Why, now)
}

func (a *admin) thaw(r *http.Request) (out api.Thawed, err error) {
	_, frozen, err := a.cfg.Vault.Raw.Frozen(r.Context())
	if err != nil || !frozen {
		out.Nothing = err == nil
		return out, err
	}
	err = a.cfg.Vault.Thaw(r.Context()) // the line comes later, since a frozen store takes none
	if err == nil {
		err = a.writeDown(r.Context(), audit.Entry{What: "store-thawed"})
		a.cfg.Log.Warn("the store was thawed")
		for _, scope := range a.cfg.Rollouts.Scopes() {
			a.cfg.Rollouts.Poke(scope)
		}
	}
	return out, err
}
