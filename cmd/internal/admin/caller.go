package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lockstep-tls/lockstep/cmd/internal/access"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/identity"
)

const proofHeader = access.ProofHeader

// caller is who sent a request, as it was proved.
type caller struct {
	name  string // name is for people: token alice, local administrator, certificate spiffe://…
	role  identity.Role
	scope string // scope is the only one in which it may change something; "" is all.
	peer  bool   // peer says that it is another replica.
	// changing says that the request would change something.
	changing bool

	mu    sync.Mutex
	claim string  // claim is who he says that he is.
	first written // first is the first line that the request wrote into the audit log.
	lines int     // lines is how many it wrote.
}

// localAdministrator is the name of whoever has admin.token of the data directory.
const localAdministrator = "local administrator"

// callerOf finds out who sent r. A token counts if there is one. Else it is a replica by its proof,
// or the certificate by the policy. The error says what to do.
func (a *admin) callerOf(r *http.Request) (*caller, error) {
	c, err := a.proven(r)
	if err != nil {
		return nil, err
	}
	if a.cfg.Operators != nil && r.TLS != nil && !c.peer {
		if err := a.cfg.Operators(r.TLS.PeerCertificates); err != nil {
			return nil, fmt.Errorf("this certificate is not for the admin API, "+
				"it is of no CA of admin_client_ca: %w", err)
		}
	}
	c.claim = cleaned(r.Header.Get(api.ClaimHeader))
	return c, nil
}

func (a *admin) proven(r *http.Request) (*caller, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		secret, ok := strings.CutPrefix(h, "Bearer ")
		if !ok {
			return nil, errors.New("the header Authorization must be: Bearer TOKEN")
		}
		return a.byToken(r.Context(), secret)
	}
	if h := r.Header.Get(proofHeader); h != "" {
		from, err := a.cfg.Access.Proved(r.Method, r.RequestURI, h)
		if err != nil {
			return nil, err
		}
		return &caller{name: "replica " + from, role: identity.Read, peer: true}, nil
	}
	// The listener lets in only certificates that it has verified. By SPIFFE it does that itself,
	// and there are no VerifiedChains.
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		who := identity.FromCertificate(r.TLS.PeerCertificates[0])
		if p := a.cfg.Policy(); p != nil && who != "" {
			if role := p.Role(who); role > identity.NoRole {
				return &caller{name: "certificate " + who, role: role}, nil
			}
		}
		return nil, fmt.Errorf("the certificate of %q has no role at the admin API, and there is no token: "+
			"give a token (lockstep --token-file, or the header Authorization: Bearer TOKEN), "+
			"or a rule of the policy with admin: [read]", who)
	}
	return nil, errors.New("the admin API needs a token, for reading too: run lockstep as the user that lockstepd " +
		"runs as, or have an administrator make one (lockstep token new --name NAME --role read) and give it " +
		"(lockstep --token-file, or the header Authorization: Bearer TOKEN); " +
		"/healthz, /readyz and /metrics need none. " +
		"A lockstepd of an earlier version cannot ask this one until it is upgraded")
}

// byToken compares hashes, so that the time tells nothing of the token.
func (a *admin) byToken(ctx context.Context, secret string) (*caller, error) {
	given, own := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(a.cfg.Token))
	t, ok := access.Token{}, false
	isOwn := a.cfg.Token != "" && subtle.ConstantTimeCompare(given[:], own[:]) == 1
	if a.cfg.Access != nil && !isOwn {
		t, ok = a.cfg.Access.FindNow(ctx, secret)
	}
	switch {
	case isOwn:
		return &caller{name: localAdministrator, role: identity.Admin}, nil
	case !ok:
		return nil, errors.New("the token is wrong, or was revoked: that of the local administrator is in " +
			"admin.token of the data directory, and an administrator makes others (lockstep token new)")
	case t.Expired(time.Now()):
		return nil, fmt.Errorf("the token %s ended at %s: an administrator makes another one "+
			"(lockstep token new --name %[1]s)", t.Name, t.Expires.UTC().Format(time.RFC3339))
	}
	return &caller{name: "token " + t.Name, role: t.Role, scope: t.Scope}, nil
}

// maxClaim bounds what a caller says of himself, in bytes.
const maxClaim = 128

// cleaned makes a claim that cannot be taken for anything else: one line, without parentheses.
func cleaned(claim string) string {
	claim = shortened(claim) // a long one costs nothing
	claim = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '(' || r == ')' {
			return '?'
		}
		return r
	}, claim)
	return shortened(claim) // what was no UTF-8 has grown
}

// shortened returns the whole runes of s that fit into maxClaim.
func shortened(s string) string {
	if len(s) <= maxClaim {
		return s
	}
	end := maxClaim
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// String is the caller in the audit log and the history.
func (c *caller) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.claim == "" {
		return c.name
	}
	return fmt.Sprintf("%s (claims %s)", c.name, c.claim)
}

type callerKey struct{}

func with(ctx context.Context, c *caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func callerIn(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller)
	return c
}

// Actor returns who sent the request of ctx. Without a request it is lockstepd itself.
func Actor(ctx context.Context) string {
	if c := callerIn(ctx); c != nil {
		return c.String()
	}
	return "lockstepd"
}

// claimed notes what the body of a request claims, unless a header did. It returns the actor.
func claimed(r *http.Request, by string) string {
	if c := callerIn(r.Context()); c != nil && by != "" {
		c.mu.Lock()
		if c.claim == "" {
			c.claim = cleaned(by)
		}
		c.mu.Unlock()
	}
	return Actor(r.Context())
}

// refusals bounds what guesses leave in the log.
type refusals struct {
	log *slog.Logger

	mu    sync.Mutex
	next  time.Time // next is when a line may be written again.
	quiet int       // quiet counts the refusals without a line.
}

// refusalsEvery is how often a line may be written.
const refusalsEvery = 10 * time.Second

func (s *refusals) note(r *http.Request, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Before(s.next) {
		s.quiet++
		return
	}
	s.log.Warn("the admin API refused a request", "remote", r.RemoteAddr, "method", r.Method, "path", r.URL.Path,
		"why", err.Error(), "refused_since_the_last_line", s.quiet)
	s.next, s.quiet = now.Add(refusalsEvery), 0
}
