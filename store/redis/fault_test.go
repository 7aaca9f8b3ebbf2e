package redis

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// said checks that err is not certain, names the server, and gives the advice.
func said(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	if !uncertain(err) {
		t.Errorf("%s = %v, want an error that is not certain", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s = %q, which lacks %q", what, err, w)
		}
	}
}

func soon(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := fleet.Until(ctx, check); err != nil {
		t.Fatal(err)
	}
}

func TestAKilledServerComesBackWithAllThatItAcknowledged(t *testing.T) {
	r := server(t)
	s := open(t, at(t, "redis://"+r.Addr))
	w := write(t, s, 4, 1)
	time.Sleep(300 * time.Millisecond) // of writing
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, _, err := s.Get(ctx, "a/x")
	said(t, "Get", err, r.Addr, "is it up")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > time.Second {
		t.Errorf("Get = %v after %v", err, time.Since(begin))
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := r.Ready(limited(t)); err != nil {
		t.Fatal(err)
	}
	w.goesOn(3 * time.Second)
	w.check(s)

	// A server that is stalled is not waited for longer than a read takes.
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	_, err = s.Swap(t.Context(), "a/stalled", 0, []byte("v"))
	said(t, "Swap", err, r.Addr, "unknown outcome")
	if d := time.Since(begin); d > readTimeout+time.Second {
		t.Errorf("a stalled server was waited for for %v", d)
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "a/stalled"); err != nil && !errors.Is(err, store.ErrNotExist) {
		t.Error(err)
	}
}

func TestAfterARestartEveryKeyIsToldOnce(t *testing.T) {
	r := server(t)
	s := open(t, at(t, "redis://"+r.Addr))
	put(t, s, "a/x", 0, "v")
	put(t, s, "b/y", 0, "v")
	_, head, err := s.Changed(t.Context(), "a/", 0)
	if err != nil {
		t.Fatal(err)
	}
	quiet := func(prefix string, since store.Rev, want int) store.Rev {
		t.Helper()
		keys, next, err := s.Changed(t.Context(), prefix, since)
		if err != nil || len(keys) != want || next < since {
			t.Fatalf("Changed(%q, %d) = %q, %d, %v, want %d keys", prefix, since, keys, next, err, want)
		}
		return next
	}
	quiet("a/", head, 0)
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	next := quiet("a/", head, 1)
	quiet("a/", next, 0)
	quiet("b/", head, 1) // each who watches
	if rev := put(t, s, "a/x2", 0, "v"); rev <= next {
		t.Errorf("revision %d after %d", rev, next)
	}
	quiet("a/", next, 1)

	// A server that is put back to what it was, and whose clock is behind.
	do(t, r, "HSET {lockstep}:meta rev 5")
	do(t, r, "ZADD {lockstep}:changes 4 a/x")
	keys, head, err := s.Changed(t.Context(), "a/", next)
	if err != nil || len(keys) != 2 || head <= next {
		t.Errorf("Changed = %q, %d, %v: it did not notice that revisions went back", keys, head, err)
	}
	quiet("a/", head, 0)
}

func TestTLSWithAnACLUserWhoseRightsComeAndGo(t *testing.T) {
	ca, err := fleet.NewCA("redis-ca")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pair := func(name string) (cert, key string) {
		p, err := ca.Issue(fleet.Leaf{Names: []string{name}, IPs: []string{"127.0.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		return file(name+".crt", p.Chain), file(name+".key", p.Key)
	}
	roots := file("ca.crt", ca.PEM())
	serverCert, serverKey := pair("server")
	clientCert, clientKey := pair("client")
	password := file("password", []byte("hunter2\n"))
	port, err := fleet.Port()
	if err != nil {
		t.Fatal(err)
	}
	// Exactly what the advice says.
	const rights = " ~{lockstep}:* +@read +@write +@scripting +@connection +info +time +wait"
	r := server(t, fmt.Sprintf("tls-port %d", port), "tls-ca-cert-file "+roots,
		"tls-cert-file "+serverCert, "tls-key-file "+serverKey,
		"user op on >hunter2"+rights)
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	url := "rediss://op@" + addr + "?password_file=" + password + "&tls_ca=" + roots +
		"&tls_cert=" + clientCert + "&tls_key=" + clientKey
	s := open(t, at(t, url))
	rev := put(t, s, "a/x", 0, "v")

	for what, other := range map[string]string{
		"no client certificate": "rediss://op@" + addr + "?password_file=" + password + "&tls_ca=" + roots,
		"no TLS":                "redis://op@" + addr + "?password_file=" + password,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if _, err := Open(ctx, at(t, other)); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: Open = %v", what, err)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var unknown x509.UnknownAuthorityError
	if _, err := Open(ctx, at(t, "rediss://op@"+addr+"?password_file="+password)); !errors.As(err, &unknown) {
		t.Errorf("Open = %v, without the CA", err)
	}
	if _, err := Open(t.Context(), at(t, "redis://op@"+r.Addr+"?password_file="+serverKey)); err == nil ||
		!strings.Contains(err.Error(), "password_file") {
		t.Errorf("Open = %v with another password", err)
	}

	do(t, r, "ACL SETUSER op off")
	do(t, r, "CLIENT KILL USER op")
	begin := time.Now()
	_, _, err = s.Get(t.Context(), "a/x")
	said(t, "Get", err, addr, "switched off", "password_file")
	_, err = s.Swap(t.Context(), "a/x", rev, []byte("w"))
	said(t, "Swap", err, addr, "switched off")
	if d := time.Since(begin); d > time.Second {
		t.Errorf("it took %v to be refused", d)
	}
	do(t, r, "ACL SETUSER op on resetpass >changed")
	file("password", []byte("changed"))
	if val, _, err := s.Get(t.Context(), "a/x"); err != nil || string(val) != "v" {
		t.Fatalf("Get = %q, %v, with its rights given back", val, err)
	}
	rev = put(t, s, "a/x", rev, "w")

	do(t, r, "ACL SETUSER op -zadd") // in the midst of a script
	_, err = s.Swap(t.Context(), "a/x", rev, []byte("x"))
	said(t, "Swap", err, addr, "the ACL user needs")
	if val, got, err := s.Get(t.Context(), "a/x"); err != nil || string(val) != "w" || got != rev {
		t.Errorf("Get = %q, %d, %v, after a swap that was refused", val, got, err)
	}
	do(t, r, "ACL SETUSER op +zadd")
	put(t, s, "a/x", rev, "x")
}

func TestFullMemoryRefusesWritesButNotReadsAndDeletes(t *testing.T) {
	r := server(t)
	s := open(t, at(t, "redis://"+r.Addr))
	rev := put(t, s, "a/x", 0, "v")
	other := put(t, s, "a/y", 0, "v")
	do(t, r, "CONFIG SET maxmemory 1mb")
	_, err := s.Swap(t.Context(), "a/x", rev, []byte("w"))
	said(t, "Swap", err, r.Addr, "memory is full", "maxmemory")
	_, err = s.Swap(t.Context(), "a/new", 0, []byte("w"))
	said(t, "Swap", err, "memory is full")
	if val, got, err := s.Get(t.Context(), "a/x"); err != nil || string(val) != "v" || got != rev {
		t.Errorf("Get = %q, %d, %v", val, got, err)
	}
	gone, err := s.Swap(t.Context(), "a/y", other, nil)
	if err != nil {
		t.Errorf("a delete, which makes room: %v", err)
	}
	if got := all(t, s, ""); len(got) != 1 {
		t.Errorf("Keys = %q", got)
	}
	if changed, head, err := s.Changed(t.Context(), "", other); err != nil || len(changed) != 1 || head != gone {
		t.Errorf("Changed = %q, %d, %v", changed, head, err)
	}
	do(t, r, "CONFIG SET maxmemory 0")
	put(t, s, "a/x", rev, "w")

	do(t, r, "CONFIG SET maxmemory-policy allkeys-lru")
	if _, err := Open(t.Context(), at(t, "redis://"+r.Addr)); err == nil ||
		!strings.Contains(err.Error(), "noeviction") {
		t.Errorf("Open = %v, where records would be dropped", err)
	}
}

func TestAnEmptiedServerIsLostUntilItIsMadeAgain(t *testing.T) {
	r := server(t)
	cfg := at(t, "redis://"+r.Addr)
	one, two, three := open(t, cfg), open(t, cfg), open(t, cfg)
	lostAndMadeAgain(t, one, two, three, func() { do(t, r, "FLUSHALL") })
}

// lostAndMadeAgain empties the store of three replicas.
func lostAndMadeAgain(t *testing.T, one, two, three *Store, empty func()) {
	ctx := t.Context()
	var last store.Rev
	for i := range 20 {
		last = put(t, one, fmt.Sprintf("a/%d", i), 0, "v")
	}
	if err := one.Recreate(ctx); err != nil {
		t.Fatal(err)
	}
	if got := all(t, two, ""); len(got) != 20 {
		t.Fatalf("Recreate of a store that is there left %q", got)
	}
	empty()
	lost := func(s *Store) {
		t.Helper()
		check := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, store.ErrLost) ||
				errors.Is(err, store.ErrNotExist) || errors.Is(err, store.ErrConflict) {
				t.Errorf("%s = %v, want ErrLost", what, err)
			}
		}
		_, _, err := s.Get(ctx, "a/1")
		check("Get", err)
		_, err = s.Swap(ctx, "a/1", 0, []byte("w"))
		check("Swap", err)
		_, err = s.Swap(ctx, "a/none", 0, nil)
		check("Swap of nothing", err)
		_, _, err = s.Changed(ctx, "a/", last)
		check("Changed", err)
		_, err = s.Now(ctx)
		check("Now", err)
		for _, err := range s.Keys(ctx, "a/") {
			check("Keys", err)
		}
	}
	for _, s := range []*Store{one, two, three} {
		lost(s)
	}
	var wg sync.WaitGroup
	for _, s := range []*Store{one, one, two} { // at once
		wg.Go(func() {
			if err := s.Recreate(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if one.id() != two.id() {
		t.Fatalf("one has %s, the other %s", one.id(), two.id())
	}
	if _, _, err := one.Get(ctx, "a/1"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("Get = %v in an empty store", err)
	}
	next := put(t, one, "a/1", 0, "new")
	if next <= last {
		t.Errorf("revision %d after %d", next, last)
	}
	lost(three) // it is there again, but not what this one saw
	if err := three.Recreate(ctx); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Store{two, three} {
		if val, rev, err := s.Get(ctx, "a/1"); err != nil || string(val) != "new" || rev != next {
			t.Errorf("Get = %q, %d, %v, want what the other wrote", val, rev, err)
		}
		if changed, _, err := s.Changed(ctx, "", last); err != nil || len(changed) != 1 {
			t.Errorf("Changed = %q, %v, want what the other wrote", changed, err)
		}
	}
}

func TestAReplicaIsNeverAnswered(t *testing.T) {
	r, other := server(t), server(t)
	s := open(t, at(t, "redis://"+r.Addr))
	rev := put(t, s, "a/x", 0, "v")
	host, port, _ := strings.Cut(other.Addr, ":")
	do(t, r, "REPLICAOF", host, port)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, _, err := s.Get(ctx, "a/x")
	said(t, "Get", err, r.Addr, "READONLY", "failover")
	if errors.Is(err, store.ErrLost) {
		t.Errorf("Get = %v of a replica", err)
	}
	_, err = s.Swap(ctx, "a/x", rev, []byte("w"))
	said(t, "Swap", err)
	do(t, r, "REPLICAOF NO ONE") // meanwhile it has become what the other is: empty
	soon(t, 3*time.Second, func() error {
		if _, _, err := s.Get(t.Context(), "a/x"); !errors.Is(err, store.ErrLost) {
			return fmt.Errorf("Get = %w", err)
		}
		return nil
	})
}

func TestASwapThatNoReplicaConfirmedIsUnknown(t *testing.T) {
	r, replica := server(t), server(t)
	s := open(t, at(t, "redis://"+r.Addr))
	host, port, _ := strings.Cut(r.Addr, ":")
	do(t, replica, "REPLICAOF", host, port)
	soon(t, 10*time.Second, func() error {
		if got := do(t, r, "INFO replication"); !strings.Contains(got, "state=online") {
			return errors.New(got)
		}
		return nil
	})
	rev := put(t, s, "a/x", 0, "v")
	if got := do(t, replica, "GET {lockstep}:v:a/x"); got != "v" {
		t.Errorf("the replica has %q", got)
	}
	if err := replica.Pause(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err := s.Swap(t.Context(), "a/x", rev, []byte("w"))
	said(t, "Swap", err, r.Addr, "unknown outcome", "no replica")
	if d := time.Since(begin); d > waitTimeout+time.Second {
		t.Errorf("the replica was waited for for %v", d)
	}
	nowait := open(t, at(t, "redis://"+r.Addr+"?wait=0"))
	put(t, nowait, "a/y", 0, "v")
	if err := replica.Resume(); err != nil {
		t.Fatal(err)
	}
	val, rev, err := s.Get(t.Context(), "a/x")
	if err != nil || string(val) != "w" {
		t.Errorf("Get = %q, %v", val, err)
	}
	put(t, s, "a/x", rev, "x")
}
