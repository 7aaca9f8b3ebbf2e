package fleet

import (
	"errors"
	"slices"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestANATSClusterLosesAServerAndGetsItBack(t *testing.T) {
	f := ForTest(t)
	n, err := f.NATS(t.Context(), "nats", 3)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(n.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", Subjects: []string{"s"}, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	leader := s.CachedInfo().Cluster.Leader
	i := slices.IndexFunc(n.Servers, func(s *NATSServer) bool { return s.Name() == leader })
	if err := n.Servers[i].Kill(); err != nil {
		t.Fatal(err)
	}
	soon(t, func() error { _, err := js.Publish(t.Context(), "s", nil, jetstream.WithRetryAttempts(0)); return err })
	if now, err := s.Info(t.Context()); err != nil || now.Cluster.Leader == leader {
		t.Fatalf("the stream is %+v, %v: %s is dead", now, err, leader)
	}
	if err := n.Servers[i].Restart(); err != nil {
		t.Fatal(err)
	}
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	soon(t, func() error {
		now, err := s.Info(t.Context())
		if err == nil && slices.ContainsFunc(now.Cluster.Replicas, func(p *jetstream.PeerInfo) bool {
			return !p.Current
		}) {
			err = errors.New("a replica is not current")
		}
		return err
	})
}
