package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("LOCKSTEP_TEST_WRITER"); path != "" {
		writeUntilKilled(path)
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *Store, key string, old store.Rev, val []byte) store.Rev {
	t.Helper()
	rev, err := s.Swap(t.Context(), key, old, val)
	if err != nil {
		t.Fatalf("Swap(%s): %v", key, err)
	}
	return rev
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "store.db")) })
}

func TestReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
	x := put(t, s, "a/x", 0, []byte("v"))
	gone := put(t, s, "a/y", put(t, s, "a/y", 0, []byte("v")), nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "a/x"); err == nil || errors.Is(err, store.ErrNotExist) {
		t.Errorf("Get after Close = %v, want an error that is no answer", err)
	}
	if _, err := s.Swap(t.Context(), "a/x", x, []byte("w")); err == nil || errors.Is(err, store.ErrConflict) {
		t.Errorf("Swap after Close = %v, want an error that is no answer", err)
	}

	s = open(t, path)
	if val, rev, err := s.Get(t.Context(), "a/x"); err != nil || string(val) != "v" || rev != x {
		t.Errorf("Get = %q, %d, %v, want v at %d", val, rev, err, x)
	}
	if keys, head, err := s.Changed(t.Context(), "", x); err != nil ||
		!slices.Equal(keys, []string{"a/y"}) || head != gone {
		t.Errorf("Changed = %q, %d, %v, want the delete of a/y at %d", keys, head, err, gone)
	}
	if rev := put(t, s, "a/y", 0, []byte("v")); rev <= gone {
		t.Errorf("revision %d repeats, or goes back from %d", rev, gone)
	}
}

func TestASecondProcessIsToldSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	open(t, path)
	start := time.Now()
	_, err := Open(path)
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) ||
		!strings.Contains(err.Error(), "another lockstepd") {
		t.Errorf("Open = %v, want ErrInUse that names the file", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestNotAStoreFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	garbage := bytes.Repeat([]byte("not a store\n"), 4000)
	if err := os.WriteFile(path, garbage, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path+": ") ||
		!strings.Contains(err.Error(), "backup") {
		t.Errorf("Open = %v, want an error that names the file and the next step", err)
	}
	if b, _ := os.ReadFile(path); !bytes.Equal(b, garbage) {
		t.Error("the file was changed or removed")
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none", "store.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open in no directory = %v", err)
	}
}

func TestChangedCostsWhatChanged(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	fill(t, s, 20_000)
	_, head, err := s.Changed(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "b/x", 0, []byte("v"))
	if n := testing.AllocsPerRun(10, func() {
		if keys, _, err := s.Changed(t.Context(), "", head); err != nil || !slices.Equal(keys, []string{"b/x"}) {
			t.Errorf("Changed = %d keys, %v", len(keys), err)
		}
	}); n > 100 {
		t.Errorf("%v allocations for one change among 20 000 keys", n)
	}
}

func TestOldDeletesAreForgottenSafely(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	s.maxGone = 3
	put(t, s, "a/live", 0, []byte("v"))
	put(t, s, "b/live", 0, []byte("v"))
	_, start, err := s.Changed(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var heads []store.Rev
	for i := range 8 {
		key := fmt.Sprintf("a/%d", i)
		heads = append(heads, put(t, s, key, put(t, s, key, 0, []byte("v")), nil))
	}
	for _, c := range []struct {
		since store.Rev
		want  []string
	}{
		{heads[7], nil},
		{heads[6], []string{"a/7"}},
		{heads[4], []string{"a/5", "a/6", "a/7"}},           // exactly what is remembered
		{heads[3], []string{"a/5", "a/6", "a/7", "a/live"}}, // a/4 is forgotten: all keys are named
		{start, []string{"a/5", "a/6", "a/7", "a/live"}},
		{0, []string{"a/5", "a/6", "a/7", "a/live"}},
	} {
		got, head, err := s.Changed(t.Context(), "a/", c.since)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, c.want) || head != heads[7] {
			t.Errorf("Changed(a/, %d) = %q, %d, %v, want %q, %d", c.since, got, head, err, c.want, heads[7])
		}
	}
	s.db.View(func(tx *bolt.Tx) error {
		if n := tx.Bucket(bucketGone).Stats().KeyN; n != 3 {
			t.Errorf("%d deletes are kept, want 3", n)
		}
		if n := tx.Bucket(bucketValues).Stats().KeyN; n != 2 {
			t.Errorf("%d revisions are indexed for 2 keys", n)
		}
		return nil
	})
}

// hold keeps everybody from writing until release is called.
func (s *Store) hold() (release func()) {
	s.turn <- struct{}{}
	return func() { <-s.turn }
}

func (s *Store) waitingFor(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		have := len(s.single)
		s.mu.Unlock()
		if have == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d changes wait, want %d", have, n)
		}
	}
}

func (s *Store) txid() (id int) {
	s.db.View(func(tx *bolt.Tx) error { id = tx.ID(); return nil })
	return id
}

func TestWritersShareASync(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	before := s.txid()
	release := s.hold()
	var wg sync.WaitGroup
	won := make(chan string, 20)
	for i := range 20 {
		wg.Go(func() {
			key := fmt.Sprintf("a/%d", i%10) // two creators each
			if _, err := s.Swap(t.Context(), key, 0, []byte("v")); err == nil {
				won <- key
			} else if !errors.Is(err, store.ErrConflict) {
				t.Error(err)
			}
		})
	}
	s.waitingFor(t, 20)
	release()
	wg.Wait()
	if len(won) != 10 {
		t.Errorf("%d creators of 10 keys won", len(won))
	}
	if n := s.txid() - before; n != 1 {
		t.Errorf("%d commits for 20 writers at once, want 1", n)
	}
	before = s.txid()
	if _, err := s.Swap(t.Context(), "a/0", 0, []byte("v")); !errors.Is(err, store.ErrConflict) || s.txid() != before {
		t.Errorf("a conflict (%v) cost a commit", err)
	}
}

func TestACancelledWriterLeavesTheQueue(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	release := s.hold()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() {
		_, err := s.Swap(ctx, "a/x", 0, []byte("v"))
		result <- err
	}()
	s.waitingFor(t, 1)
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "was not written") {
		t.Errorf("Swap = %v", err)
	}
	release()
	put(t, s, "a/y", 0, []byte("v"))
	if _, _, err := s.Get(t.Context(), "a/x"); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("the withdrawn change was made: %v", err)
	}
}

func TestKeysHoldsNoTransactionWhileTheConsumerRuns(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	fill(t, s, 2*page)
	for range s.Keys(t.Context(), "") {
		if n := s.db.Stats().OpenTxN; n != 0 {
			t.Fatalf("%d transactions are open", n)
		}
	}
}

func TestWhatIsTooLargeHurtsNobodyElse(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store.db"))
	for _, key := range []string{"", strings.Repeat("k", bolt.MaxKeySize+1)} {
		if _, err := s.Swap(t.Context(), key, 0, []byte("v")); err == nil {
			t.Errorf("a key of %d bytes was taken", len(key))
		}
	}
}

func TestFaultsSayWhatToDo(t *testing.T) {
	s := &Store{path: "/data/store.db"}
	for _, c := range []struct {
		err  error
		want string
	}{
		{&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, "free space on /data; the change"},
		{syscall.EDQUOT, "free space on /data; the change"},
		// as bbolt words it
		{fmt.Errorf("file resize error: %s", &os.PathError{Op: "truncate", Path: "x", Err: syscall.ENOSPC}),
			"free space on /data; the change"},
		{syscall.EROFS, "make /data writable again; the change"},
		{syscall.EIO, "check the disk; the change"},
		{errors.New("odd"), "store: /data/store.db: odd; the change"},
	} {
		if got := s.explain(c.err, notMade); !strings.Contains(got.Error(), c.want) || !errors.Is(got, c.err) {
			t.Errorf("%v is told as %q, want %q", c.err, got, c.want)
		}
	}
}

// Many new keys, in whatever order, fill page after page: each would else have one of its own.
func TestValuesLieCloseTogether(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const n, batch = 3000, 100
	for i := 0; i < n; i += batch {
		var changes []store.Change
		for j := i; j < i+batch; j++ {
			changes = append(changes, store.Change{Key: fmt.Sprintf("cert/%04d", j*1009%n), Val: make([]byte, 1200)})
		}
		for _, o := range s.SwapAll(t.Context(), changes) {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
		}
	}
	if err := s.db.View(func(tx *bolt.Tx) error {
		st := tx.Bucket(bucketValues).Stats()
		if used := float64(st.LeafInuse) / float64(st.LeafAlloc); st.KeyN != n || used < 0.8 {
			t.Errorf("%d values; %.2f of their pages is used", st.KeyN, used)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestARecordThatIsNotTheKeysIsDamage(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rev, err := s.Swap(t.Context(), "a", 0, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{
		"none": nil, "empty": {}, "of another key": record("b", []byte("secret")), "cut": record("abc", nil)[:2],
	} {
		if err := s.db.Update(func(tx *bolt.Tx) error {
			if b == nil {
				return tx.Bucket(bucketValues).Delete(fromRev(rev))
			}
			return tx.Bucket(bucketValues).Put(fromRev(rev), b)
		}); err != nil {
			t.Fatal(err)
		}
		for _, v := range s.GetAll(t.Context(), []string{"a"}) {
			if v.Err == nil || errors.Is(v.Err, store.ErrNotExist) || !strings.Contains(v.Err.Error(), "damaged") {
				t.Errorf("%s: %q %v", what, v.Val, v.Err)
			}
		}
	}
}

func TestAFileThatKeepsRecordsOtherwiseIsNotTakenForEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket(bucketKeys) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(path); err == nil || !strings.Contains(err.Error(), path) ||
		!strings.Contains(err.Error(), "backup") {
		t.Errorf("%v, %v", s, err)
	}
}

// fill writes n keys in one transaction.
func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	batch := make([]*change, n)
	for i := range batch {
		batch[i] = &change{
			key:    fmt.Appendf(nil, "a/%07d", i),
			record: record(fmt.Sprintf("a/%07d", i), make([]byte, 100)), done: make(chan struct{}),
		}
	}
	s.commit(batch)
	if err := batch[0].err; err != nil {
		t.Fatal(err)
	}
}

func BenchmarkOpenAMillion(b *testing.B) {
	path := filepath.Join(b.TempDir(), "store.db")
	s, err := Open(path)
	if err != nil {
		b.Fatal(err)
	}
	fill(b, s, 1_000_000)
	s.Close()
	for b.Loop() {
		s, err := Open(path)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}

func BenchmarkSwap(b *testing.B) {
	for _, writers := range []int{1, 32} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, err := Open(filepath.Join(b.TempDir(), "store.db"))
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					var rev store.Rev
					for range b.N / writers {
						if rev, err = s.Swap(b.Context(), fmt.Sprint("a/", w), rev, make([]byte, 1000)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
