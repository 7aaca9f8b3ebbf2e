package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Outcome is the outcome for a session that was offered to a node.
type Outcome string

const (
	Resumed Outcome = "resumed"
	Full    Outcome = "full"  // declined: the node made a full handshake
	Failed  Outcome = "error" // no session to offer, or no connection
)

// Pair is a session made by one node and offered to another, or to the same.
type Pair struct {
	Version  uint16
	From, To string
	Outcome  Outcome
	Took     time.Duration // how long the handshake with To took
	Words    string        // what failed
	Key      string        // Session.KeyID
	Err      error         // what failed, for errors.As; nil if Words is empty
}

// MarshalJSON names the version as people do, and gives the time in milliseconds.
func (p Pair) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Version string  `json:"version"`
		From    string  `json:"from"`
		To      string  `json:"to"`
		Outcome Outcome `json:"outcome"`
		Took    float64 `json:"took_ms"`
		Words   string  `json:"error,omitempty"`
		Key     string  `json:"key,omitempty"`
	}{tls.VersionName(p.Version), p.From, p.To, p.Outcome, float64(p.Took.Microseconds()) / 1000, p.Words, p.Key})
}

// Matrix is what Verify found: by version, then by From and To in the order of Config.Addrs.
type Matrix struct {
	Pairs   []Pair `json:"pairs"`
	Sampled bool   `json:"sampled"` // not every pair was tried
	// OnlyRSA is how a client that can do RSA only is served, where a node has two certificates of
	// the host. Then it must be served everywhere.
	OnlyRSA []Served `json:"only_rsa,omitempty"`
}

// OK reports whether every pair resumed, and a client that can do RSA only is served where it must
// be.
func (m Matrix) OK() bool {
	refuses := func(s Served) bool { return s.Words != "" }
	return len(m.Pairs) > 0 && !slices.ContainsFunc(m.OnlyRSA, refuses) &&
		!slices.ContainsFunc(m.Pairs, func(p Pair) bool { return p.Outcome != Resumed })
}

// ErrBadConfig means that the probe cannot be made. The text says why.
var ErrBadConfig = errors.New("probe: bad configuration")

const (
	defaultMaxPairs = 400
	atOnce          = 16 // connections at the same time; a probe must not look like an attack
)

// Verify makes a session at each address, for each version, and offers it to each address, the
// same one included. Above MaxPairs it tries a sample. The sample is the same each time, and every
// address is a source and a target in it equally often. What nodes do wrong is in the matrix. An
// error means a bad Config, or that ctx ended.
func Verify(ctx context.Context, c Config) (Matrix, error) {
	if err := c.check(); err != nil {
		return Matrix{}, err
	}
	n := len(c.Addrs)
	// each is how many targets one source has.
	each := min(n, max(1, cmp.Or(c.MaxPairs, defaultMaxPairs)/n))
	m := Matrix{Sampled: each < n, Pairs: make([]Pair, len(c.versions())*n*each)}
	g := new(errgroup.Group)
	g.SetLimit(atOnce)
	for v, version := range c.versions() {
		one := c
		one.Versions = []uint16{version}
		for i := range c.Addrs {
			row := m.Pairs[(v*n+i)*each:][:each]
			for j, to := range targets(i, each, n) {
				row[j] = Pair{Version: version, From: c.Addrs[i], To: c.Addrs[to]}
			}
			g.Go(func() error {
				one.offerAll(ctx, row)
				return nil
			})
		}
	}
	g.Wait() // the rows have the errors
	return m, ctx.Err()
}

// targets returns the nodes that source i tries: all n, or some at even distances in a circle,
// without itself.
func targets(i, each, n int) []int {
	var ts []int
	for j := range each {
		if each == n {
			ts = append(ts, j)
		} else {
			ts = append(ts, (i+1+j*(n-1)/each)%n)
		}
	}
	slices.Sort(ts)
	return ts
}

// offerAll makes a session at the source of row, and offers it to each target.
func (c Config) offerAll(ctx context.Context, row []Pair) {
	first, err := Dial(ctx, row[0].From, c, nil)
	if err == nil && first.Session == nil {
		err = ErrNoTicket
	}
	for j := range row {
		p := &row[j]
		if err != nil {
			p.Outcome, p.Err, p.Words = Failed, err, "making a session at "+p.From+": "+err.Error()
			continue
		}
		p.Key = first.Session.KeyID
		r, err := dial(ctx, p.To, c, first.Session, false)
		p.Took = r.Handshake
		switch {
		case err != nil:
			p.Outcome, p.Err, p.Words = Failed, err, err.Error()
		case r.Resumed:
			p.Outcome = Resumed
		default:
			p.Outcome = Full
		}
	}
}

func (c Config) check() error {
	if len(c.Addrs) == 0 {
		return fmt.Errorf("%w: no address to probe", ErrBadConfig)
	}
	if c.SNI == "" {
		return fmt.Errorf("%w: no server name (SNI) to ask for", ErrBadConfig)
	}
	if c.ProxyProtocol != 0 && proxyHeaders[c.ProxyProtocol] == "" {
		return fmt.Errorf("%w: version %d of the PROXY protocol; there are 1 and 2", ErrBadConfig, c.ProxyProtocol)
	}
	for _, v := range c.versions() {
		if v != tls.VersionTLS12 && v != tls.VersionTLS13 {
			return fmt.Errorf("%w: %s; only TLS 1.2 and 1.3 can be probed", ErrBadConfig, tls.VersionName(v))
		}
	}
	return nil
}
