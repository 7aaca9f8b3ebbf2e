package events_test

import (
	"testing"

	"github.com/lockstep-tls/lockstep/events"
)

func TestSubject(t *testing.T) {
	for _, c := range []struct {
		event events.Event
		want  string
	}{
		{events.Event{Kind: events.Rotation, Scope: "default"}, "lockstep.events.rotation.default"},
		{events.Event{Kind: events.Cert, Name: "shop.example"}, "lockstep.events.cert.-"},
		{events.Event{Kind: events.Rotation, Scope: "eu.west *>\r\n"}, "lockstep.events.rotation.eu_west_____"},
		{events.Event{Scope: "Ä-1_b"}, "lockstep.events.-._-1_b"},
	} {
		if got := c.event.Subject(); got != c.want {
			t.Errorf("%+v is published on %q, want %q", c.event, got, c.want)
		}
	}
}
