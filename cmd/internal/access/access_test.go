package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/identity"
	"github.com/lockstep-tls/lockstep/internal/testkit"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func replica(s store.Store, name string) *Access {
	return New(Config{Store: s, Replica: name, Refresh: 5 * time.Second, Log: slog.New(slog.DiscardHandler)})
}

func nothing() error { return nil }

// down is a store that can be taken away.
type down struct {
	store.Store
	err error
}

func (d *down) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	if d.err != nil {
		return nil, 0, d.err
	}
	return d.Store.Get(ctx, key)
}

func TestReplicasProveThemselvesAlsoWhileTheStoreIsAway(t *testing.T) {
	s := &down{Store: memory.New()}
	a, b, stranger := replica(s, "a"), replica(s, "b"), replica(memory.New(), "a")
	for _, r := range []*Access{a, b, stranger} {
		r.Look(t.Context())
	}
	const path = "/v1/nodes?here=&node=x"
	s.err = errors.New("away")
	a.Look(t.Context())
	b.Look(t.Context())
	good := a.Prove(http.MethodGet, path, "b")
	if from, err := b.Proved(http.MethodGet, path, good); err != nil || from != "a" {
		t.Fatalf("%q %v", from, err)
	}
	for name, c := range map[string]struct{ method, path, header, want string }{
		"again":             {http.MethodGet, path, good, "used before"},
		"another path":      {http.MethodGet, "/v1/pulse", a.Prove(http.MethodGet, path, "b"), "another request"},
		"another query":     {http.MethodGet, path + "y", a.Prove(http.MethodGet, path, "b"), "another request"},
		"another method":    {http.MethodPost, path, a.Prove(http.MethodGet, path, "b"), "another request"},
		"to another":        {http.MethodGet, path, a.Prove(http.MethodGet, path, "c"), "this one, b"},
		"from another":      {http.MethodGet, path, "x" + a.Prove(http.MethodGet, path, "b"), "another key"},
		"of another fleet":  {http.MethodGet, path, stranger.Prove(http.MethodGet, path, "b"), "another key"},
		"nothing":           {http.MethodGet, path, "a", "form"},
		"a time that is no": {http.MethodGet, path, "a x y z", "form"},
	} {
		if _, err := b.Proved(c.method, c.path, c.header); !errors.Is(err, ErrProof) ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestAProofEndsAndTheClockIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		a, b := replica(s, "a"), replica(s, "b")
		a.Look(t.Context())
		b.Look(t.Context())
		early := a.Prove(http.MethodGet, "/", "b")
		late := a.Prove(http.MethodGet, "/", "b")
		time.Sleep(proofFor - time.Second)
		if _, err := b.Proved(http.MethodGet, "/", early); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		if _, err := b.Proved(http.MethodGet, "/", late); err == nil ||
			!strings.Contains(err.Error(), "set the clocks") {
			t.Error(err)
		}
		time.Sleep(2 * proofFor)
		if b.Look(t.Context()); len(b.used) != 0 {
			t.Errorf("%d proofs are remembered that have ended", len(b.used))
		}
	})
}

// What the store loses comes back from whoever has it, and a key that is damaged is replaced.
func TestTheKeyComesBack(t *testing.T) {
	s := memory.New()
	a, b := replica(s, "a"), replica(s, "b")
	a.Look(t.Context())
	for name, val := range map[string][]byte{"lost": nil, "damaged": []byte("short")} {
		_, rev, err := s.Get(t.Context(), peerKey)
		testkit.Check(t, err)
		_, err = s.Swap(t.Context(), peerKey, rev, val)
		testkit.Check(t, err)
		a.Look(t.Context())
		b.Look(t.Context())
		if !bytes.Equal(a.key, b.key) || len(a.key) != keySize {
			t.Errorf("%s: two keys", name)
		}
	}
}

// closed is a store of which nothing opens.
type closed struct{ store.Store }

func (c closed) Get(ctx context.Context, key string) ([]byte, store.Rev, error) {
	_, rev, err := c.Store.Get(ctx, key)
	if err == nil {
		err = fmt.Errorf("%s %w", key, store.ErrSealed)
	}
	return nil, rev, err
}

// A replica that has an earlier sealing key replaces no key of the others, and goes on with what it
// has read.
func TestWithAnEarlierSealingKeyNothingIsReplaced(t *testing.T) {
	s := memory.New()
	a, b := replica(s, "a"), replica(s, "b")
	secret, err := a.New(t.Context(), Token{Name: "ci", Role: identity.Read, Made: time.Now()}, nothing)
	testkit.Check(t, err)
	a.Look(t.Context())
	b.Look(t.Context())
	earlier := errors.New("this is an earlier key")
	b.cfg.Store, b.cfg.Unsealed = closed{s}, func(context.Context) error { return earlier }
	_, before, err := s.Get(t.Context(), peerKey)
	testkit.Check(t, err)
	b.Look(t.Context())
	if _, now, err := s.Get(t.Context(), peerKey); err != nil || now != before {
		t.Errorf("the replicas' key was replaced: %v", err)
	}
	if _, ok := b.Find(secret); !ok || !b.failed {
		t.Errorf("the token counts: %v, the look failed: %v", ok, b.failed)
	}
	if _, err := b.List(t.Context()); !errors.Is(err, earlier) {
		t.Error(err)
	}
	b.cfg.Unsealed = func(context.Context) error { return nil }
	if b.Look(t.Context()); b.failed {
		t.Error("a record that is damaged makes the look fail")
	}
}

func TestATokenCountsOnEveryReplicaUntilItIsRevoked(t *testing.T) {
	s := memory.New()
	a, b := replica(s, "a"), replica(s, "b")
	ctx, now := t.Context(), time.Now()
	secret, err := a.New(ctx, Token{Name: "alice", Role: identity.Operate, Scope: "shop", Made: now, By: "me"}, nothing)
	testkit.Check(t, err)
	if got, ok := a.Find(secret); !ok || got.Name != "alice" {
		t.Error("it does not count at once where it was made")
	}
	if _, ok := b.Find(secret); ok {
		t.Error("the other replica knows it before it has looked")
	}
	b.Look(ctx)
	if got, ok := b.Find(secret); !ok || got.Role != identity.Operate || got.Scope != "shop" || got.By != "me" {
		t.Errorf("%+v %v", got, ok)
	}
	for _, guess := range []string{"", secret + "x", strings.ToLower(secret), "alice"} {
		if _, ok := b.Find(guess); ok {
			t.Errorf("%q counts", guess)
		}
	}
	for key, err := range s.Keys(ctx, "") {
		testkit.Check(t, err)
		if val, _, err := s.Get(ctx, key); err != nil || bytes.Contains(val, []byte(secret)) {
			t.Errorf("%s holds the token (%v)", key, err)
		}
	}
	if _, err := b.New(ctx, Token{Name: "alice", Role: identity.Read, Made: now}, nothing); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	refused := errors.New("no audit log")
	if err := b.Revoke(ctx, "alice", func() error { return refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	testkit.Check(t, b.Revoke(ctx, "alice", nothing))
	if _, ok := b.Find(secret); ok {
		t.Error("it counts where it was revoked")
	}
	a.Look(ctx)
	if _, ok := a.Find(secret); ok {
		t.Error("it counts although it was revoked")
	}
	if err := b.Revoke(ctx, "alice", nothing); !errors.Is(err, ErrNoToken) {
		t.Error(err)
	}
}

func TestATokenThatHasEndedGivesUpItsName(t *testing.T) {
	a := replica(memory.New(), "a")
	now := time.Now()
	first := Token{Name: "ci", Role: identity.Read, Made: now, Expires: now.Add(time.Hour)}
	_, err := a.New(t.Context(), first, nothing)
	testkit.Check(t, err)
	if first.Expired(now.Add(time.Hour-1)) || !first.Expired(now.Add(time.Hour)) {
		t.Error("it ends at another time")
	}
	second := Token{Name: "ci", Role: identity.Read, Made: now.Add(2 * time.Hour)}
	secret, err := a.New(t.Context(), second, nothing)
	testkit.Check(t, err)
	if got, ok := a.Find(secret); !ok || !got.Expires.IsZero() {
		t.Errorf("%+v %v", got, ok)
	}
}

// Records grow. One that must be understood lets nobody in.
func TestATokenOfALaterVersionLetsNobodyInUnlessItIsUnderstood(t *testing.T) {
	s := memory.New()
	a := replica(s, "a")
	for _, name := range []string{"grown", "needing", "a-role", "damaged"} {
		_, err := a.New(t.Context(), Token{Name: name, Role: identity.Admin, Made: time.Now()}, nothing)
		testkit.Check(t, err)
	}
	change := func(name string, f func(map[string]any)) {
		key := store.Tokens.Key(name)
		val, rev, err := s.Get(t.Context(), key)
		testkit.Check(t, err)
		m := map[string]any{}
		testkit.Check(t, json.Unmarshal(val, &m))
		f(m)
		val, err = json.Marshal(m)
		testkit.Check(t, err)
		_, err = s.Swap(t.Context(), key, rev, val)
		testkit.Check(t, err)
	}
	change("grown", func(m map[string]any) { m["note"] = "x" })
	change("needing", func(m map[string]any) { m["needs"] = []string{"networks"} })
	change("a-role", func(m map[string]any) { m["role"] = "owner" })
	change("damaged", func(m map[string]any) { m["hash"] = "AAAA" })
	all, err := a.List(t.Context())
	testkit.Check(t, err)
	for _, tok := range all {
		if (tok.Problem == "") != (tok.Name == "grown") {
			t.Errorf("%+v", tok)
		}
		if tok.Problem != "" && tok.Role != identity.NoRole {
			t.Errorf("%s has the role %s", tok.Name, tok.Role)
		}
	}
	if len(all) != 4 {
		t.Errorf("%+v", all)
	}
}

func TestWhatCanBeNoTokenIsRefused(t *testing.T) {
	for want, tok := range map[string]Token{
		"no name":        {Name: "a b", Role: identity.Read},
		"1 to 63":        {Role: identity.Read},
		"its role":       {Name: "a"},
		"a scope":        {Name: "a", Role: identity.Admin, Scope: "shop"},
		"a scope goes":   {Name: "a", Role: identity.Read, Scope: "shop"},
		"role is read, ": {Name: "a", Role: identity.Admin + 1},
	} {
		if err := tok.Check(); !errors.Is(err, ErrBadToken) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", tok, err, want)
		}
	}
}

// counting counts reads of keys.
type counting struct {
	store.Store
	listed int
}

func (c *counting) Keys(ctx context.Context, p string) iter.Seq2[string, error] {
	c.listed++
	return c.Store.Keys(ctx, p)
}

// A token that another replica made just now counts at once. Guesses do not have the store read
// again and again.
func TestANewTokenCountsAtOtherReplicasAtOnce(t *testing.T) {
	s := &counting{Store: memory.New()}
	a, b := replica(s, "a"), replica(s, "b")
	b.Look(t.Context())
	secret, err := a.New(t.Context(), Token{Name: "alice", Role: identity.Read, Made: time.Now()}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if tok, ok := b.FindNow(t.Context(), secret); !ok || tok.Name != "alice" {
		t.Errorf("another replica knows %+v %v", tok, ok)
	}
	before := s.listed
	for range 1000 {
		if _, ok := b.FindNow(t.Context(), begin+"guess"); ok {
			t.Fatal("a guess counts")
		}
		if _, ok := b.FindNow(t.Context(), "guess"); ok {
			t.Fatal("a guess counts")
		}
	}
	if n := s.listed - before; n > 10 {
		t.Errorf("2000 guesses had the store read %d times", n)
	}
}
