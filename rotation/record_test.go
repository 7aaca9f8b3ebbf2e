package rotation

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

// edited encodes r with one field of the record, or of its key i, set to another value.
func edited(t testing.TB, r Rollout, field string, value any) []byte {
	t.Helper()
	b, err := r.Encode()
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
		{"generation", MaxGeneration + 1, "which no fleet reaches"},
		{"phase", "steady", "has 1 keys that wait in phase steady"},
		{"phase", "promoting", "has 1 keys that wait"},
		{"phase", secret, "no phase that this version knows"},
		{"ended", 2, "belongs to no rotation"},
		{"ended", 3, "belongs to no rotation"},
		{"burnt", []string{k.Fingerprint()}, "holds a burnt key (" + k.ID() + ")"},
		{"wanted", map[string]any{"by": "me", "why": "", "at": epoch, "key": secret[:40]},
			"the requested key: bad session ticket key: 30 bytes"},
		{"wanted", map[string]any{"by": "me", "why": "", "at": epoch, "key": make([]byte, 80)},
			"the requested key: bad session ticket key: weak"},
	} {
		_, err := Decode("s", edited(t, l.r, c.field, c.value))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %.20v: %v, want %q", c.field, c.value, err, c.want)
		} else if strings.Contains(err.Error(), secret[:20]) {
			t.Errorf("%s: the error quotes the record: %v", c.field, err)
		}
	}
	b, _ := l.r.Encode()
	for what, b := range map[string][]byte{"cut": b[:len(b)-1], "two": append(bytes.Clone(b), b...), "none": nil} {
		if _, err := Decode("s", b); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := Decode("s", append(b, " \n"...)); err != nil {
		t.Error(err)
	}
}

// A record grows: what a later version has added is written back as it is, whatever this one does.
func TestWhatALaterVersionAddedIsKept(t *testing.T) {
	l := newLab(t)
	b := edited(t, l.r, "canary", map[string]any{"of": []int{1, 2}})
	r, err := Decode("s", b)
	if err != nil {
		t.Fatal(err)
	}
	l.r = r
	l.rotate()
	if b, err = l.r.Encode(); err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil || string(fields["canary"]) != `{"of":[1,2]}` {
		t.Errorf("%s, %v", fields["canary"], err)
	}
	if r, err := Decode("s", b); err != nil || r.Generation != l.r.Generation {
		t.Errorf("g%d, %v", r.Generation, err)
	}
}

func FuzzDecodeRollout(f *testing.F) {
	l := &lab{t: &testing.T{}, r: Rollout{Scope: "s"}, p: DefaultPolicy(), now: epoch}
	for range 3 {
		if r, _, err := l.r.Ask(Request{By: "me", Why: "\x00"}, l.p, l.now); err == nil {
			l.r = r
		}
		l.r, _ = l.r.Next(l.p, Tally{
			Members: []Member{{Node: "a", Floor: 1, Answered: true, Connected: true, Refused: 9, Words: "no"}},
		}, l.now, l.key)
		b, err := l.r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"format":1,"scope":"s","keys":[{"key":"AAAA"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode("s", b)
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
		r.blockedBy(l.p, tally, l.now)
		r.Plan(l.p, tally, l.now)
		r.Due(l.p, tally, l.now)
		if _, err := r.Encode(); err != nil {
			t.Fatal(err)
		}
	})
}
