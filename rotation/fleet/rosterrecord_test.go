package fleet

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lockstep-tls/lockstep/rotation"
)

func drawMembers(t *rapid.T) (ms []rotation.Member) {
	for range rapid.IntRange(0, 5).Draw(t, "members") {
		m := rotation.Member{
			Node: rapid.StringN(1, 20, 100).Draw(t, "node"), Nr: rapid.IntRange(1, 3).Draw(t, "nr"),
			Floor:    rapid.Uint64Max(rotation.MaxGeneration).Draw(t, "floor"),
			Answered: rapid.Bool().Draw(t, "answered"), Connected: rapid.Bool().Draw(t, "connected"),
			Brought: rapid.Bool().Draw(t, "brought"), Grouped: rapid.Bool().Draw(t, "grouped"),
			Sum:   rapid.Bool().Draw(t, "sum"),
			Since: epoch.Add(-time.Duration(rapid.IntRange(0, 1e9).Draw(t, "since")) * time.Millisecond),
		}
		if rapid.Bool().Draw(t, "refuses") {
			m.Refused, m.Words = rapid.Uint64Range(1, rotation.MaxGeneration).Draw(t, "refused"),
				rapid.String().Draw(t, "words")
		}
		ms = append(ms, m)
	}
	return ms
}

func TestRosterRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := drawMembers(t)
		want := rosterRecord{
			Peer{Admin: rapid.String().Draw(t, "admin"), Alone: rapid.Bool().Draw(t, "alone"), At: epoch}, ms,
		}
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
	var ms []rotation.Member
	for i := range 5000 {
		ms = append(ms, rotation.Member{
			Node: "edge-" + time.Duration(i).String(), Nr: 1, Floor: 123456, Answered: true,
			Connected: true, Since: epoch.Add(-time.Hour),
		})
	}
	if n := len(rosterRecord{Peer{At: epoch}, ms}.encode()); n > 120_000 {
		t.Errorf("5000 nodes take %d bytes", n)
	}
}

func FuzzDecodeRoster(f *testing.F) {
	good := rosterRecord{Peer{Admin: "http://127.0.0.1:18080", At: epoch}, []rotation.Member{
		{Node: "a", Nr: 1, Floor: 3, Answered: true, Connected: true, Since: epoch},
		{Node: "b", Nr: 2, Refused: 4, Words: "no", Since: epoch.Add(-time.Minute)},
	}}.encode()
	f.Add(good)
	f.Add(good[:len(good)-3])
	// 2^64-1 members
	f.Add([]byte{rosterFormat, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
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
		o.resume(ms, epoch)
		if n := len(o.sorted(true)); n > len(ms) {
			t.Fatalf("%d members became %d", len(ms), n)
		}
		if again, err := decodeRoster(r.encode()); err != nil || len(again.members) != len(ms) {
			t.Fatalf("it does not come back: %v", err)
		}
	})
}
