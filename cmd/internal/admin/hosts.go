package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/eager"
	"github.com/lockstep-tls/lockstep/lds"
)

// Listeners is the part that serves a listener to Envoys.
type Listeners struct {
	Eager *eager.Eager
	Table *lds.Table
	Here  func() []Listening // Here are the nodes that are connected to this replica.
}

// Listening is what a node answered to the listener.
type Listening = api.ListeningNode

var errNoListener = &api.Error{
	Message: "no listener is served: name its template in the configuration (listeners: template:)", Code: api.Refused,
}

// These are the values of State in [api.Host].
const (
	isEager    = "eager"
	isBeyond   = "beyond"
	isLeaving  = "leaving"
	isOnDemand = "on-demand"
)

func (a *admin) hosts(r *http.Request) (out api.Hosts, err error) {
	l := a.cfg.Listeners
	if l == nil {
		return out, errNoListener
	}
	if !l.Eager.Ready() {
		return out, errors.New("the pins were not read yet: the store cannot be read")
	}
	hosts, more := l.Eager.Hosts()
	out = api.Hosts{Listener: l.Table.All()[0], Max: l.Eager.Max(), More: more, Hosts: []api.Host{}}
	nodes, silent := a.fleetListening(r.Context())
	v := l.versions(nodes)
	out.Silent, out.Unknown = silent, v.unknown()
	for _, h := range hosts {
		one := l.hostOf(h)
		one.Nodes = len(v.serving(h.Name))
		a.certify(r.Context(), h.Name, &one)
		out.Hosts = append(out.Hosts, one)
	}
	for _, n := range v.hosts() {
		if !slices.ContainsFunc(hosts, func(h eager.Host) bool { return h.Name == n }) {
			on := v.serving(n)
			out.Hosts = append(out.Hosts, api.Host{Name: string(n), State: isLeaving, Nodes: len(on), Serving: on})
		}
	}
	slices.SortStableFunc(out.Hosts, func(x, y api.Host) int { return cmp.Compare(x.Name, y.Name) })
	return out, nil
}

func (a *admin) pin(r *http.Request) (out api.Host, err error) {
	n, err := a.hostName(r)
	if err != nil {
		return out, err
	}
	before, was := a.cfg.Listeners.host(n)
	was = was && before.By == eager.Pinned
	if err := a.cfg.Listeners.Eager.Pin(r.Context(), n, Actor(r.Context())); err != nil {
		return out, err
	}
	if !was {
		a.told(r, n, "pinned")
	}
	out = api.Host{Name: string(n), State: isEager, By: string(eager.Pinned)}
	if h, ok := a.cfg.Listeners.host(n); ok {
		out = a.cfg.Listeners.hostOf(h)
	}
	if was {
		out.Note = strings.TrimPrefix(out.Note+"; it was pinned before: nothing was changed", "; ")
	}
	a.certify(r.Context(), n, &out)
	return out, nil
}

func (a *admin) unpin(r *http.Request) (out api.Host, err error) {
	n, err := a.hostName(r)
	if err != nil {
		return out, err
	}
	err = a.cfg.Listeners.Eager.Unpin(r.Context(), n)
	h, stays := a.cfg.Listeners.host(n)
	if errors.Is(err, keysource.ErrNotExist) && stays && h.By != eager.Pinned {
		return out, &api.Error{
			Message: fmt.Sprintf("%s is not pinned: the configuration makes it eager (%s)", n, setting[h.By]),
			Code:    api.Refused,
		}
	}
	if err != nil {
		return out, err
	}
	a.told(r, n, "unpinned")
	nodes, silent := a.fleetListening(r.Context())
	v := a.cfg.Listeners.versions(nodes)
	on := v.serving(n)
	if stays {
		out = a.cfg.Listeners.hostOf(h)
		out.Note = strings.TrimPrefix(out.Note+"; ", "; ") +
			fmt.Sprintf("its pin is gone, and it stays: the configuration makes it eager (%s)", setting[h.By])
		out.Nodes = len(on)
		a.certify(r.Context(), n, &out)
		return out, nil
	}
	out = api.Host{Name: string(n), State: isLeaving, Nodes: len(on), Serving: on, Note: a.chainOf(n).Words}
	if len(on) == 0 {
		out.State = isOnDemand
	}
	for _, node := range v.unknown() {
		out.Note += "; it is not known whether " + node + " serves it"
	}
	for _, s := range silent {
		out.Note += "; not asked: " + s
	}
	return out, nil
}

// setting names the place where the configuration makes a host eager.
var setting = map[eager.By]string{eager.Configured: "listeners: hosts", eager.Matched: "listeners: match"}

// host finds n among the hosts that are to be eager.
func (l *Listeners) host(n keysource.Name) (eager.Host, bool) {
	hosts, _ := l.Eager.Hosts()
	i := slices.IndexFunc(hosts, func(h eager.Host) bool { return h.Name == n })
	if i < 0 {
		return eager.Host{}, false
	}
	return hosts[i], true
}

func (a *admin) hostName(r *http.Request) (keysource.Name, error) {
	if a.cfg.Listeners == nil {
		return "", errNoListener
	}
	return keysource.ServerName(r.PathValue("name"))
}

func (a *admin) told(r *http.Request, n keysource.Name, what string) {
	who := Actor(r.Context())
	a.cfg.Events.Publish(events.Event{
		Kind: events.Host, Name: string(n), Why: what, By: who, At: time.Now(),
		Text: fmt.Sprintf("host %s was %s by %s", n, what, who),
	})
}

func (l *Listeners) hostOf(h eager.Host) api.Host {
	out := api.Host{Name: string(h.Name), State: isEager, By: string(h.By), Since: h.Since, Who: h.Who}
	if h.BeyondMax {
		out.State = isBeyond
		out.Note = fmt.Sprintf("it waits for a place among %d eager hosts (max_eager), and goes on demand until then",
			l.Eager.Max())
	}
	return out
}

// certify notes which certificate a chain gets. It is that of the host's name, else the wildcard's.
// Where two stand there, it gets both.
func (a *admin) certify(ctx context.Context, n keysource.Name, h *api.Host) {
	for _, from := range []keysource.Name{n, n.Wildcard()} {
		if from == "" {
			break
		}
		for _, src := range a.sources() {
			c, err := src.Certificate(ctx, from)
			switch {
			case errors.Is(err, keysource.ErrNotExist):
				continue
			case err != nil:
				h.Problem = err.Error()
				return
			}
			h.Certificate, h.From = c.Version(), string(from)
			if context, err := keysource.ResumptionContext(c.Chain, n); err == nil {
				h.Context = context.Fingerprint
			}
			if time.Now().After(c.NotAfter) {
				h.Problem = "its certificate expired at " + c.NotAfter.UTC().Format(time.RFC3339)
			}
			if h.Second = a.secondOf(ctx, from); h.Second != nil && h.Problem == "" &&
				time.Now().After(h.Second.NotAfter) {
				h.Problem = fmt.Sprintf("its certificate %s expired at %s", h.Second.Name,
					h.Second.NotAfter.UTC().Format(time.RFC3339))
			}
			return
		}
	}
	h.Problem = "it has no certificate: its clients are turned away until there is one (lockstep cert put)"
}
