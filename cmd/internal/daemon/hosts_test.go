package daemon

import (
	"errors"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
)

// What pin and unpin answer is how it is, not how it was meant.
func TestPinAndUnpinSayWhatBecomesOfAHost(t *testing.T) {
	r := start(t, func(c *config.Config) {
		c.Listeners.Template, c.Listeners.Hosts, c.Listeners.MaxEager = "../../../deploy/envoy/listener.yaml",
			[]string{"shop.example"}, 2
	})
	for _, c := range []struct {
		do         func() (api.Host, error)
		want, note string
	}{
		{func() (api.Host, error) { return r.client.PinHost(t.Context(), "shop.example") }, "eager config", ""},
		{func() (api.Host, error) { return r.client.PinHost(t.Context(), "b.example") }, "eager pin", ""},
		{func() (api.Host, error) { return r.client.PinHost(t.Context(), "c.example") }, "beyond pin",
			"waits for a place among 2 eager hosts"},
		{func() (api.Host, error) { return r.client.PinHost(t.Context(), "c.example") }, "beyond pin",
			"waits for a place among 2 eager hosts"},
		{func() (api.Host, error) { return r.client.UnpinHost(t.Context(), "shop.example") }, "eager config",
			"it stays: the configuration makes it eager (listeners: hosts)"},
		{func() (api.Host, error) { return r.client.UnpinHost(t.Context(), "b.example") },
			"on-demand ", "b.example is fetched on demand"},
		{func() (api.Host, error) { return r.client.PinHost(t.Context(), "c.example") }, "eager pin",
			"it was pinned before: nothing was changed"},
	} {
		h, err := c.do()
		if got := h.State + " " + h.By; err != nil || got != c.want ||
			!strings.Contains(h.Note, c.note) || (c.note == "") != (h.Note == "") {
			t.Errorf("%s: %q, %q %v; want %q, %q", h.Name, got, h.Note, err, c.want, c.note)
		}
	}
	var answer *api.Error
	if _, err := r.client.UnpinHost(t.Context(), "shop.example"); !errors.As(err, &answer) ||
		answer.Code != api.Refused {
		t.Errorf("what was not pinned: %v", err)
	}
}
