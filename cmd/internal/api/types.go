// Package api is the admin API of lockstepd as its users see it. It has the types of the JSON, and
// a client. The server is package admin, which this package does not import.
//
// Keys and private keys appear in requests only. No type of an answer can hold one.
package api

import "time"

// Status is GET /v1/status.
type Status struct {
	Replica string      `json:"replica"`
	Version string      `json:"version"`
	Started time.Time   `json:"started"`
	Store   string      `json:"store"` // Store is the kind of the store.
	Scopes  []Scope     `json:"scopes"`
	Certs   CertSummary `json:"certificates"`
	Streams int         `json:"streams"` // Streams counts the open xDS streams.
	// Troubles are the worst 20, over the nodes of all replicas.
	Troubles []Trouble `json:"troubles"`
	// Replicas are all on the store, and those that were within a day.
	Replicas []Replica `json:"replicas"`
	// Problems are what is not well at any replica that answers, the most severe first. What is
	// acknowledged comes last.
	Problems []Problem `json:"problems"`
	// Degraded are the texts and the next steps of those problems that make the exit code 3.
	Degraded []string `json:"degraded"`
}

// Pulse is GET /v1/pulse, for the other replicas. It is answered from memory.
type Pulse struct {
	Replica string `json:"replica"`
	// Mute reports that the replica cannot write to the store that it is alive.
	Mute bool `json:"mute"`
}

// Scope is one set of session ticket keys.
type Scope struct {
	Scope string `json:"scope"`
	// Phase is steady, distributing, promoting or burning. It is steady also while a rotation is
	// under way whose new key was taken back, or is not made yet. See Underway and RetryAt.
	Phase    string    `json:"phase"`
	Since    time.Time `json:"since"`
	Version  string    `json:"version"`
	Rotation uint64    `json:"rotation"` // Rotation is the number of the newest one.
	// Underway reports that a rotation or a burn was asked for or has begun, and has not ended.
	Underway bool `json:"underway"`
	// RetryAt is when a rotation is tried again that a refusal took back.
	RetryAt   time.Time `json:"retry_at,omitzero"`
	Keys      []Key     `json:"keys"`
	Nodes     Count     `json:"nodes"`
	BlockedBy []string  `json:"blocked_by"`
	NextAt    time.Time `json:"next_at"` // NextAt is when the next rotation is due.
	// Requests says how many rotations may be asked for. An earlier lockstepd does not say it.
	Requests *Requests `json:"requests,omitempty"`
}

// Requests says how many rotations of a scope may be asked for now. The ring keeps places for the
// rotations of the period and for a rollback. A burn needs no place.
type Requests struct {
	Left int `json:"left"` // Left is how many there may be, of all requesters together.
	// LeftToOne is how many of them a requester may have who brought no key of the ring.
	LeftToOne int `json:"left_to_one"`
	// LeftToYou is how many of them the one may have who asks for this status.
	LeftToYou int `json:"left_to_you"`
	// AgainAt is when you may ask for one more, if there is none left to you.
	AgainAt time.Time `json:"again_at,omitzero"`
	// By has those who brought keys of the ring.
	By []Requester `json:"by"`
}

// Requester is somebody who asked for rotations whose keys are in the ring.
type Requester struct {
	Name string `json:"name"`
	Keys int    `json:"keys"` // Keys is how many keys of the ring it brought.
	Left int    `json:"left"` // Left is how many rotations it may ask for now.
	// AgainAt is when it may ask for one more, if there is none left to it.
	AgainAt time.Time `json:"again_at,omitzero"`
}

// Key is what may be shown of a ticket key.
type Key struct {
	// ID is the first 8 bytes of the SHA-256 of the key's name, in hexadecimal.
	ID string `json:"id"`
	// Fingerprint is the SHA-256 of the whole key, in hexadecimal. Lines of the audit log name a
	// key by both.
	Fingerprint string    `json:"fingerprint,omitempty"`
	Role        string    `json:"role"` // Role is encrypt, next or drain.
	Created     time.Time `json:"created"`
	// RetireAt is set for a drain key with which no live node encrypts.
	RetireAt *time.Time `json:"retire_at,omitempty"`
}

// Count sums up the nodes of a scope. Each counts once in Live, and once in one of the others, the
// first that holds of excluded, away, refused, accepted and stale.
type Count struct {
	// Live counts the nodes for which rotations wait, and the excluded ones. These are connected,
	// or away and within their lease. So it is the sum of the others.
	Live     int `json:"live"`
	Accepted int `json:"accepted"` // Accepted counts those that hold the current ring.
	Refused  int `json:"refused"`
	Stale    int `json:"stale"` // Stale counts those that are connected without the current ring.
	Away     int `json:"away"`  // Away counts those that are not connected, and within their lease.
	Excluded int `json:"excluded"`
}

// CertSummary counts certificates and names those with a problem.
type CertSummary struct {
	Directory int      `json:"directory"` // Directory counts the names in --certs.
	Held      []string `json:"held"`      // Held are gone from the directory, and not given up.
	Problems  []string `json:"problems"`  // Problems are texts of the form "name: what is wrong".
	// Warnings are certificates that are served and look wrong, in texts of the form "name: why".
	Warnings []string `json:"warnings"`
	// Clashes are in the directory, which wins, and in the store.
	Clashes []string `json:"clashes"`
	Watched int      `json:"watched"` // Watched counts the names that some node wants now.
	// Nearest are the ten that end first, of the directory and of the store.
	Nearest []CertEnd `json:"nearest"`
	// Own are lockstepd's own mTLS certificate and the CAs of those who may connect, however far
	// their ends are. It is empty if plaintext is spoken.
	Own []CertEnd `json:"own"`
	// KnownAt is when the ends of all stored ones were known. Until it is set Nearest has only
	// those that have been read since the start.
	KnownAt time.Time `json:"known_at,omitzero"`
}

// CertEnd is when a certificate ends.
type CertEnd struct {
	Name string `json:"name"`
	// Source is directory or store, and of lockstepd's own ones own or client_ca.
	Source   string    `json:"source"`
	NotAfter time.Time `json:"not_after"`
	// State is good, near its end, urgent or expired. It is near its end when 30 days or a quarter
	// of its lifetime are left, and urgent when three days or a tenth are left.
	State string `json:"state"`
}

// Nodes is GET /v1/nodes.
type Nodes struct {
	Replica string `json:"replica"` // Replica is the one that answers.
	Nodes   []Node `json:"nodes"`
	// Silent are replicas that did not answer. Of their nodes only the rings are known.
	Silent []string `json:"silent,omitempty"`
}

// Node is one Envoy or edge proxy.
type Node struct {
	Node     string `json:"node"`
	Identity string `json:"identity"`
	// State is live, away, refusing or excluded. A list of all nodes also has gone (it was here
	// within 30 days) and missing (it is expected, and was not).
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Expected reports that the configuration expects the node, in a list of all nodes.
	Expected bool   `json:"expected,omitempty"`
	Remote   string `json:"remote,omitempty"`
	// CertificateNotAfter is when the certificate ends by which the node proved who it is.
	// CertificateState is good, near its end, urgent or expired.
	CertificateNotAfter time.Time `json:"certificate_not_after,omitzero"`
	CertificateState    string    `json:"certificate_state,omitempty"`
	// Replica is the one to which the node is connected. If these are several, it is that from
	// which the node has its ring.
	Replica string `json:"replica,omitempty"`
	// Replicas are all to which the node is connected, if these are several.
	Replicas []string `json:"replicas,omitempty"`
	Secrets  []Secret `json:"secrets"`
	// Listeners are those that the node asked for. A list of the fleet has only the refused and the
	// stale ones.
	Listeners []Secret `json:"listeners,omitempty"`
}

// Secret is one resource on one node. A list of the fleet leaves out the certificates that are
// accepted or sent. A node may have a name on several streams, of several processes. Then the worst
// state counts.
type Secret struct {
	Name string `json:"name"`
	// Version is the one that the state is about. That is for stale the one that the node holds,
	// for refused the one that it refused, and else the one that it was sent last.
	Version string `json:"version"`
	// Sent is a newer version that a stale node was sent and has not answered.
	Sent string `json:"sent,omitempty"`
	// State is, from best to worst:
	//   - proved: full handshakes with the node have shown that it uses the ring;
	//   - accepted: the node acknowledged it, and that counts;
	//   - sent: it has not answered yet;
	//   - "waits for its ring": it took the certificate, and cannot serve it, since it has no ring
	//     yet;
	//   - "in doubt": it accepted it once, and it is not known whether it uses it;
	//   - stale: it has an earlier version, or has not answered for 10 s;
	//   - absent: it asked for it, and there is no such secret for it. A list of the fleet has only
	//     names that no host has, and at most 20 of a node; one node alone has 1000 at most;
	//   - "no ring": it asked for the ring of a scope that it does not get;
	//   - stand-in: it has a replacement for a certificate that does not exist;
	//   - refused: Refused has the node's own words.
	State   string    `json:"state"`
	Refused string    `json:"refused,omitempty"`
	Note    string    `json:"note,omitempty"` // Note says more, and what to do.
	At      time.Time `json:"at"`             // At is since when it has this state.
}

// RotateRequest is POST /v1/scopes/{scope}/rotate. A burn and a rollback use By and Why only.
type RotateRequest struct {
	By  string `json:"by,omitempty"`
	Why string `json:"why,omitempty"`
	// Key is 80 raw bytes. If it is empty, lockstepd makes a fresh key.
	Key []byte `json:"key,omitempty"`
}

// ExcludeRequest is POST /v1/scopes/{scope}/exclude.
type ExcludeRequest struct {
	Node    string  `json:"node"`
	Seconds float64 `json:"seconds"` // Seconds is for how long. 0 takes an exclusion back.
	By      string  `json:"by,omitempty"`
	Why     string  `json:"why,omitempty"`
}

// Started answers rotate, burn and rollback.
type Started struct {
	Scope    string `json:"scope"`
	Rotation uint64 `json:"rotation"` // Rotation is 0 if there is nothing to wait for.
	Version  string `json:"version"`
	Message  string `json:"message"`
}

// Rotation is GET /v1/scopes/{scope}/rotations/{n}.
type Rotation struct {
	Scope    string `json:"scope"`
	Rotation uint64 `json:"rotation"`
	Ended    bool   `json:"ended"`
	// Outcome is done, burnt, rolled-back or replaced. It is empty while the rotation is under way.
	Outcome string `json:"outcome"`
	Phase   string `json:"phase"` // Phase is that of the scope.
	// RetryAt is when the rotation is tried again, if a refusal took it back.
	RetryAt   time.Time `json:"retry_at,omitzero"`
	Version   string    `json:"version"`
	Nodes     Count     `json:"nodes"`
	BlockedBy []string  `json:"blocked_by"`
	// Stuck are the nodes of BlockedBy that must be restarted, since they refuse whatever they are
	// sent. OnlyStuck reports that the rotation waits for nothing else, and so does not end by
	// itself.
	Stuck     []string `json:"stuck"`
	OnlyStuck bool     `json:"only_stuck"`
	Lines     []Line   `json:"lines"`
}

// Line is one entry of a scope's history, GET /v1/scopes/{scope}/history. GET /v1/events streams
// these, and everything else that happens, one a line. What is no step of a rotation has Kind and
// Text.
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
	// Seconds is how long the phase took that ended with this line.
	Seconds    float64  `json:"seconds,omitempty"`
	WaitedFor  []string `json:"waited_for,omitempty"`
	LeftBehind []string `json:"left_behind,omitempty"`

	// The rest is in the stream only. They are the fields of [Event].
	Kind    string `json:"kind,omitempty"`
	Node    string `json:"node,omitempty"`
	Name    string `json:"name,omitempty"`
	Text    string `json:"text,omitempty"`
	Version string `json:"version,omitempty"`
	Replica string `json:"replica,omitempty"`
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
	// Notes say what other changes would do to the tickets of the scope.
	Notes []string `json:"notes,omitempty"`
}

// Certs is GET /v1/certs. It is one page, in the order of the names.
type Certs struct {
	Certs []Cert `json:"certs"`
	// Next is CertsQuery.After for the next page, which may be empty. Without it this is the last
	// page.
	Next string `json:"next,omitempty"`
}

// CertsQuery chooses what GET /v1/certs returns.
type CertsQuery struct {
	Prefix string // Prefix is how the names begin.
	After  string // After is Certs.Next of the page before.
	Limit  int    // Limit is 1 to MaxPage. 0 stands for MaxPage.
	// Expires leaves out those that expire later than within this time, unless it is nil.
	Expires *time.Duration
}

// MaxPage is the most certificates of one answer. With CertsQuery.Expires the server bounds how
// many it looks at, so that a page may have fewer, or none.
const MaxPage = 1000

// Cert is one certificate, without its private key. Only the answer about a single one has Chain
// and Context.
type Cert struct {
	Name   string `json:"name"`
	Source string `json:"source"` // Source is directory or store.
	// Shadowed reports that the directory has the name too, and wins.
	Shadowed bool   `json:"shadowed,omitempty"`
	Held     bool   `json:"held,omitempty"`
	Version  string `json:"version,omitempty"`
	// Fingerprint is the SHA-256 of the leaf, in lower-case hexadecimal.
	Fingerprint string    `json:"fingerprint,omitempty"`
	Issuer      string    `json:"issuer,omitempty"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Problem     string    `json:"problem,omitempty"`
	Chain       string    `json:"chain,omitempty"`
	// Context is the fingerprint of what Envoy binds the host's session tickets to: names, issuer,
	// server name.
	Context string `json:"context,omitempty"`
	// Same reports that what was put was there already, and so nothing was changed.
	Same bool `json:"same,omitempty"`
	// Warnings say what looks worse than in the certificate before it, or wrong in itself. After a
	// put they also say what it ends, such as session tickets.
	Warnings []string `json:"warnings,omitempty"`
	// Notes say what of the files was put in order or left out when they were read.
	Notes []string `json:"notes,omitempty"`
	// Unserved are the certificate's other names that neither the directory nor the store has.
	Unserved []string `json:"unserved,omitempty"`
}

// PutCert is PUT /v1/certs/{name}.
type PutCert struct {
	Chain []byte `json:"chain"` // Chain is PEM, leaf first.
	Key   []byte `json:"key"`   // Key is PEM. It is empty if Chain holds the private key, too.
	// Now gives the certificate to every node at once, also if it is stored already. No node tries
	// it first.
	Now bool `json:"now,omitempty"`
	// Beside keeps the certificate of the other kind, of RSA and ECDSA, that the host has. The RSA
	// one of the two stands under NAME:rsa. Earlier versions refuse this field.
	Beside bool `json:"beside,omitempty"`
}

// Imported answers POST /v1/certs/import. The body is a tar archive of <server name>/tls.crt and
// <server name>/tls.key.
type Imported struct {
	Stored int            `json:"stored"` // Stored counts those that are in the store now.
	Same   int            `json:"same"`   // Same counts those of Stored that were there already.
	Failed []ImportFailed `json:"failed"`
	// Notes say what of stored certificates was put in order or left out.
	Notes []ImportNote `json:"notes,omitempty"`
	// Warnings say what of stored certificates looks worse than before, or wrong.
	Warnings []ImportNote `json:"warnings,omitempty"`
}

// ImportNote is a note or a warning of a certificate that was stored.
type ImportNote struct {
	Folder string `json:"folder"`
	Note   string `json:"note"`
}

// ImportFailed is a certificate that was not stored.
type ImportFailed struct {
	Folder string `json:"folder"`
	Error  string `json:"error"`
}

// Losses answers POST /v1/certs/confirm-loss.
type Losses struct {
	Names []string `json:"names"`
	// Nothing reports that nothing was held back or lost, and so nothing was changed.
	Nothing bool `json:"nothing,omitempty"`
}

// Error is the body of every answer that is not 2xx.
type Error struct {
	Message string `json:"error"`
	Code    Code   `json:"code"`
	// Replica is the one that answers, where it refuses a request of another replica.
	Replica string `json:"replica,omitempty"`
}

// Code is the kind of a failure. The CLI's exit codes follow it.
type Code string

const (
	Failed   Code = "failed"
	NotFound Code = "not_found"
	Refused  Code = "refused" // Refused means not now, or not with this input.
	Denied   Code = "denied"  // Denied means that the token, the Host or the Origin is wrong.
	Usage    Code = "usage"
)

func (e *Error) Error() string { return e.Message }
