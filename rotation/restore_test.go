package rotation

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"pgregory.net/rapid"
)

// wanting is r with a request, whatever room there is.
func wanting(r Rollout, now time.Time) Rollout {
	r = r.clone()
	r.Wanted = &Request{By: "test", At: now}
	return r
}

// advanced is a rollout that has been through n rotations, without nodes.
func advanced(r Rollout, n int, now time.Time) Rollout {
	for range n {
		asked := wanting(r, now)
		for changed := true; changed; {
			asked, changed = asked.Next(DefaultPolicy(), Tally{}, now, keysource.NewTicketKey)
		}
		r = asked
	}
	return r
}

func begun(t interface{ Fatal(...any) }, now time.Time) Rollout {
	r, _ := Rollout{Scope: "default"}.Next(DefaultPolicy(), Tally{}, now, keysource.NewTicketKey)
	return r
}

func record(t interface{ Fatal(...any) }, r Rollout) []byte {
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func restored(t interface{ Fatal(...any) }, stored, backup []byte, now time.Time) (Rollout, Restored) {
	b, out, err := Restore("default", "test", stored, backup, now, keysource.NewTicketKey)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Decode("default", b)
	if err != nil {
		t.Fatal(err)
	}
	return r, out
}

func TestRestore(t *testing.T) {
	now := time.Now()
	one := advanced(begun(t, now), 1, now)
	stranger := advanced(begun(t, now), 2, now)
	burnt, _ := one.Burn("test", "", keysource.NewTicketKey(), now)
	later := advanced(one, 1, now)
	for name, c := range map[string]struct {
		stored *Rollout
		backup Rollout
		first  keysource.TicketKey // encrypts afterwards; zero: a fresh one
		keys   int
		back   int
		change bool
	}{
		"into nothing":                      {nil, one, one.Keys[0].Key, 2, 2, true},
		"the same":                          {&one, one, one.Keys[0].Key, 2, 0, false},
		"an older one of the same":          {&later, one, later.Keys[0].Key, 3, 0, false},
		"a newer one of the same":           {&one, later, one.Keys[0].Key, 3, 1, true},
		"another":                           {&stranger, one, stranger.Keys[0].Key, 5, 2, true},
		"burnt since":                       {&burnt, one, burnt.Keys[0].Key, 1, 0, false},
		"the backup knows of a burn":        {&one, burnt, keysource.TicketKey{}, 1, 0, true},
		"the backup of a burn into nothing": {nil, burnt, burnt.Keys[0].Key, 1, 1, true},
	} {
		var stored []byte
		highest := c.backup.Generation
		if c.stored != nil {
			stored = record(t, *c.stored)
			highest = max(highest, c.stored.Generation)
		}
		r, out := restored(t, stored, record(t, c.backup), now)
		if c.first != (keysource.TicketKey{}) && r.Keys[0].Key != c.first {
			t.Errorf("%s: another key encrypts", name)
		}
		if c.first == (keysource.TicketKey{}) &&
			slices.ContainsFunc(one.Keys, func(k Key) bool { return k.Key == r.Keys[0].Key }) {
			t.Errorf("%s: no fresh key encrypts", name)
		}
		if len(r.Keys) != c.keys || len(out.Back) != c.back || out.Changed != c.change {
			t.Errorf("%s: %d keys, %d back, changed %t; want %d, %d, %t (%+v)",
				name, len(r.Keys), len(out.Back), out.Changed, c.keys, c.back, c.change, out)
		}
		if c.change && r.Generation <= highest {
			t.Errorf("%s: the generation is %d, and was %d", name, r.Generation, highest)
		}
		if out.Version != r.Ring().Version() {
			t.Errorf("%s: version %s, ring %s", name, out.Version, r.Ring().Version())
		}
	}
	for name, bad := range map[string][]byte{
		"of another scope": record(t, Rollout{Scope: "other", Generation: 1, Phase: Steady, Keys: one.Keys}),
		"empty":            {}, "not one": []byte("{}"),
	} {
		if _, _, err := Restore("default", "test", nil, bad, now, keysource.NewTicketKey); err == nil ||
			!strings.Contains(err.Error(), "in the backup") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A backup brings back a key that was burnt after it was made, in a place that knows nothing of
// the burn: nodes that hold a later ring prove that there may have been one.
func TestABurntKeyOfABackupGoesWhenNodesProveALaterRing(t *testing.T) {
	now := time.Now()
	old := advanced(begun(t, now), 1, now)
	own := begun(t, now) // lockstepd was started before the restore
	held := old.Generation + 10
	seen := Tally{
		Highest: held, Members: []Member{{Node: "n", Nr: 1, Floor: held, Answered: true, Connected: true, Since: now}},
	}
	for name, stored := range map[string][]byte{"a new store": nil, "a store with a ring of its own": record(t, own)} {
		r, out := restored(t, stored, record(t, old), now)
		if len(out.Back) != 2 {
			t.Fatalf("%s: %+v", name, out)
		}
		r, changed := r.Next(DefaultPolicy(), seen, now, keysource.NewTicketKey)
		if !changed || r.Phase != Burning || len(r.Keys) != 1 || r.Generation <= held {
			t.Errorf("%s: phase %s, g%d (nodes hold g%d), %d keys", name, r.Phase, r.Generation, held, len(r.Keys))
		}
		for _, k := range old.Keys {
			if !r.isBurnt(k.Key) {
				t.Errorf("%s: a key of the backup is not burnt", name)
			}
		}
		if again, out := restored(t, record(t, r), record(t, old), now); len(out.Back) > 0 || len(again.Keys) != 1 {
			t.Errorf("%s: restored again: %+v", name, out)
		}
		seen := Tally{Highest: r.Generation + 5}
		if r, _ = r.Next(DefaultPolicy(), seen, now, keysource.NewTicketKey); r.Generation != seen.Highest+1 ||
			r.History[len(r.History)-1].What != "rebased" {
			t.Errorf("%s: a node with a still later one: g%d, %+v", name, r.Generation, r.History[len(r.History)-1])
		}
	}

	// The nodes were first.
	own, _ = own.Next(DefaultPolicy(), seen, now, keysource.NewTicketKey)
	if _, out := restored(t, record(t, own), record(t, old), now); len(out.Back) > 0 || len(out.Refused) != 2 {
		t.Errorf("after the nodes were heard: %+v", out)
	}

	// What was restored and has left the ring is no reason: the store lost writes of its own.
	r, _ := restored(t, nil, record(t, old), now)
	r = advanced(r, 2, now.Add(time.Hour))
	now = now.Add(24 * time.Hour)
	for changed := true; changed; {
		r, changed = r.Next(DefaultPolicy(), Tally{}, now, keysource.NewTicketKey)
	}
	if r, _ = r.Next(DefaultPolicy(), Tally{Highest: r.Generation + 3}, now,
		keysource.NewTicketKey); r.Phase != Steady || len(r.Burnt) > 0 {
		t.Errorf("%s, %d burnt", r.Phase, len(r.Burnt))
	}
}

func TestABackupWithNumbersThatNoFleetReachesIsRefused(t *testing.T) {
	now := time.Now()
	for name, set := range map[string]func(*Rollout, uint64){
		"generation": func(r *Rollout, n uint64) { r.Generation = n },
		"rotations":  func(r *Rollout, n uint64) { r.Begun, r.Ended = n, n },
		"lines":      func(r *Rollout, n uint64) { r.Lines = n },
	} {
		for _, n := range []uint64{1<<53 + 1, math.MaxUint64} {
			r := begun(t, now)
			set(&r, n)
			for _, stored := range [][]byte{nil, record(t, begun(t, now))} {
				if _, _, err := Restore("default", "test", stored, record(t, r), now,
					keysource.NewTicketKey); !errors.Is(err, errTooHigh) || !strings.Contains(err.Error(), name) {
					t.Errorf("%s %d: %v", name, n, err)
				}
			}
		}
		r := begun(t, now)
		set(&r, 1<<52)
		restored(t, nil, record(t, r), now)
	}
}

// Whatever happened to a scope before and after its backup was made: no burnt key is in what is
// restored, the key that nodes encrypt with stays unless it was burnt, every stored key still
// decrypts, the generation does not go back, and doing it again changes nothing.
func TestRestoreKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		walk := func(r Rollout, what string) Rollout {
			for _, step := range rapid.SliceOfN(rapid.SampledFrom([]string{"rotate", "burn", "distribute", "retire"}),
				0, 5).Draw(t, what) {
				now = now.Add(time.Minute)
				switch step {
				case "rotate":
					if r.Phase == Steady && !r.full() {
						r = advanced(r, 1, now)
					}
				case "burn":
					r, _ = r.Burn("test", "", keysource.NewTicketKey(), now)
					if rapid.Bool().Draw(t, "ended") {
						r, _ = r.Next(DefaultPolicy(), Tally{}, now, keysource.NewTicketKey)
					}
				case "distribute": // and a node that does not accept
					if r.Phase == Steady && !r.full() {
						r, _ = wanting(r, now).Next(DefaultPolicy(), Tally{Members: []Member{
							{Node: "n", Nr: 1, Floor: r.Generation, Answered: true, Connected: true, Since: now},
						}}, now, keysource.NewTicketKey)
					}
				case "retire":
					now = now.Add(3 * time.Hour)
					r, _ = r.Next(DefaultPolicy(), Tally{}, now, keysource.NewTicketKey)
				}
			}
			return r
		}
		common := walk(begun(t, now), "common")
		from, have := walk(common, "backup"), walk(common, "store")
		if rapid.Bool().Draw(t, "another store") {
			have = walk(begun(t, now), "another")
		}
		r, _ := restored(t, record(t, have), record(t, from), now)
		for _, k := range r.Keys {
			if slices.Contains(have.Burnt, k.Key.Fingerprint()) || slices.Contains(from.Burnt, k.Key.Fingerprint()) {
				t.Fatalf("a burnt key is in the ring: %v", r.Ring())
			}
		}
		again := slices.ContainsFunc(have.Keys, func(k Key) bool {
			return slices.Contains(from.Burnt, k.Key.Fingerprint())
		})
		if !again {
			for i, k := range have.Keys {
				if r.Keys[i].Key != k.Key {
					t.Fatalf("the stored ring %v became %v", have.Ring(), r.Ring())
				}
			}
		}
		for _, f := range slices.Concat(have.Burnt, from.Burnt) {
			if !slices.Contains(r.Burnt, f) {
				t.Fatal("a burnt fingerprint was forgotten")
			}
		}
		if r.Generation < have.Generation || r.Generation < from.Generation {
			t.Fatalf("g%d and g%d became g%d", have.Generation, from.Generation, r.Generation)
		}
		if twice, out := restored(t, record(t, r), record(t, from), now); out.Changed ||
			twice.Generation != r.Generation {
			t.Fatalf("done again, it changes: %+v", out)
		}
	})
}

// A restored ring that is followed by one of this fleet's own which the store then lost: who still
// has it writes it back before anybody's node costs the fleet its keys. Only what nobody writes
// back is burnt.
func TestARestoredRingIsBurntOnlyWhereNobodyWritesTheLaterOneBack(t *testing.T) {
	now := time.Now()
	r, _ := restored(t, nil, record(t, advanced(begun(t, now), 1, now)), now)
	const writeBack = 30 * time.Second
	now = now.Add(holdEmpty)
	proof := Tally{
		Highest: r.Generation + 1, WriteBackUntil: now.Add(writeBack),
		Members: []Member{{Node: "n", Nr: 1, Floor: r.Generation, Answered: true, Connected: true, Since: now}},
	}
	asked := wanting(r, now)
	for _, after := range []time.Duration{0, writeBack - 1} {
		if n, changed := asked.Next(DefaultPolicy(), proof, now.Add(after), keysource.NewTicketKey); changed {
			t.Errorf("after %s: %s g%d", after, n.Phase, n.Generation)
		}
	}
	if due := asked.Due(DefaultPolicy(), proof, now); !due.Equal(now.Add(writeBack)) {
		t.Errorf("it is due after %s", due.Sub(now))
	}
	if n, _ := asked.Next(DefaultPolicy(), proof, now.Add(writeBack), keysource.NewTicketKey); n.Phase != Burning ||
		n.Generation <= proof.Highest {
		t.Errorf("in the end: %s g%d", n.Phase, n.Generation)
	}
}

func TestAKeyThatHasLeftTheRingIsNoRestoredOne(t *testing.T) {
	now := time.Now()
	r, _ := restored(t, nil, record(t, advanced(begun(t, now), 1, now)), now)
	if len(r.Restored) != 2 {
		t.Fatalf("%d keys came back", len(r.Restored))
	}
	burnt, _ := r.Burn("test", "", keysource.NewTicketKey(), now)
	for step := 0; step < 10 && len(r.Restored) > 0; step++ {
		now = now.Add(24 * time.Hour)
		r = advanced(r, 1, now)
	}
	if len(r.Restored) > 0 || len(burnt.Restored) > 0 {
		t.Errorf("%d are known for restored, %d after a burn", len(r.Restored), len(burnt.Restored))
	}
}
