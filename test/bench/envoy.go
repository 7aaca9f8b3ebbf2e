package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"strings"
	"text/template"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

//go:embed envoy.yaml.tmpl
var envoyText string

var envoyTemplate = template.Must(template.New("envoy").Funcs(template.FuncMap{"port": port}).Parse(envoyText))

type envoyConfig struct {
	Node, Admin string
	XDS         string // host:port of the control plane that sends the ring; "": Envoy makes a key of its own
	Ring        string
	Upstream    string // host:port; "": listeners answer each request themselves
	Listeners   []envoyListener
}

type envoyListener struct {
	Addr       string
	Chain, Key string // PEM
}

// trio starts three Envoys whose ring comes from xds, or which keep their keys to themselves. They answer each request themselves: only handshakes are to cost something.
func (b *bench) trio(ctx context.Context, name, xds string, pairs map[string]fleet.Pair) (*trio, error) {
	t := &trio{addrs: map[string][]string{}}
	for i := range 3 {
		admin, err := fleet.Addr()
		if err != nil {
			return nil, err
		}
		c := envoyConfig{Node: fmt.Sprintf("%s-%d", name, i+1), Admin: admin, XDS: xds, Ring: ring}
		for _, kind := range keyKinds {
			addr, err := fleet.Addr()
			if err != nil {
				return nil, err
			}
			t.addrs[kind] = append(t.addrs[kind], addr)
			c.Listeners = append(c.Listeners, envoyListener{addr, string(pairs[kind].Chain), string(pairs[kind].Key)})
		}
		var config bytes.Buffer
		if err := envoyTemplate.Execute(&config, c); err != nil {
			return nil, err
		}
		p, err := b.fleet.Envoy(b.fresh(c.Node), config.Bytes(), admin)
		if err != nil {
			return nil, err
		}
		t.nodes = append(t.nodes, p)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, p := range t.nodes {
		if err := p.Ready(ctx); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
