// Package api is the admin API of lockstepd as its users see it: the JSON, and a client. The server is package admin, which this
// package does not import.
//
// No type here can hold a key on its way out: keys and private keys appear in requests only.
package api

import "time"

// Status is GET /v1/status.
type Status struct {
	Replica  string      `json:"replica"`
	Version  string      `json:"version"`
	Started  time.Time   `json:"started"`
	Store    string      `json:"store"` // kind
	Scopes   []Scope     `json:"scopes"`
	Certs    CertSummary `json:"certificates"`
	Streams  int         `json:"streams"`  // open xDS streams
	Troubles []Trouble   `json:"troubles"` // of secrets on the nodes of all replicas, and what was proved after one; the worst 20
	Degraded []string    `json:"degraded"` // what is not as it should be, and what to do; empty when all is well
}

// Pulse is GET /v1/pulse, for the other replicas. It is answered from memory.
type Pulse struct {
	Replica string `json:"replica"`
	Mute    bool   `json:"mute"` // it cannot write to the store that it is here
}

// Scope is one set of session ticket keys.
type Scope struct {
	Scope     string    `json:"scope"`
	Phase     string    `json:"phase"` // steady, distributing, promoting, burning
	Since     time.Time `json:"since"`
	Version   string    `json:"version"`
	Rotation  uint64    `json:"rotation"` // number of the newest
	Underway  bool      `json:"underway"`
	Keys      []Key     `json:"keys"`
	Nodes     Count     `json:"nodes"`
	BlockedBy []string  `json:"blocked_by"`
	NextAt    time.Time `json:"next_at"` // when the period is over
}

// Key is what may be told of a ticket key.
type Key struct {
	ID       string     `json:"id"`   // first 8 bytes of the SHA-256 of the key's name, hex
	Role     string     `json:"role"` // encrypt, next, drain
	Created  time.Time  `json:"created"`
	RetireAt *time.Time `json:"retire_at,omitempty"` // drain only, once no live node encrypts with it
}

// Count sums up the nodes of a scope.
type Count struct {
	Live     int `json:"live"`
	Accepted int `json:"accepted"`
	Refused  int `json:"refused"`
	Stale    int `json:"stale"`
	Away     int `json:"away"`
	Excluded int `json:"excluded"`
}

// CertSummary counts certificates and names those with a problem.
type CertSummary struct {
	Directory int      `json:"directory"` // names in --certs
	Held      []string `json:"held"`      // gone from the directory, and not given up
	Problems  []string `json:"problems"`  // "name: what is wrong"
	Clashes   []string `json:"clashes"`   // names that the directory and the store both have; the directory wins
	Watched   int      `json:"watched"`   // names that some node wants now
}

// Nodes is GET /v1/nodes.
type Nodes struct {
	Replica string   `json:"replica"` // whose answer it is
	Nodes   []Node   `json:"nodes"`
	Silent  []string `json:"silent,omitempty"` // replicas that did not answer: of nodes connected there, only the rings are known
}

// Node is one Envoy or edge proxy.
type Node struct {
	Node     string    `json:"node"`
	Identity string    `json:"identity"`
	State    string    `json:"state"` // live, away, refusing, excluded
	Since    time.Time `json:"since"`
	Remote   string    `json:"remote,omitempty"`
	Replica  string    `json:"replica,omitempty"` // where it is connected
	Secrets  []Secret  `json:"secrets"`
	// Listeners are those that the node asked for; in a list of the fleet only the refused and the stale ones.
	Listeners []Secret `json:"listeners,omitempty"`
}

// Secret is one resource on one node. Of certificates, a list of the fleet names only those that are neither accepted nor sent. A node may
// have a name more than once: on several streams, of several processes. Then the worst of them counts.
type Secret struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// State is, from best to worst:
	//   - proved: full handshakes with the node have shown that it uses the ring;
	//   - accepted: the node acknowledged it, and that counts;
	//   - sent: it has not answered yet;
	//   - "waits for its ring": it took the certificate, and cannot serve it, since the node has no ring yet;
	//   - "in doubt": it accepted it once, and it is not known whether it uses it;
	//   - stale: it has an earlier version, or has not answered for 10 s;
	//   - "no ring": it asked for the ring of a scope that it does not get;
	//   - stand-in: it has what takes the place of a certificate that there is not;
	//   - refused: in its own words, under Refused.
	State   string    `json:"state"`
	Refused string    `json:"refused,omitempty"`
	Note    string    `json:"note,omitempty"` // what more there is to say, and to do
	At      time.Time `json:"at"`             // since when
}

// RotateRequest is POST /v1/scopes/{scope}/rotate. Burn and rollback take Why alone.
type RotateRequest struct {
	By  string `json:"by,omitempty"`
	Why string `json:"why,omitempty"`
	Key []byte `json:"key,omitempty"` // 80 raw bytes; none: a fresh key
}

// ExcludeRequest is POST /v1/scopes/{scope}/exclude.
type ExcludeRequest struct {
	Node    string  `json:"node"`
	Seconds float64 `json:"seconds"` // 0 takes it back
	By      string  `json:"by,omitempty"`
	Why     string  `json:"why,omitempty"`
}

// Started answers rotate, burn and rollback.
type Started struct {
	Scope    string `json:"scope"`
	Rotation uint64 `json:"rotation"` // 0: nothing to wait for
	Version  string `json:"version"`
	Message  string `json:"message"`
}

// Rotation is GET /v1/scopes/{scope}/rotations/{n}.
type Rotation struct {
	Scope     string   `json:"scope"`
	Rotation  uint64   `json:"rotation"`
	Ended     bool     `json:"ended"`
	Outcome   string   `json:"outcome"` // done, burnt, rolled-back, replaced; empty while it is under way
	Phase     string   `json:"phase"`
	Version   string   `json:"version"`
	Nodes     Count    `json:"nodes"`
	BlockedBy []string `json:"blocked_by"`
	// Stuck are those of BlockedBy that must be restarted: they refuse whatever they are sent. OnlyStuck is true if it waits for nothing else, and
	// so does not end by itself.
	Stuck     []string `json:"stuck"`
	OnlyStuck bool     `json:"only_stuck"`
	Lines     []Line   `json:"lines"`
}

// Line of a scope's history, GET /v1/scopes/{scope}/history; also what GET /v1/events streams, one a line.
type Line struct {
	At         time.Time `json:"at"`
	Scope      string    `json:"scope"`
	What       string    `json:"what"`
	Rotation   uint64    `json:"rotation,omitempty"`
	Generation uint64    `json:"generation"`
	Key        string    `json:"key,omitempty"`
	By         string    `json:"by,omitempty"`
	Why        string    `json:"why,omitempty"`
	Nodes      int       `json:"nodes,omitempty"`
	Seconds    float64   `json:"seconds,omitempty"` // how long the phase took that ended with this line
	WaitedFor  []string  `json:"waited_for,omitempty"`
	LeftBehind []string  `json:"left_behind,omitempty"`
}

// History is GET /v1/scopes/{scope}/history.
type History struct {
	Lines []Line `json:"lines"`
}

// Plan is GET /v1/scopes/{scope}/plan.
type Plan struct {
	Scope     string   `json:"scope"`
	Steps     []string `json:"steps"`
	Nodes     []string `json:"nodes"`
	BlockedBy []string `json:"blocked_by"`
}

// Certs is GET /v1/certs: one page, by name.
type Certs struct {
	Certs []Cert `json:"certs"`
	Next  string `json:"next,omitempty"` // what to give as After for the next page, which may be empty; none: that is all
}

// CertsQuery chooses what GET /v1/certs returns.
type CertsQuery struct {
	Prefix  string         // of the names
	After   string         // Certs.Next of the page before
	Limit   int            // 1 to MaxPage; 0: MaxPage
	Expires *time.Duration // only those that expire within it, or have expired; nil: all
}

// MaxPage is the most certificates of one answer. With CertsQuery.Expires the server looks at some times as many, so that a page may have fewer, or none.
const MaxPage = 1000

// Cert is one certificate, without its private key. Chain only for a single one.
type Cert struct {
	Name     string `json:"name"`
	Source   string `json:"source"`             // directory, store
	Shadowed bool   `json:"shadowed,omitempty"` // the directory has the name too, and wins
	Held     bool   `json:"held,omitempty"`
	Version  string `json:"version,omitempty"`
	// Fingerprint is the SHA-256 of the leaf, in lower-case hexadecimal.
	Fingerprint string    `json:"fingerprint,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Problem     string    `json:"problem,omitempty"`
	Chain       string    `json:"chain,omitempty"`
	// Context is the fingerprint of what Envoy binds the host's session tickets to: names, issuer, server name. Of a single one only.
	Context  string   `json:"context,omitempty"`
	Warnings []string `json:"warnings,omitempty"` // what putting it ended
}

// PutCert is PUT /v1/certs/{name}.
type PutCert struct {
	Chain []byte `json:"chain"` // PEM, leaf first
	Key   []byte `json:"key"`   // PEM
	// Now gives it to every node at once, without one that goes first, also if it is stored already.
	Now bool `json:"now,omitempty"`
}

// Imported answers POST /v1/certs/import, whose body is a tar archive of <server name>/tls.crt and <server name>/tls.key.
type Imported struct {
	Stored int            `json:"stored"` // now, or before
	Same   int            `json:"same"`   // of them: were there already
	Failed []ImportFailed `json:"failed"`
}

// ImportFailed is a certificate that was not stored.
type ImportFailed struct {
	Folder string `json:"folder"`
	Error  string `json:"error"`
}

// Losses answers POST /v1/certs/confirm-loss.
type Losses struct {
	Names []string `json:"names"`
}

// Error is the body of every answer that is not 2xx.
type Error struct {
	Message string `json:"error"`
	Code    Code   `json:"code"`
}

// Code says what kind of failure it is; the CLI's exit codes follow it.
type Code string

const (
	Failed   Code = "failed"
	NotFound Code = "not_found"
	Refused  Code = "refused" // not now, or not with this input
	Denied   Code = "denied"  // token, Host or Origin
	Usage    Code = "usage"
)

func (e *Error) Error() string { return e.Message }
