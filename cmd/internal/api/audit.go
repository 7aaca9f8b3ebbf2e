package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Audit is GET /v1/audit. It has the newest lines of the audit log, oldest first.
type Audit struct {
	Lines []AuditLine `json:"lines"`
}

// AuditLine says what was about to be done. Made says whether it then was, where the log shows it.
type AuditLine struct {
	Number uint64    `json:"n"`
	At     time.Time `json:"at"`
	Actor  string    `json:"actor,omitempty"`
	What   string    `json:"what"`
	Scope  string    `json:"scope,omitempty"`
	Name   string    `json:"name,omitempty"`
	// Key is the fingerprint of a ticket key, or the version of a certificate. KeyID is the ID of
	// that ticket key.
	Key        string   `json:"key,omitempty"`
	KeyID      string   `json:"key_id,omitempty"`
	Burnt      []string `json:"burnt,omitempty"`
	Generation uint64   `json:"generation,omitempty"`
	Rotation   uint64   `json:"rotation,omitempty"`
	Nodes      int      `json:"nodes,omitempty"`
	WaitedFor  []string `json:"waited_for,omitempty"`
	LeftBehind []string `json:"left_behind,omitempty"`
	Seconds    float64  `json:"seconds,omitempty"`
	Times      int      `json:"times,omitempty"`
	// Items is set if the line stands for many, see GET /v1/audit/items/{items}.
	Items   string `json:"items,omitempty"`
	Why     string `json:"why,omitempty"`
	Replica string `json:"replica"`
	Made    *bool  `json:"made,omitempty"`
	MAC     string `json:"mac"`
}

// AuditItems is GET /v1/audit/items/{digest}. It has what a line stands for.
type AuditItems struct {
	Items []AuditItem `json:"items"`
}

// AuditItem is the name of a certificate and its version.
type AuditItem struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// AuditReports is GET and POST /v1/audit/verify. A POST brings the lines of a file.
type AuditReports struct {
	Reports []AuditReport `json:"reports"` // Reports has one for each chain.
}

// AuditReport is what was found in one chain.
type AuditReport struct {
	Chain    string         `json:"chain"` // Chain is store, file/<replica> or syslog/<replica>.
	Lines    uint64         `json:"lines"` // Lines counts those that are as they were written.
	Head     string         `json:"head"`  // Head is the last of them, or empty.
	Problems []AuditProblem `json:"problems"`
	More     int            `json:"more,omitempty"` // More problems are left out.
}

// AuditProblem is one fault, of the lines First to Last.
type AuditProblem struct {
	// Fault is changed, inserted, missing, reordered, repeated, replaced, cut-off or stale.
	Fault string `json:"fault"`
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Words string `json:"words"`
}

// MendRequest is POST /v1/audit/mend.
type MendRequest struct {
	By string `json:"by,omitempty"`
}

// AuditMended answers POST /v1/audit/mend.
type AuditMended struct {
	Head string `json:"head"` // the line that tells of the break
}

// Audit returns the newest lines of the audit log.
func (c *Client) Audit(ctx context.Context, last int) (a Audit, err error) {
	return a, c.call(ctx, http.MethodGet, fmt.Sprintf("/v1/audit?last=%d", last), nil, &a)
}

// AuditItems returns what a line stands for.
func (c *Client) AuditItems(ctx context.Context, digest string) (a AuditItems, err error) {
	return a, c.call(ctx, http.MethodGet, "/v1/audit/items/"+url.PathEscape(digest), nil, &a)
}

// VerifyAudit checks the log in the store.
func (c *Client) VerifyAudit(ctx context.Context) (r AuditReports, err error) {
	return r, c.call(ctx, http.MethodGet, "/v1/audit/verify", nil, &r)
}

// VerifyAuditLines checks the lines of a file, which is read while it is sent, and not before the
// server knows how long it should be.
func (c *Client) VerifyAuditLines(ctx context.Context, lines io.Reader) (r AuditReports, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/audit/verify", lines, &r)
}

// MendAudit begins the newest lines of the log in the store anew, where no line can follow them.
func (c *Client) MendAudit(ctx context.Context, q MendRequest) (m AuditMended, err error) {
	return m, c.call(ctx, http.MethodPost, "/v1/audit/mend", q, &m)
}
