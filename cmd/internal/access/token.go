package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/store"
)

var (
	// ErrNoToken says that there is no token of a name.
	ErrNoToken = errors.New("there is no such token")
	// ErrExists says that there is a token of a name already.
	ErrExists = errors.New("there is such a token")
	// ErrBadToken says that what was asked for can be no token. The text says why.
	ErrBadToken = errors.New("no token can be made")
)

// maxTokens bounds the tokens of a fleet, since every request is compared with all of them.
const maxTokens = 1000

// begin is what every token begins with, so that a scan for secrets finds one.
const begin = "lockstep_"

// Token is what is known of a token. The token itself is not kept.
type Token struct {
	Name    string
	Role    identity.Role
	Scope   string // Scope is the only one in which the role operate counts; "" is all.
	Made    time.Time
	By      string    // By is who made it.
	Expires time.Time // Expires is zero if the token does not end.
	// Problem says why the record lets nobody in. Then nothing else is known but the name.
	Problem string
}

// Expired reports whether the token has ended.
func (t Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// record is a token in the store. Records grow: a field that a version does not know is left
// alone, since a record is never written again. What must be understood stands in Needs.
type record struct {
	Needs   []string  `json:"needs,omitempty"`
	Hash    []byte    `json:"hash"`
	Role    string    `json:"role"`
	Scope   string    `json:"scope,omitempty"`
	Made    time.Time `json:"made"`
	By      string    `json:"by"`
	Expires time.Time `json:"expires,omitzero"`
}

// stored is a token that was read.
type stored struct {
	Token
	hash [sha256.Size]byte
}

func decode(name string, val []byte) stored {
	bad := func(why string) stored { return stored{Token: Token{Name: name, Problem: why}} }
	var r record
	if json.Unmarshal(val, &r) != nil || len(r.Hash) != sha256.Size {
		return bad("its record cannot be read: revoke it, and make another one")
	}
	if len(r.Needs) > 0 {
		return bad(fmt.Sprintf("another version of lockstepd wrote it, and it needs %q: use that version", r.Needs))
	}
	role, err := identity.ParseRole(r.Role)
	if err != nil {
		return bad("its record has a role that this version does not know: " + err.Error())
	}
	return stored{Token{
		Name: name, Role: role, Scope: r.Scope, Made: r.Made, By: r.By, Expires: r.Expires,
	}, [sha256.Size]byte(r.Hash)}
}

// readTokens reads all records.
func (a *Access) readTokens(ctx context.Context) error {
	a.mu.Lock()
	begun := a.changed
	a.mu.Unlock()
	read := map[string]stored{}
	for key, err := range a.cfg.Store.Keys(ctx, store.Tokens.All()) {
		if err != nil {
			return err
		}
		name, err := store.Segment(key)
		if err != nil {
			return err
		}
		val, _, err := a.cfg.Store.Get(ctx, key)
		switch {
		case errors.Is(err, store.ErrNotExist):
			continue
		case errors.Is(err, store.ErrSealed):
			if why := a.foreign(ctx, err); why != nil {
				return why
			}
			val = nil
		case err != nil:
			return err
		}
		read[name] = decode(name, val)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == begun { // else the next look reads what was made or revoked meanwhile
		a.tokens = read
	}
	return nil
}

// Find returns the token of a secret, from memory. It takes as long for a wrong one as for a right
// one. The caller looks whether the token has expired.
func (a *Access) Find(secret string) (t Token, ok bool) {
	hash := sha256.Sum256([]byte(secret))
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.tokens {
		if s.Problem == "" && subtle.ConstantTimeCompare(s.hash[:], hash[:]) == 1 {
			t, ok = s.Token, true
		}
	}
	return t, ok
}

// asksEvery bounds how often a token that is not known has the store read.
const (
	asksEvery  = time.Second
	asksAtOnce = 5
	askWithin  = 2 * time.Second
)

// FindNow is Find. For a token that is not known it reads the store first, since another replica
// may have made it just now. It does so seldom, whatever strangers give.
func (a *Access) FindNow(ctx context.Context, secret string) (t Token, ok bool) {
	if t, ok = a.Find(secret); ok || !strings.HasPrefix(secret, begin) || !a.asks.Allow() {
		return t, ok
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if err := a.readTokens(ctx); err != nil { // Look tells of it
		return t, false
	}
	return a.Find(secret)
}

// List reads the tokens, by name.
func (a *Access) List(ctx context.Context) (all []Token, err error) {
	if err := a.readTokens(ctx); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.tokens {
		all = append(all, s.Token)
	}
	slices.SortFunc(all, func(x, y Token) int { return cmp.Compare(x.Name, y.Name) })
	return all, nil
}

// Check returns why no token can be made of t. The error wraps [ErrBadToken].
func (t Token) Check() error {
	switch {
	case t.Name == "" || len(t.Name) > 63 || strings.Trim(t.Name, "abcdefghijklmnopqrstuvwxyz"+
		"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@") != "":
		return fmt.Errorf("%w: %.80q is no name of a token: it has 1 to 63 of a-z, A-Z, 0-9, -, _, . and @",
			ErrBadToken, t.Name)
	case t.Role < identity.Read || t.Role > identity.Admin:
		return fmt.Errorf("%w: its role is read, operate or admin", ErrBadToken)
	case t.Scope != "" && t.Role != identity.Operate:
		return fmt.Errorf("%w: a scope goes with the role operate, since role %s is not bound to one",
			ErrBadToken, t.Role)
	}
	return nil
}

// New makes a token and returns it. Before is called when nothing stands against it any more; its
// error refuses the token. The error wraps [ErrExists], [ErrBadToken] or Before's error, or is the
// store's.
func (a *Access) New(ctx context.Context, t Token, before func() error) (secret string, err error) {
	if err := t.Check(); err != nil {
		return "", err
	}
	if err := a.readTokens(ctx); err != nil {
		return "", err
	}
	key := store.Tokens.Key(t.Name)
	_, rev, err := a.cfg.Store.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotExist) && !errors.Is(err, store.ErrSealed) {
		return "", err
	}
	a.mu.Lock()
	have, known, n := a.tokens[t.Name].Token, rev != 0, len(a.tokens)
	a.mu.Unlock()
	switch {
	case known && !have.Expired(t.Made):
		return "", fmt.Errorf("%w: %s: revoke it first, or take another name", ErrExists, t.Name)
	case n >= maxTokens && !known:
		return "", fmt.Errorf("%w: there are %d, and no more are kept: revoke some", ErrBadToken, n)
	}
	if err := before(); err != nil {
		return "", err
	}
	secret = begin + rand.Text()
	hash := sha256.Sum256([]byte(secret))
	val, err := json.Marshal(record{
		Hash: hash[:], Role: t.Role.String(), Scope: t.Scope, Made: t.Made.UTC(), By: t.By, Expires: t.Expires.UTC(),
	})
	if err != nil {
		return "", err
	}
	if _, err := a.cfg.Store.Swap(ctx, key, rev, val); errors.Is(err, store.ErrConflict) {
		return "", fmt.Errorf("%w: %s: somebody made it just now", ErrExists, t.Name)
	} else if err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokens[t.Name] = stored{t, hash}
	a.changed++
	return secret, nil
}

// Revoke ends a token. Before is called once it is known that there is one; its error leaves the
// token alone. The error wraps [ErrNoToken] or Before's error, or is the store's.
func (a *Access) Revoke(ctx context.Context, name string, before func() error) error {
	key := store.Tokens.Key(name)
	told := false
	for {
		_, rev, err := a.cfg.Store.Get(ctx, key)
		if errors.Is(err, store.ErrNotExist) {
			if told {
				break // another replica revoked it just now
			}
			return fmt.Errorf("%w: %.80q (lockstep token list)", ErrNoToken, name)
		}
		if err != nil && !errors.Is(err, store.ErrSealed) {
			return err
		}
		if !told {
			if err := before(); err != nil {
				return err
			}
			told = true
		}
		if _, err = a.cfg.Store.Swap(ctx, key, rev, nil); err == nil {
			break
		} else if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.tokens, name)
	a.changed++
	return nil
}
