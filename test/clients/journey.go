package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// journey is what one client sees with one TLS version at one kind of nodes.
type journey struct {
	client
	version string
	kind    int
	resumed [len(itinerary)]bool
	err     error // err says that a connection did not succeed.

	*driver
}

// station is one question: the client makes a connection, and with the session of that another one.
// The first one is needed, since some clients use a session only once.
type station struct {
	name     string
	rotation bool // rotation is true if the keys rotate between the two.
	to       int  // to is the node of the second connection. The first one goes to node 0.
	over     bool // over is true if that is a node of the other kind.
}

var itinerary = [...]station{
	{name: "same node"},
	{name: "another node", to: 1},
	{name: "same node, after a rotation", rotation: true},
	{name: "another node, after it", rotation: true, to: 1},
	{name: "the other kind", over: true},
}

// travel takes all clients through all stations.
func (s *stage) travel(ctx context.Context, sources, built string, all []client) (out []*journey, err error) {
	defer func() {
		for _, j := range out {
			if j.driver != nil {
				j.stop()
			}
		}
	}()
	for _, c := range all {
		for _, version := range []string{"1.2", "1.3"} {
			for k := range s.kinds {
				out = append(out, &journey{client: c, version: version, kind: k})
			}
		}
	}
	for _, j := range out {
		dir := filepath.Join(s.Dir(), fmt.Sprintf("%s-%s-%d", j.client.name, j.version, j.kind))
		j.driver, err = j.client.start(sources, built, dir, host, s.ca, j.version, 2*len(itinerary))
		if err != nil {
			return out, err
		}
	}
	each := func(connect func(*journey) error) error {
		for _, j := range out {
			if j.err == nil {
				j.err = connect(j)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		return nil
	}
	for i, st := range itinerary {
		err := each(func(j *journey) error {
			_, err := j.connect(s.kinds[j.kind].nodes[0])
			return err
		})
		if err != nil {
			return out, err
		}
		if st.rotation {
			if err := s.rotate(ctx); err != nil {
				return out, err
			}
		}
		err = each(func(j *journey) (err error) {
			k := j.kind
			if st.over {
				k = 1 - k
			}
			j.resumed[i], err = j.connect(s.kinds[k].nodes[st.to])
			return err
		})
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// connect has the client connect to a node, and reports whether it resumed a session.
func (j *journey) connect(node string) (resumed bool, err error) {
	all, err := j.visit(node)
	if err != nil {
		return false, fmt.Errorf("%s with TLS %s: %w", j.client.name, j.version, err)
	}
	want := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[j.version]
	found := false
	for _, h := range all {
		if h.Version == 0 {
			continue // a browser opens connections that it does not use
		}
		if h.Version != want {
			return false, fmt.Errorf("%s: %s, not TLS %s", j.client.name, tls.VersionName(h.Version), j.version)
		}
		found, resumed = true, resumed || h.Resumed
	}
	if !found {
		return false, errors.New(j.client.name + ": no handshake was seen")
	}
	return resumed, nil
}

// prepare builds the drivers, and returns the clients that are here, each with its version.
func prepare(ctx context.Context, sources, built string, all []client) (here []client, versions, missing []string) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	os.MkdirAll(built, 0o755)
	for _, c := range all {
		v, err := c.says(ctx, sources)
		if err == nil {
			err = c.prepare(ctx, sources, built)
		}
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", c.name, err))
			continue
		}
		here, versions = append(here, c), append(versions, v)
	}
	return here, versions, missing
}
