package admin

import (
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/server"
)

// The version of a stale secret is the one that the node holds. Another one that it was sent is
// named beside it.
func TestAStaleNodeIsShownWithWhatItHolds(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		state         server.NameState
		want          string
		version, sent string
	}{
		"it holds the present one": {server.NameState{Known: xds.Present, Current: "2", Sent: "2",
			SentAt: now.Add(-time.Minute), Accepted: "2"}, stateAccepted, "2", ""},
		"it has just been sent one": {server.NameState{Known: xds.Present, Current: "2", Sent: "2",
			SentAt: now, Accepted: "1"}, stateSent, "2", ""},
		"it does not answer": {server.NameState{Known: xds.Present, Current: "2", Sent: "2",
			SentAt: now.Add(-time.Minute), Accepted: "1"}, stateStale, "1", "2"},
		"it never answered": {server.NameState{Known: xds.Present, Current: "2", Sent: "2",
			SentAt: now.Add(-time.Minute)}, stateStale, "", "2"},
		"it was not sent the present one": {server.NameState{Known: xds.Present, Current: "2", Sent: "1",
			SentAt: now.Add(-time.Minute), Accepted: "1"}, stateStale, "1", ""},
		"it refused one": {server.NameState{Known: xds.Present, Current: "2", Sent: "2", Accepted: "1",
			Refused: &server.Refusal{Version: "2", Words: "no"}}, stateRefused, "2", ""},
	} {
		got := secretOf(server.StreamView{Since: now}, server.NameView{NameState: c.state}, now)
		if got.State != c.want || got.Version != c.version || got.Sent != c.sent {
			t.Errorf("%s: %+v, want %s %q, sent %q", name, got, c.want, c.version, c.sent)
		}
	}
}
