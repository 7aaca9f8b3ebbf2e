package rotation

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// edited encodes r with one field of the record, or of its key i, set to another value.
func edited(t testing.TB, r Rollout, field string, value any) []byte {
	t.Helper()
	b, err := encodeRollout(r)
	if err != nil {
		t.Fatal(err)
	}
	var rec map[string]any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&rec); err != nil {
		t.Fatal(err)
	}
	at := rec
	if name, ok := strings.CutPrefix(field, "first."); ok {
		at, field = rec["keys"].([]any)[0].(map[string]any), name
	} else if name, ok := strings.CutPrefix(field, "last."); ok {
		keys := rec["keys"].([]any)
		at, field = keys[len(keys)-1].(map[string]any), name
	}
	at[field] = value
	if b, err = json.Marshal(rec); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeRolloutRefusesWhatNextCannotHaveMade(t *testing.T) {
	l := newLab(t)
	l.rotate()
	l.phase(Distributing)
	if l.ring() != "2 1 3" {
		t.Fatal(l.ring())
	}
	k := l.r.Keys[0].Key
	secret := base64.StdEncoding.EncodeToString(k[:])
	for _, c := range []struct {
		field string
		value any
		want  string
	}{
		{"format", 2, "has format 2, this one reads 1"},
		{"scope", secret, "belongs to another scope"},
		{"keys", nil, "a ring of 0 keys"},
		{"keys", secret, "is not a record"},
		{"first.extra", secret, "written by another version"},
		{"needs", []string{"more"}, "it needs [\"more\"], which this one does not know"},
		{"first.key", secret[:40], "key 0 has 30 bytes"},
		{"last.key", secret, "two keys of one name"},
		{"last.key", make([]byte, 80), "weak"},
		{"first.promoted", 0, "begins with a key that never encrypted"},
		{"first.demoted", 1, "begins with a key that drains"},
		{"last.promoted", 2, "has a second key that encrypts"},
		{"last.added", 99, "a later generation"},
		{"generation", maxGeneration + 1, "which no fleet reaches"},
		{"phase", "steady", "has 1 keys that wait in phase steady"},
		{"phase", "promoting", "has 1 keys that wait"},
		{"phase", secret, "no phase that this version knows"},
		{"ended", 2, "belongs to no rotation"},
		{"ended", 3, "belongs to no rotation"},
		{"burnt", []string{k.Fingerprint()}, "holds a burnt key (" + k.ID() + ")"},
		{"wanted", map[string]any{"by": "me", "why": "", "at": epoch, "key": secret[:40]}, "the requested key: bad session ticket key: 30 bytes"},
		{"wanted", map[string]any{"by": "me", "why": "", "at": epoch, "key": make([]byte, 80)}, "the requested key: bad session ticket key: weak"},
	} {
		_, err := decodeRollout("s", edited(t, l.r, c.field, c.value))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %.20v: %v, want %q", c.field, c.value, err, c.want)
		} else if strings.Contains(err.Error(), secret[:20]) {
			t.Errorf("%s: the error quotes the record: %v", c.field, err)
		}
	}
	b, _ := encodeRollout(l.r)
	for what, b := range map[string][]byte{"cut": b[:len(b)-1], "two": append(bytes.Clone(b), b...), "none": nil} {
		if _, err := decodeRollout("s", b); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := decodeRollout("s", append(b, " \n"...)); err != nil {
		t.Error(err)
	}
}

// A record grows: what a later version has added is written back as it is, whatever this one does.
func TestWhatALaterVersionAddedIsKept(t *testing.T) {
	l := newLab(t)
	b := edited(t, l.r, "canary", map[string]any{"of": []int{1, 2}})
	r, err := decodeRollout("s", b)
	if err != nil {
		t.Fatal(err)
	}
	l.r = r
	l.rotate()
	if b, err = encodeRollout(l.r); err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil || string(fields["canary"]) != `{"of":[1,2]}` {
		t.Errorf("%s, %v", fields["canary"], err)
	}
	if r, err := decodeRollout("s", b); err != nil || r.Generation != l.r.Generation {
		t.Errorf("g%d, %v", r.Generation, err)
	}
}

func FuzzDecodeRollout(f *testing.F) {
	l := &lab{t: &testing.T{}, r: Rollout{Scope: "s"}, p: DefaultPolicy(), now: epoch}
	for range 3 {
		if r, _, err := l.r.Ask(Request{By: "me", Why: "\x00"}); err == nil {
			l.r = r
		}
		l.r, _ = l.r.Next(l.p, Tally{Members: []Member{{Node: "a", Floor: 1, Answered: true, Connected: true, Refused: 9, Words: "no"}}}, l.now, l.key)
		b, err := encodeRollout(l.r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"format":1,"scope":"s","keys":[{"key":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRollout("s", b)
		if err != nil {
			for _, k := range l.r.Keys {
				if secret := base64.StdEncoding.EncodeToString(k.Key[16:40]); strings.Contains(err.Error(), secret) {
					t.Fatalf("the error quotes a key: %v", err)
				}
			}
			return
		}
		// what was read can be gone on with, whatever it says
		tally := Tally{Members: []Member{{Node: "a", Floor: 1, Answered: true, Connected: true, Refused: 2}}}
		for calls := 0; ; calls++ {
			n, changed := r.Next(l.p, tally, l.now, l.key)
			if !changed {
				break
			}
			if err := n.Ring().Check(); err != nil {
				t.Fatal(err)
			}
			if r = n; calls > 200 {
				t.Fatal("Next does not come to rest")
			}
		}
		r.BlockedBy(l.p, tally, l.now)
		r.Plan(l.p, tally, l.now)
		r.Due(l.p, tally, l.now)
		if _, err := encodeRollout(r); err != nil {
			t.Fatal(err)
		}
	})
}

func drawMembers(t *rapid.T) (ms []Member) {
	for range rapid.IntRange(0, 5).Draw(t, "members") {
		m := Member{
			Node: rapid.StringN(1, 20, 100).Draw(t, "node"), Nr: rapid.IntRange(1, 3).Draw(t, "nr"), Floor: rapid.Uint64Max(maxGeneration).Draw(t, "floor"),
			Answered: rapid.Bool().Draw(t, "answered"), Connected: rapid.Bool().Draw(t, "connected"), Brought: rapid.Bool().Draw(t, "brought"),
			Since: epoch.Add(-time.Duration(rapid.IntRange(0, 1e9).Draw(t, "since")) * time.Millisecond),
		}
		if rapid.Bool().Draw(t, "refuses") {
			m.Refused, m.Words = rapid.Uint64Range(1, maxGeneration).Draw(t, "refused"), rapid.String().Draw(t, "words")
		}
		ms = append(ms, m)
	}
	return ms
}

func TestRosterRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := drawMembers(t)
		want := rosterRecord{Peer{Admin: rapid.String().Draw(t, "admin"), Alone: rapid.Bool().Draw(t, "alone"), At: epoch}, ms}
		r, err := decodeRoster(want.encode())
		got := r.members
		if err != nil || !r.peer.At.Equal(epoch) || len(got) != len(ms) {
			t.Fatalf("%v\n%+v", err, r)
		}
		if r.peer.At = epoch; r.peer != want.peer {
			t.Fatalf("the peer is %+v, was %+v", r.peer, want.peer)
		}
		for i := range got {
			if got[i].Since.Equal(ms[i].Since) {
				got[i].Since = ms[i].Since
			}
			if !reflect.DeepEqual(got[i], ms[i]) {
				t.Fatalf("got  %+v\nwant %+v", got[i], ms[i])
			}
		}
	})
}

func TestRosterOfAFleetIsSmall(t *testing.T) {
	var ms []Member
	for i := range 5000 {
		ms = append(ms, Member{Node: "edge-" + time.Duration(i).String(), Nr: 1, Floor: 123456, Answered: true, Connected: true, Since: epoch.Add(-time.Hour)})
	}
	if n := len(rosterRecord{Peer{At: epoch}, ms}.encode()); n > 120_000 {
		t.Errorf("5000 nodes take %d bytes", n)
	}
}

func FuzzDecodeRoster(f *testing.F) {
	good := rosterRecord{Peer{Admin: "http://127.0.0.1:18080", At: epoch}, []Member{
		{Node: "a", Nr: 1, Floor: 3, Answered: true, Connected: true, Since: epoch},
		{Node: "b", Nr: 2, Refused: 4, Words: "no", Since: epoch.Add(-time.Minute)},
	}}.encode()
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add([]byte{rosterFormat, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}) // 2^64-1 members
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRoster(b)
		ms := r.members
		if err != nil {
			if err != errRoster || ms != nil {
				t.Fatalf("%v with %d members", err, len(ms))
			}
			return
		}
		o := newRoster()
		o.restore(ms, epoch)
		if n := len(o.snapshot(true)); n > len(ms) {
			t.Fatalf("%d members became %d", len(ms), n)
		}
		if again, err := decodeRoster(r.encode()); err != nil || len(again.members) != len(ms) {
			t.Fatalf("it does not come back: %v", err)
		}
	})
}
