package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/lockstep-tls/lockstep/cmd/internal/backup"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/catalog"
	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/memory"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func set(t testing.TB, s store.Store, key, val string) {
	t.Helper()
	_, rev, err := s.Get(t.Context(), key)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		t.Fatal(err)
	}
	_, err = s.Swap(t.Context(), key, rev, []byte(val))
	check(t, err)
}

func get(t testing.TB, s store.Store, key string) string {
	t.Helper()
	val, _, err := s.Get(t.Context(), key)
	if errors.Is(err, store.ErrNotExist) {
		return "(none)"
	}
	check(t, err)
	return string(val)
}

func keys(t testing.TB, s store.Store) (all []string) {
	t.Helper()
	for key, err := range s.Keys(t.Context(), "") {
		check(t, err)
		all = append(all, key)
	}
	return all
}

func certify(t testing.TB, s store.Store, ca *fleet.CA, name string) string {
	t.Helper()
	p, err := ca.Issue(fleet.Leaf{Names: []string{name}})
	check(t, err)
	_, err = catalog.New(catalog.Config{Store: s}).Put(t.Context(), keysource.Name(name),
		keysource.PEM{Chain: p.Chain, Key: p.Key})
	check(t, err)
	return get(t, s, "cert/"+name)
}

func newCA(t testing.TB) *fleet.CA {
	t.Helper()
	ca, err := fleet.NewCA("Backup Test CA")
	check(t, err)
	return ca
}

func pair(t testing.TB) (*age.X25519Identity, []age.Recipient) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	check(t, err)
	to, err := backup.Recipients([]string{id.Recipient().String()}, "")
	check(t, err)
	return id, to
}

// take returns a backup of s.
func take(t testing.TB, s store.Store, to []age.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := backup.Take(t.Context(), &b, to, s)
	check(t, err)
	return b.Bytes()
}

func restore(ctx context.Context, s store.Store, b []byte, plan bool, ids ...age.Identity) (backup.Summary, error) {
	plain, err := backup.Decrypt(bytes.NewReader(b), ids)
	if err != nil {
		return backup.Summary{}, err
	}
	r, err := backup.NewReader(plain)
	if err != nil {
		return backup.Summary{}, err
	}
	return backup.Restore{Store: s, By: "test", Plan: plan}.Run(ctx, r)
}

func TestWhatIsTakenComesBack(t *testing.T) {
	id, to := pair(t)
	from, ca := memory.New(), newCA(t)
	want := map[string]string{}
	for i := range 20 {
		name := fmt.Sprintf("host-%d.example", i)
		want["cert/"+name] = certify(t, from, ca, name)
	}
	for key, val := range map[string]string{
		"dir/names": `["a.example"]`, "audit/head": "h", "audit/key": "k", "audit/lines/1": "l", "policy/x": "",
	} {
		set(t, from, key, val)
		want[key] = val
	}
	for _, key := range []string{"roster/default/r1", "seal/canary", "store/frozen"} {
		set(t, from, key, "of the moment")
	}
	b := take(t, from, to)
	for _, secret := range []string{"PRIVATE KEY", "host-1.example", "lockstep_backup", "of the moment"} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%q stands in the clear", secret)
		}
	}

	into := memory.New()
	sum, err := restore(t.Context(), into, b, true, id)
	check(t, err)
	if n := len(keys(t, into)); n != 0 || sum.Counts[backup.Added] != len(want) {
		t.Fatalf("a plan wrote %d records, and counts %v", n, sum.Counts)
	}
	_, err = restore(t.Context(), into, b, false, id)
	check(t, err)
	for key, val := range want {
		if got := get(t, into, key); got != val {
			t.Errorf("%s is %.40q, want %.40q", key, got, val)
		}
	}
	if got := keys(t, into); len(got) != len(want) {
		t.Errorf("%d records, want %d: %v", len(got), len(want), got)
	}
	sum, err = restore(t.Context(), into, b, false, id)
	if err != nil || sum.Counts[backup.Same] != len(want) {
		t.Errorf("again: %v, %v", sum.Counts, err)
	}
}

func TestWhatTheStoreHasAlready(t *testing.T) {
	id, to := pair(t)
	from, ca := memory.New(), newCA(t)
	old := certify(t, from, ca, "shop.example")
	for key, val := range map[string]string{
		"dir/names": "old", "audit/key": "theirs", "audit/head": "theirs", "audit/lines/1": "theirs",
	} {
		set(t, from, key, val)
	}
	b := take(t, from, to)
	into := memory.New()
	certify(t, into, ca, "shop.example")
	other := certify(t, into, ca, "other.example")
	set(t, into, "dir/names", "new")
	set(t, into, "audit/key", "ours")
	set(t, into, "audit/head", "ours")
	sum, err := restore(t.Context(), into, b, false, id)
	check(t, err)
	for key, want := range map[string]string{
		"cert/shop.example": old, "cert/other.example": other, "dir/names": "new", "audit/key": "ours",
		"audit/head": "ours", "audit/lines/1": "(none)",
	} {
		if got := get(t, into, key); got != want {
			t.Errorf("%s is %.40q, want %.40q", key, got, want)
		}
	}
	if sum.Counts[backup.Replaced] != 1 || sum.Counts[backup.Kept] != 4 {
		t.Errorf("%v", sum.Counts)
	}

	set(t, into, "audit/key", "theirs") // the same chain, which went on, and has lost older lines
	_, err = restore(t.Context(), into, b, false, id)
	check(t, err)
	if get(t, into, "audit/head") != "ours" || get(t, into, "audit/lines/1") != "theirs" {
		t.Errorf("head %s, lines %s", get(t, into, "audit/head"), get(t, into, "audit/lines/1"))
	}
}

// Whatever is wrong with a file, a plan of it fails, so that nothing is written.
func TestADamagedBackupIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	id, to := pair(t)
	from := memory.New()
	for i := range 500 {
		set(t, from, fmt.Sprintf("x/%03d", i), strings.Repeat("v", 1000)) // several chunks of age's
	}
	good := take(t, from, to)
	stranger, _ := pair(t)
	for _, cut := range []int{0, 1, 100, 200, 300, 64 << 10, len(good) / 2, len(good) - 1} {
		if _, err := restore(t.Context(), memory.New(), good[:cut], true, id); !errors.Is(err, backup.ErrBad) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	for _, at := range []int{0, 30, 150, 250, len(good) / 2, len(good) - 1} {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		if _, err := restore(t.Context(), memory.New(), bad, true, id); !errors.Is(err, backup.ErrBad) &&
			!errors.Is(err, backup.ErrLocked) {
			t.Errorf("changed at %d: %v", at, err)
		}
	}
	if _, err := restore(t.Context(), memory.New(), append(bytes.Clone(good), 'x'),
		true, id); !errors.Is(err, backup.ErrBad) {
		t.Errorf("with more behind it: %v", err)
	}
	if _, err := restore(t.Context(), memory.New(), good, true, stranger); !errors.Is(err, backup.ErrLocked) {
		t.Errorf("another identity: %v", err)
	}
}

func TestForgedRecordsDoNotComeIn(t *testing.T) {
	ca := newCA(t)
	s := memory.New()
	shop, other := certify(t, s, ca, "shop.example"), certify(t, s, ca, "other.example")
	mixed := strings.Replace(shop, keyIn(t, shop), keyIn(t, other), 1)
	for name, r := range map[string][2]string{
		"a certificate with another key":  {"cert/shop.example", mixed},
		"a certificate under another":     {"cert/shop.example", other},
		"not a certificate":               {"cert/shop.example", "{}"},
		"not a ring":                      {"ring/default", "{}"},
		"a badly escaped name":            {"cert/=X", shop},
		"a ring of another scope's":       {"ring/default", `{"format":1,"scope":"other"}`},
		"a certificate of a ring's name":  {"cert/tickets=2Fdefault", shop},
		"a name that is not as it should": {"cert/Shop.example", shop},
	} {
		var text bytes.Buffer
		w, err := backup.NewWriter(&text, time.Now())
		check(t, err)
		check(t, w.Record(r[0], []byte(r[1])))
		check(t, w.Close())
		rd, err := backup.NewReader(&text)
		check(t, err)
		into := memory.New()
		_, err = backup.Restore{Store: into, By: "test"}.Run(t.Context(), rd)
		if !errors.Is(err, backup.ErrRefused) || !strings.Contains(err.Error(), r[0]) ||
			strings.Contains(err.Error(), "PRIVATE") || len(keys(t, into)) > 0 {
			t.Errorf("%s: %v, %v", name, err, keys(t, into))
		}
	}
}

// keyIn finds the private key in a certificate's record: PKCS#8 of 138 bytes, since it is on P-256
// (RFC 5915).
func keyIn(t *testing.T, record string) string {
	t.Helper()
	at := strings.Index(record, "\x30\x81\x87\x02\x01\x00")
	if at < 0 || len(record) < at+138 {
		t.Fatal("no key on P-256 in the record")
	}
	return record[at : at+138]
}

func TestPassphrase(t *testing.T) {
	from := memory.New()
	set(t, from, "x/1", "v")
	word, err := backup.Passphrase(strings.NewReader("correct horse \r\nsecond line\n"))
	if err != nil || word != "correct horse " {
		t.Fatalf("%q, %v", word, err)
	}
	to, err := backup.Recipients(nil, word)
	check(t, err)
	to[0].(*age.ScryptRecipient).SetWorkFactor(10)
	b := take(t, from, to)
	for given, want := range map[string]error{word: nil, "correct horse": backup.ErrLocked} {
		ids, err := backup.Unlock(given)
		check(t, err)
		if _, err := restore(t.Context(), memory.New(), b, true, ids...); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", given, err, want)
		}
	}
	if _, err := backup.Passphrase(strings.NewReader("\nx")); err == nil {
		t.Error("an empty passphrase")
	}
}

func TestRecipientsNamesWhatIsWrongAndQuotesNothing(t *testing.T) {
	id, _ := pair(t)
	pub := id.Recipient().String()
	for name, c := range map[string]struct {
		public []string
		word   string
	}{
		"none":       {nil, ""},
		"both":       {[]string{pub}, "word"},
		"a secret":   {[]string{id.String()}, ""},
		"cut":        {[]string{pub, pub[:40]}, ""},
		"two in one": {[]string{pub + "\n" + pub}, ""},
	} {
		if _, err := backup.Recipients(c.public, c.word); err == nil ||
			strings.Contains(err.Error(), id.String()[:30]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := backup.Identities(strings.NewReader("# mine\n" + id.String()[:50])); err == nil ||
		strings.Contains(err.Error(), id.String()[:30]) {
		t.Errorf("a cut identity: %v", err)
	}
}

// failing ends a backup in the middle.
type failing struct{ store.Store }

func (failing) Get(context.Context, string) ([]byte, store.Rev, error) {
	return nil, 0, store.ErrSealed
}

func TestARecordThatDoesNotOpenFailsTheBackup(t *testing.T) {
	id, to := pair(t)
	s := memory.New()
	set(t, s, "x/1", "v")
	var b bytes.Buffer
	if _, err := backup.Take(t.Context(), &b, to, failing{s}); !errors.Is(err, store.ErrSealed) {
		t.Fatal(err)
	}
	if _, err := restore(t.Context(), memory.New(), b.Bytes(), true, id); !errors.Is(err, backup.ErrBad) {
		t.Errorf("what was written of it is taken for whole: %v", err)
	}
}

func TestWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.StringN(1, 20, -1).Filter(func(s string) bool {
			return strings.ToValidUTF8(s, "") == s
		}), rapid.SliceOf(rapid.Byte())).Draw(t, "records")
		var b bytes.Buffer
		w, err := backup.NewWriter(&b, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		names := make([]string, 0, len(want))
		for key := range want {
			names = append(names, key)
		}
		slices.Sort(names)
		for _, key := range names {
			if err := w.Record(key, want[key]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		text := b.Bytes()
		got, err := read(text)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d records, %v", len(got), err)
		}
		for key, val := range want {
			if !bytes.Equal(got[key], val) {
				t.Fatalf("%q came back as %q", val, got[key])
			}
		}
		if _, err := read(text[:rapid.IntRange(0, len(text)-1).Draw(t, "cut")]); !errors.Is(err, backup.ErrBad) {
			t.Fatalf("cut short: %v", err)
		}
	})
}

func read(text []byte) (map[string][]byte, error) {
	r, err := backup.NewReader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	got := map[string][]byte{}
	for {
		key, val, err := r.Next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return nil, err
		}
		if _, twice := got[key]; twice {
			return nil, fmt.Errorf("%q came twice", key)
		}
		got[key] = val
	}
}

// FuzzReader: whatever is wrong with a text is said as such, and what is read before that keeps its
// order.
func FuzzReader(f *testing.F) {
	var b bytes.Buffer
	w, err := backup.NewWriter(&b, time.Unix(1e9, 0))
	check(f, err)
	check(f, w.Record("cert/a", []byte("v")))
	check(f, w.Record("ring/b", nil))
	check(f, w.Close())
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:b.Len()-10])
	f.Add([]byte(`{"lockstep_backup":1,"made":"2026-01-02T03:04:05Z"}` + "\n"))
	f.Add([]byte(`{"lockstep_backup":2}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := backup.NewReader(bytes.NewReader(text))
		if err != nil {
			if !errors.Is(err, backup.ErrBad) {
				t.Errorf("%v", err)
			}
			return
		}
		last := ""
		for {
			key, val, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				if !errors.Is(err, backup.ErrBad) {
					t.Errorf("%v", err)
				}
				return
			}
			if key <= last || val == nil {
				t.Fatalf("%q after %q, value %v", key, last, val)
			}
			last = key
		}
	})
}

// FuzzRestore: no file makes it fail in another way than it should, or write without a true end.
func FuzzRestore(f *testing.F) {
	id, err := age.GenerateX25519Identity()
	check(f, err)
	s := memory.New()
	set(f, s, "x/1", "v")
	f.Add(take(f, s, []age.Recipient{id.Recipient()}))
	f.Fuzz(func(t *testing.T, file []byte) {
		into := memory.New()
		_, err := restore(t.Context(), into, file, true, id)
		if n := len(keys(t, into)); n > 0 {
			t.Fatalf("%d records were written", n)
		}
		if err != nil && !errors.Is(err, backup.ErrBad) &&
			!errors.Is(err, backup.ErrLocked) && !errors.Is(err, backup.ErrRefused) {
			t.Errorf("%v", err)
		}
	})
}

func TestTheInnerTextStandsForItself(t *testing.T) {
	var b bytes.Buffer
	w, err := backup.NewWriter(&b, time.Now())
	check(t, err)
	for _, key := range []string{"a", "b", "c"} {
		check(t, w.Record(key, []byte(key)))
	}
	if err := w.Record("c", nil); err == nil {
		t.Error("a key was written twice")
	}
	check(t, w.Close())
	lines := strings.SplitAfter(b.String(), "\n")
	head, a, bb, c, end := lines[0], lines[1], lines[2], lines[3], lines[4]
	for name, text := range map[string]string{
		"a line left out":       head + a + c + end,
		"a line changed":        head + a + strings.Replace(bb, `"Yg=="`, `"Yw=="`, 1) + c + end,
		"lines exchanged":       head + bb + a + c + end,
		"a line twice":          head + a + a + bb + c + end,
		"no end":                head + a + bb + c,
		"more behind the end":   head + a + bb + c + end + a,
		"another's end":         head + a + bb + c + strings.Replace(end, `"sha256":"`, `"sha256":"00`, 1),
		"a later format":        strings.Replace(head, `:1,`, `:2,`, 1) + end,
		"a field more":          head + strings.Replace(a, "{", `{"more":1,`, 1) + bb + c + end,
		"a record of no value":  head + `{"key":"a"}` + "\n" + end,
		"two values in a line":  head + strings.TrimSpace(a) + a + bb + c + end,
		"no head":               a + bb + c + end,
		"the head twice":        head + head + a + bb + c + end,
		"an end within the end": head + a + bb + c + strings.TrimSpace(end),
	} {
		if _, err := read([]byte(text)); !errors.Is(err, backup.ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := read(b.Bytes()); err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
}
