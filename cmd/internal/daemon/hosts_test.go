package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/admin"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/xds"
)

// What pin and unpin answer is how it is, not how it was meant.
func TestPinAndUnpinSayWhatBecomesOfAHost(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.Listeners.Template, c.Listeners.Hosts, c.Listeners.MaxEager = "../../../deploy/envoy/listener.yaml", []string{"shop.example"}, 2
	})
	for _, c := range []struct {
		do         func() (api.Host, error)
		want, note string
	}{
		{func() (api.Host, error) { return r.client.PinHost(t.Context(), "shop.example") }, "eager config", ""},
		{func() (api.Host, error) { return r.client.PinHost(t.Context(), "b.example") }, "eager pin", ""},
		{func() (api.Host, error) { return r.client.PinHost(t.Context(), "c.example") }, "beyond pin", "waits for a place among 2 eager hosts"},
		{func() (api.Host, error) { return r.client.PinHost(t.Context(), "c.example") }, "beyond pin", "waits for a place among 2 eager hosts"},
		{func() (api.Host, error) { return r.client.UnpinHost(t.Context(), "shop.example") }, "eager config", "it stays: the configuration makes it eager (listeners: hosts)"},
		{func() (api.Host, error) { return r.client.UnpinHost(t.Context(), "b.example") }, "on-demand ", "b.example is fetched on demand"},
		{func() (api.Host, error) { return r.client.PinHost(t.Context(), "c.example") }, "eager pin", ""},
	} {
		h, err := c.do()
		if got := h.State + " " + h.By; err != nil || got != c.want || !strings.Contains(h.Note, c.note) || (c.note == "") != (h.Note == "") {
			t.Errorf("%s: %q, %q %v; want %q, %q", h.Name, got, h.Note, err, c.want, c.note)
		}
	}
	var answer *api.Error
	if _, err := r.client.UnpinHost(t.Context(), "shop.example"); !errors.As(err, &answer) || answer.Code != api.Refused {
		t.Errorf("what was not pinned: %v", err)
	}
}

// A node whose stream has ended goes on serving what it took: it is said to until it is back, or its lease has ended.
func TestANodeThatIsAwayGoesOnServingItsListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &listeners{lease: time.Minute, nodes: map[uint64]admin.Listening{}, away: map[string]away{}}
		says := func(want ...admin.Listening) {
			t.Helper()
			if got := l.serving(); !slices.Equal(got, want) {
				t.Errorf("%+v, want %+v", got, want)
			}
		}
		at := func(kind xds.Kind, stream uint64, version string) {
			l.observe(xds.Event{Kind: kind, Node: xds.Node{ID: "edge", Stream: stream}, Version: version})
		}
		at(xds.Asked, 1, "")
		at(xds.Closed, 1, "")
		says() // it took nothing
		at(xds.Asked, 2, "")
		at(xds.Accepted, 2, "v1")
		at(xds.Closed, 2, "")
		says(admin.Listening{Node: "edge", Version: "v1", Away: true})
		at(xds.Asked, 3, "v1")
		says(admin.Listening{Node: "edge", Version: "v1"})
		at(xds.Closed, 3, "")
		time.Sleep(time.Minute)
		says()
		for i := range maxAway + 10 {
			l.observe(xds.Event{Kind: xds.Accepted, Node: xds.Node{ID: fmt.Sprint(i), Stream: 9}, Version: "v"})
			l.observe(xds.Event{Kind: xds.Closed, Node: xds.Node{ID: fmt.Sprint(i), Stream: 9}})
		}
		if len(l.away) != maxAway {
			t.Errorf("%d are remembered", len(l.away))
		}
	})
}
