package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/client"
)

// ofNodes are faults of Envoys and of other nodes.
var ofNodes = []fault{
	{"an Envoy is killed and comes back", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		e := of(r, s.envoys)
		err := errors.Join(e.Kill(), sleep(ctx, time.Second), e.Restart(), e.Ready(ctx))
		return outcome{
			want: []expectation{wants("node-away", e.name, ""), wants("node-connected", e.name, "")},
			may:  []expectation{wants("node-gone", e.name, "")}, // on a busy machine
		}, err
	}},
	{"an Envoy stays away", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		e := of(r, s.envoys)
		return s.spell(ctx, e.Kill, []expectation{wants("node-away", e.name, ""), wants("node-gone", e.name, "")},
			func() error { return errors.Join(e.Restart(), e.Ready(ctx)) },
			[]expectation{wants("node-connected", e.name, "")})
	}},
	{"an Envoy hangs", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		e := of(r, s.envoys)
		return s.spell(ctx, e.Pause, []expectation{wants("node-away", e.name, ""), wants("node-gone", e.name, "")},
			e.Resume, []expectation{wants("node-connected", e.name, "")})
	}},
	{"an Envoy is cut off from a replica", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		e, i := of(r, s.envoys), r.IntN(len(s.planes))
		nodes, err := s.nodes(ctx)
		if err != nil {
			return outcome{}, err
		}
		n := nodes[e.name]
		if !n.at(s.planes[i].id()) {
			i = 1 - i // it has its streams there
		}
		out, err := s.spell(ctx, func() error { e.to[i].cut(); return nil }, s.moves(n, s.planes[i]),
			func() error { e.to[i].join(); return nil }, nil)
		out.may = []expectation{wants("node-gone", e.name, "")} // on a busy machine
		return out, err
	}},
	{"an Envoy is cut off from both replicas", func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		e := of(r, s.envoys)
		return s.spell(ctx, func() error {
			for _, l := range e.to {
				l.cut()
			}
			return nil
		}, []expectation{wants("node-away", e.name, ""), wants("node-gone", e.name, "")}, func() error {
			for _, l := range e.to {
				l.join()
			}
			return nil
		}, []expectation{wants("node-connected", e.name, "")})
	}},
	{"a node refuses a ring", refusal(func(*stage) string { return ring })},
	{"a node refuses a certificate", refusal(func(s *stage) string { return s.hosts[0] })},
}

// moves is what is told when a node leaves a replica for the other one. Its streams may have been
// at both.
func (s *stage) moves(n node, from *plane) []expectation {
	all := []expectation{wants("node-away", n.Node, "").by(from.id())}
	if to := s.other(from).id(); !n.at(to) {
		all = append(all, wants("node-connected", n.Node, "").by(to))
	}
	return all
}

// refusal is a fault: a node of its own comes, refuses a secret, and goes. Once it is gone it is
// forgotten.
func refusal(secret func(*stage) string) act {
	return func(ctx context.Context, s *stage, r *rand.Rand) (outcome, error) {
		s.refusers++
		node := fmt.Sprintf("refuser-%d", s.refusers)
		began, p := time.Now(), of(r, s.planes)
		refused := wants("node-refused", node, secret(s), "this node refuses for the test")
		err := s.refuses(ctx, p, node, secret(s), func() error { return s.awaits(ctx, began, refused) })
		gone := wants("node-gone", node, "")
		if err == nil {
			err = s.awaits(ctx, began, gone)
		}
		if err == nil {
			_, err = s.lockstep(ctx, of(r, s.planes), "node", "forget", node)
		}
		return outcome{
			want: []expectation{
				wants("node-connected", node, ""), refused, wants("node-away", node, ""), gone,
				wants("node-forgotten", node, "", "was forgotten by local administrator"),
			},
			may: append([]expectation{wants("node-refused", node, ""), wants("node-stuck", node, "")}, problems(
				"ring-refused", "certificate-refused", "certificate-refused-first", "node-without-ring", "node-stuck",
				"secrets-unlisted",
			)...),
		}, err
	}
}

// refuses connects a node to a replica that refuses a secret, for as long as f takes.
func (s *stage) refuses(ctx context.Context, p *plane, node, secret string, f func() error) error {
	conn, err := grpc.NewClient(p.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	c := client.New(client.Config{
		Conn: conn, Node: &corev3.Node{Id: node, UserAgentName: "soak"}, Type: sds.TypeURL,
		Method: secretv3.SecretDiscoveryService_DeltaSecrets_FullMethodName,
		Apply: func(got []*xds.Resource, _ []string) error {
			if len(got) > 0 {
				return errors.New("this node refuses for the test")
			}
			return nil
		},
	})
	c.Subscribe(secret)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Run(ctx) }() // it ends with ctx
	err = f()
	cancel()
	<-ended
	return err
}
