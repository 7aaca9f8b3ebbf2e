package admin

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/events/journal"
	"github.com/lockstep-tls/lockstep/keysource"
)

// journal answers with a page of what happened, over all replicas, by time. Each replica gives its
// own lines behind the place that was asked for, as many as a page takes. So nothing that happens
// is sent anywhere before somebody asks.
func (a *admin) journal(r *http.Request) (out api.Events, err error) {
	q, err := eventsQuery(r.URL.Query())
	if err != nil {
		return out, err
	}
	place, find, err := journalQuery(q)
	if err != nil {
		return out, err
	}
	lines, more, err := a.cfg.Journal.Query(r.Context(), find)
	if err != nil {
		return out, err
	}
	out = api.Events{
		Replica: a.cfg.Replica, Since: q.Since, Until: q.Until, Events: make([]api.Event, 0, len(lines)),
		Replicas: []string{a.cfg.Replica},
	}
	for _, l := range lines {
		out.Events = append(out.Events, eventOf(l))
	}
	if !q.Here {
		q.Here, q.After = true, ""
		if place != (journal.Place{}) {
			q.After = place.String()
		}
		said, silent := peersSay(r.Context(), a, func(ctx context.Context, c *api.Client) (api.Events, error) {
			return c.Events(ctx, q)
		})
		out.Silent = silent
		for _, s := range said {
			if slices.Contains(out.Replicas, s.Replica) { // two replicas' addresses may lead to one
				continue
			}
			out.Replicas = append(out.Replicas, s.Replica)
			out.Events = append(out.Events, s.Events...)
			more = more || s.Next != ""
		}
		slices.Sort(out.Replicas)
	}
	slices.SortFunc(out.Events, func(x, y api.Event) int { return placeOf(x).Compare(placeOf(y)) })
	if len(out.Events) > find.Limit {
		out.Events, more = out.Events[:find.Limit], true
	}
	if more && len(out.Events) > 0 {
		out.Next = placeOf(out.Events[len(out.Events)-1]).String()
	}
	return out, nil
}

func eventsQuery(v url.Values) (q api.EventsQuery, err error) {
	q = api.EventsQuery{
		Node: v.Get("node"), Host: v.Get("host"), Kind: v.Get("kind"), After: v.Get("after"), Limit: api.MaxPage,
		Here: v.Has("here"),
	}
	for name, t := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if s := v.Get(name); s != "" {
			if *t, err = time.Parse(time.RFC3339Nano, s); err != nil {
				return q, &api.Error{Message: name + " is a time, such as 2026-11-30T03:00:00Z", Code: api.Usage}
			}
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > api.MaxPage {
			return q, &api.Error{
				Message: "limit is a number of events, 1 to " + strconv.Itoa(api.MaxPage), Code: api.Usage,
			}
		}
	}
	return q, nil
}

// journalQuery is q for the record of this replica.
func journalQuery(q api.EventsQuery) (place journal.Place, find journal.Query, err error) {
	if q.After != "" {
		if place, err = journal.ParsePlace(q.After); err != nil {
			return place, find, &api.Error{Message: err.Error(), Code: api.Usage}
		}
	}
	host := keysource.Name(q.Host)
	if q.Host != "" {
		if host, err = keysource.CertName(q.Host); err != nil {
			return place, find, err
		}
	}
	return place, journal.Query{
		Since: q.Since, Until: q.Until, After: place, Limit: q.Limit,
		Match: func(e events.Event) bool {
			return (q.Node == "" || e.Node == q.Node) && (q.Kind == "" || e.Kind.Is(q.Kind)) &&
				(host == "" || isAbout(e, host) || host.Wildcard() != "" && isAbout(e, host.Wildcard()))
		},
	}, nil
}

// isAbout reports whether an event is about a certificate of a host, alone or among others. If host
// is not the name of a second one, both count.
func isAbout(e events.Event, host keysource.Name) bool {
	if second := host.Second(); host != second && (e.Name == string(second) || e.Hosts.Has(string(second))) {
		return true
	}
	return e.Name == string(host) || e.Hosts.Has(string(host))
}

func eventOf(l journal.Line) api.Event {
	return api.Event{
		At: l.At, Kind: string(l.Kind), Node: l.Node, Name: l.Name, Text: l.Text, Scope: l.Scope, Replica: l.Replica,
		Version: l.Version, Phase: l.Phase, Rotation: l.Rotation, By: l.By, Seq: l.Seq,
	}
}

func placeOf(e api.Event) journal.Place {
	return journal.Place{At: e.At, Replica: e.Replica, Seq: e.Seq}
}
