package trial

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const shop = keysource.Name("shop.example")

func claim(t *testing.T, b *Records, version, kind, node string) keysource.Verdict {
	t.Helper()
	v, err := b.Claim(t.Context(), shop, version, kind, node)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTheFirstClaimOfAKindCounts(t *testing.T) {
	s := memory.New()
	a, b := New(Config{Store: s, Replica: "a"}), New(Config{Store: s, Replica: "b"})
	if v := claim(t, a, "1", "envoy 1", "n1"); !v.Ours || v.Node != "n1" {
		t.Errorf("%+v", v)
	}
	if v := claim(t, b, "1", "envoy 1", "n2"); v.Ours || v.Node != "n1" || v.Outcome != keysource.Trying {
		t.Errorf("another replica: %+v", v)
	}
	if v := claim(t, b, "1", "envoy 2", "n2"); !v.Ours {
		t.Errorf("another kind: %+v", v)
	}
	if v := claim(t, b, "2", "envoy 1", "n2"); !v.Ours {
		t.Errorf("another content, of a directory of its own: %+v", v)
	}
	if v := claim(t, New(Config{Store: s, Replica: "a"}), "1", "envoy 1", "n3"); !v.Ours || v.Node != "n3" {
		t.Errorf("after a restart: %+v", v)
	}
	if err := b.Settle(t.Context(), shop, "1", "envoy 1", keysource.Accepted, ""); err != nil {
		t.Fatal(err)
	}
	if v := claim(t, b, "1", "envoy 1", "n2"); v.Outcome != keysource.Trying {
		t.Errorf("another replica ended it: %+v", v)
	}
	words := strings.Repeat("ä", maxWords)
	if err := a.Settle(t.Context(), shop, "1", "envoy 1", keysource.Refused, words); err != nil {
		t.Fatal(err)
	}
	if v := claim(t, b, "1", "envoy 1", "n2"); v.Outcome != keysource.Refused || v.Ours || len(v.Words) != maxWords ||
		!strings.HasPrefix(words, v.Words) {
		t.Errorf("%+v", v)
	}
	if err := a.Settle(t.Context(), shop, "1", "envoy 1", keysource.Accepted, ""); err != nil {
		t.Fatal(err)
	}
	if v := claim(t, b, "1", "envoy 1", "n2"); v.Outcome != keysource.Refused {
		t.Errorf("an outcome was replaced: %+v", v)
	}
	if err := b.Release(t.Context(), shop, "1"); err != nil {
		t.Fatal(err)
	}
	if v := claim(t, a, "1", "envoy 1", "n1"); v.Outcome != keysource.Accepted {
		t.Errorf("it was released: %+v", v)
	}
}

func TestARecordIsBounded(t *testing.T) {
	b := New(Config{Store: memory.New(), Replica: "a"})
	for i := range maxKinds {
		claim(t, b, "1", fmt.Sprint(i), "n")
	}
	if _, err := b.Claim(t.Context(), shop, "1", "another", "n"); !errors.Is(err, errFull) {
		t.Errorf("kinds without end: %v", err)
	}
	for i := range 3 * maxContents {
		claim(t, b, fmt.Sprint(100+i), "envoy 1", "n")
	}
	val, _, err := b.cfg.Store.Get(t.Context(), key(shop))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := decode(val); err != nil || len(r.Contents) != maxContents {
		t.Errorf("%d contents, %v", len(r.Contents), err)
	}
}

// A record of a newer lockstepd is left alone; one that nobody can read is replaced.
func TestWhatStandsInTheStore(t *testing.T) {
	for name, c := range map[string]struct {
		val    string
		ours   bool
		newer  bool
		expect keysource.Outcome
	}{
		"a newer format":           {val: `{"format":2,"contents":"?"}`, newer: true},
		"nothing that can be read": {val: `{"format":`, ours: true},
		"no format":                {val: `{}`, ours: true},
		"a field that is not known": {
			val: `{"format":1,"more":1,"contents":{"1":{"x":[],"kinds":` +
				`{"k":{"state":"accepted","replica":"b","y":2}}}}}`,
			expect: keysource.Accepted,
		},
		"an unknown state": {
			val:    `{"format":1,"contents":{"1":{"kinds":{"k":{"state":"proved","replica":"b"}}}}}`,
			expect: keysource.Trying,
		},
		"a hole": {val: `{"format":1,"contents":{"1":{"kinds":{"k":null}}}}`, ours: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := memory.New()
			if _, err := s.Swap(t.Context(), key(shop), 0, []byte(c.val)); err != nil {
				t.Fatal(err)
			}
			v, err := New(Config{Store: s, Replica: "a"}).Claim(t.Context(), shop, "1", "k", "n")
			if errors.Is(err, errNewer) != c.newer || !c.newer && err != nil || v.Ours != c.ours ||
				v.Outcome != c.expect {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
}

func TestRecordsAreReadByOthersAndRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.New()
		var told atomic.Int32
		books := []*Records{
			New(Config{Store: s, Replica: "a", Refresh: time.Hour}),
			New(Config{Store: s, Replica: "b", Refresh: time.Hour,
				Changed: func(names []keysource.Name) { told.Add(int32(len(names))) }}),
		}
		ctx, cancel := context.WithCancel(t.Context())
		for _, b := range books {
			go b.Run(ctx)
		}
		synctest.Wait()
		for _, n := range []keysource.Name{"good.example", "bad.example"} {
			if _, err := books[0].Claim(t.Context(), n, "1", "k", "n"); err != nil {
				t.Fatal(err)
			}
		}
		books[0].Settle(t.Context(), "good.example", "1", "k", keysource.Accepted, "")
		books[0].Settle(t.Context(), "bad.example", "1", "k", keysource.Refused, "no")
		books[1].Wake()
		synctest.Wait()
		if _, kinds := books[1].Known("bad.example", "1"); kinds["k"].Outcome != keysource.Refused ||
			kinds["k"].Words != "no" || told.Load() != 2 {
			t.Errorf("the other replica knows %+v, and was told of %d names", kinds, told.Load())
		}
		left := func() (keys []string) {
			synctest.Wait()
			for key := range s.Keys(t.Context(), "") {
				keys = append(keys, key)
			}
			return keys
		}
		time.Sleep(4 * time.Hour)
		if keys := left(); len(keys) != 1 || keys[0] != "trial/bad.example" {
			t.Errorf("after 4 hours: %q", keys)
		}
		time.Sleep(keepRefused)
		if keys := left(); len(keys) != 0 || len(books[0].known)+len(books[1].known) != 0 {
			t.Errorf("after a month: %q, known are %d and %d", keys, len(books[0].known), len(books[1].known))
		}
		cancel()
		synctest.Wait()
	})
}

func genRecord(t *rapid.T) record {
	r := record{Format: format, Contents: map[string]*content{}}
	at := rapid.Map(rapid.Int64Range(0, 1<<32), func(s int64) time.Time { return time.Unix(s, 0).UTC() })
	for range rapid.IntRange(0, maxContents).Draw(t, "contents") {
		c := &content{Begun: at.Draw(t, "begun"), Released: rapid.Bool().Draw(t, "released")}
		for range rapid.IntRange(0, 4).Draw(t, "kinds") {
			if c.Kinds == nil {
				c.Kinds = map[string]*firstNode{}
			}
			c.Kinds[rapid.String().Draw(t, "kind")] = &firstNode{
				State: rapid.SampledFrom([]string{"trying", "accepted", "refused", "silent", "proved"}).Draw(t,
					"state"), Replica: rapid.String().Draw(t, "replica"),
				Node: rapid.String().Draw(t, "node"), Since: at.Draw(t, "since"),
				Words: boundWords(rapid.String().Draw(t, "words")),
			}
		}
		r.Contents[rapid.String().Draw(t, "version")] = c
	}
	return r
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRecord(t)
		val, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decode(val)
		if err != nil {
			t.Fatal(err)
		}
		again, err := back.encode()
		if err != nil || string(again) != string(val) {
			t.Fatalf("%s became %s (%v)", val, again, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":1,"contents":{"1":{"begun":"2026-01-02T03:04:05Z","kinds":` +
		`{"envoy 1.40.0":{"state":"refused","words":"no"}}}}}`))
	f.Add([]byte(`{"format":1,"contents":{"1":null}}`))
	f.Fuzz(func(t *testing.T, val []byte) {
		r, err := decode(val)
		if err != nil {
			return
		}
		r.refused()
		for version, c := range r.Contents {
			if r.of(version, time.Time{}) != c {
				t.Error("a content has gone")
			}
			for _, o := range c.Kinds {
				o.verdict("a")
			}
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Errorf("%s became %s: %v", val, again, err)
		}
	})
}
