package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// KEK is GET /v1/kek. It says how the sealing of the store stands. Keys are named by Tink's IDs.
type KEK struct {
	Source  string `json:"source"`  // Source is where the keyset is kept.
	Primary string `json:"primary"` // Primary seals.
	// Staged only open. They wait until every replica has them.
	Staged []string `json:"staged"`
	Old    []string `json:"old"` // Old open what they sealed.
	// Phase is steady, distributing, resealing or resealed (old keys may be retired).
	Phase string `json:"phase"`
	// Records counts those in the store when resealing began.
	Records  int          `json:"records"`
	Seen     int          `json:"seen"`     // Seen counts those that were looked at so far.
	Resealed int          `json:"resealed"` // Resealed counts those of Seen that had another key.
	Bad      []string     `json:"bad"`      // Bad names some of the records that no key opens.
	WaitsFor []string     `json:"waits_for"`
	Replicas []KEKReplica `json:"replicas"`
	Problem  string       `json:"problem,omitempty"`
}

// KEKReplica is what a replica said of its keyset.
type KEKReplica struct {
	Replica string    `json:"replica"`
	Primary string    `json:"primary"`
	Keys    []string  `json:"keys"`
	At      time.Time `json:"at"`
}

// KEKRetired answers POST /v1/kek/retire.
type KEKRetired struct {
	Proved  int    `json:"proved"` // Proved counts the records, which the key that is left opens.
	Primary string `json:"primary"`
	// Nothing reports that there was no old key, and so nothing was changed.
	Nothing bool `json:"nothing,omitempty"`
}

// BackupRequest is POST /v1/backup. It has either Recipients (age1…) or Passphrase.
type BackupRequest struct {
	By         string   `json:"by,omitempty"`
	Recipients []string `json:"recipients,omitempty"`
	Passphrase string   `json:"passphrase,omitempty"`
}

// Restored answers POST /v1/restore.
type Restored struct {
	Made    time.Time      `json:"made"` // Made is when the backup was made.
	Plan    bool           `json:"plan"` // Plan reports that nothing was changed.
	Counts  map[string]int `json:"counts"`
	Details []RestoredItem `json:"details"`
}

// RestoredItem is what became of a record.
type RestoredItem struct {
	Key     string   `json:"key"`
	What    string   `json:"what"` // What is added, replaced, merged, same, kept or left out.
	Why     string   `json:"why,omitempty"`
	Back    []string `json:"back,omitempty"`    // Back are the IDs of ticket keys that come back.
	Refused []string `json:"refused,omitempty"` // Refused are those that do not, and why.
}

// StoreRecord is a line of what POST /v1/store/records answers. It is a record as it is sealed, or
// the last line, which alone has Head.
type StoreRecord struct {
	Key   string  `json:"key,omitempty"`
	Value []byte  `json:"value,omitempty"`
	Gone  bool    `json:"gone,omitempty"`
	Head  *uint64 `json:"head,omitempty"`
}

// FreezeRequest is POST /v1/store/freeze.
type FreezeRequest struct {
	By  string `json:"by,omitempty"`
	Why string `json:"why"`
}

// Thawed answers POST /v1/store/thaw.
type Thawed struct {
	// Nothing reports that nothing was frozen, and so nothing was changed.
	Nothing bool `json:"nothing,omitempty"`
}

// KEK returns how the sealing of the store stands.
func (c *Client) KEK(ctx context.Context) (k KEK, err error) {
	return k, c.call(ctx, http.MethodGet, "/v1/kek", nil, &k)
}

// RotateKEK begins a change of the sealing key and returns at once.
func (c *Client) RotateKEK(ctx context.Context) (k KEK, err error) {
	return k, c.call(ctx, http.MethodPost, "/v1/kek/rotate", nil, &k)
}

// RetireKEK drops the old sealing keys.
func (c *Client) RetireKEK(ctx context.Context) (r KEKRetired, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/kek/retire", nil, &r)
}

// Backup writes an encrypted backup to w. After an error, w holds no backup.
func (c *Client) Backup(ctx context.Context, q BackupRequest, w io.Writer) error {
	resp, err := c.do(ctx, http.MethodPost, "/v1/backup", q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the backup was cut short; lockstepd's log says why: %w", err)
	}
	return nil
}

// Restore sends the inner text of a backup.
func (c *Client) Restore(ctx context.Context, text io.Reader, plan bool, by string) (r Restored, err error) {
	resp, err := c.do(ctx, http.MethodPost, "/v1/restore?plan="+strconv.FormatBool(plan)+"&by="+url.QueryEscape(by),
		text)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	return r, json.NewDecoder(resp.Body).Decode(&r)
}

// StoreRecords calls f with each record, as it is sealed, that was changed after since. The value
// is nil for a record that is gone. It returns the revision up to which f has seen all.
func (c *Client) StoreRecords(
	ctx context.Context, since uint64, f func(key string, val []byte) error,
) (head uint64, err error) {
	resp, err := c.do(ctx, http.MethodPost, "/v1/store/records?since="+strconv.FormatUint(since, 10), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	d := json.NewDecoder(bufio.NewReaderSize(resp.Body, 64<<10))
	for {
		var r StoreRecord
		if err := d.Decode(&r); err != nil {
			return 0, fmt.Errorf("the records were cut short; lockstepd's log says why: %w", err)
		}
		switch {
		case r.Head != nil:
			return *r.Head, nil
		case r.Gone:
			r.Value = nil
		case r.Value == nil:
			r.Value = []byte{}
		}
		if err := f(r.Key, r.Value); err != nil {
			return 0, err
		}
	}
}

// Freeze stops all changes in the store until [Client.Thaw].
func (c *Client) Freeze(ctx context.Context, q FreezeRequest) error {
	return c.call(ctx, http.MethodPost, "/v1/store/freeze", q, nil)
}

// Thaw ends a freeze.
func (c *Client) Thaw(ctx context.Context) (t Thawed, err error) {
	return t, c.call(ctx, http.MethodPost, "/v1/store/thaw", nil, &t)
}
