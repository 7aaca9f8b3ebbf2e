package e2e

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// keeper is a node that answers as Envoy does: it keeps what it refuses, takes bytes that it was
// delivered last without a look, and refuses a ring while it keeps a bad certificate. It has one
// chain.
type keeper struct {
	id, host string

	mu        sync.Mutex
	last      map[string]uint64 // hash of what was delivered last, by name
	bad       bool              // the certificate that it keeps is an odd one
	standIn   bool              // or a stand-in
	responses int
	refused   int
}

// keepers starts n of them over a few connections, each with a stream for the certificate and one
// for the ring.
func (s *stage) keepers(n int, host string) (all []*keeper) {
	s.t.Helper()
	const conns = 10
	ctx, cancel := context.WithCancel(s.ctx)
	var busy sync.WaitGroup
	var dialed []*grpc.ClientConn
	s.t.Cleanup(func() {
		cancel()
		busy.Wait()
		for _, c := range dialed {
			c.Close()
		}
	})
	for range conns {
		c, err := grpc.NewClient(s.plane.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
		s.ok(err)
		dialed = append(dialed, c)
	}
	for i := range n {
		k := &keeper{id: fmt.Sprintf("keeper-%04d", i), host: host, last: map[string]uint64{}}
		all = append(all, k)
		c := dialed[i%conns]
		busy.Go(func() {
			st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(c).DeltaAggregatedResources(ctx)
			if err == nil {
				k.run(st, host)
			}
		})
		busy.Go(func() {
			st, err := secretv3.NewSecretDiscoveryServiceClient(c).
				DeltaSecrets(metadata.AppendToOutgoingContext(ctx, "x-lockstep-kind", "ring"))
			if err == nil {
				k.run(st, keysource.RingName("default"))
			}
		})
	}
	return all
}

// deltaStream is a stream of either service.
type deltaStream interface {
	Send(*discoveryv3.DeltaDiscoveryRequest) error
	Recv() (*discoveryv3.DeltaDiscoveryResponse, error)
}

func (k *keeper) run(st deltaStream, name string) {
	err := st.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node:    &corev3.Node{Id: k.id, UserAgentName: "envoy"},
		TypeUrl: secretType, ResourceNamesSubscribe: []string{name},
	})
	for err == nil {
		var resp *discoveryv3.DeltaDiscoveryResponse
		if resp, err = st.Recv(); err != nil {
			return
		}
		answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResponseNonce: resp.GetNonce()}
		if words := k.take(resp); words != "" {
			answer.ErrorDetail = &statuspb.Status{Code: int32(codes.Internal), Message: words}
		}
		err = st.Send(answer)
	}
}

// take keeps what it gets, and returns the words with which it refuses that.
func (k *keeper) take(resp *discoveryv3.DeltaDiscoveryResponse) (words string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.responses++
	for _, r := range resp.GetResources() {
		h := fnv.New64()
		h.Write(r.GetResource().GetValue())
		if k.last[r.GetName()] == h.Sum64() {
			continue
		}
		k.last[r.GetName()] = h.Sum64()
		var secret tlsv3.Secret
		if err := r.GetResource().UnmarshalTo(&secret); err != nil {
			return err.Error()
		}
		if c := secret.GetTlsCertificate(); c != nil {
			block, _ := pem.Decode(c.GetCertificateChain().GetInlineBytes())
			leaf, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return err.Error()
			}
			k.bad = slices.Contains(leaf.Subject.Organization, fleet.Odd)
			k.standIn = leaf.Issuer.CommonName == "Lockstep stand-in"
		}
		if k.bad && k.last[keysource.RingName("default")] != 0 {
			k.refused++
			return "Failed to load certificate chain from <inline>"
		}
	}
	return ""
}

// rest waits until no node was sent anything for a while, and returns the most that one was sent
// since.
func (s *stage) rest(all []*keeper, since []int) (most int) {
	s.t.Helper()
	before, quiet := -1, time.Now()
	s.eventuallyWithin(60*time.Second, func() error {
		sum := 0
		for _, n := range sentTo(all) {
			sum += n
		}
		if sum != before {
			before, quiet = sum, time.Now()
		}
		if time.Since(quiet) < 5*time.Second {
			// retries of what was refused begin after a second, and double
			return fmt.Errorf("%d responses so far", sum)
		}
		return nil
	})
	for i, n := range sentTo(all) {
		most = max(most, n-since[i])
	}
	return most
}

func sentTo(all []*keeper) (n []int) {
	for _, k := range all {
		k.mu.Lock()
		n = append(n, k.responses)
		k.mu.Unlock()
	}
	return n
}

// TestAThousandNodesThatRefuseACertificateMakeNoStorm: each is sent the bad one and one cure for
// each change, and then its ring once more in other bytes.
func TestAThousandNodesThatRefuseACertificateMakeNoStorm(t *testing.T) {
	t.Parallel()
	const nodes = 1000
	s := newStage(t, setup{hosts: 1, later: true})
	s.moreTime(3 * time.Minute)
	// else one node would take the harm for all
	s.plane.Args = append(s.plane.Args, "--canary", "0s")
	s.start()
	host := s.hosts[0]
	all := s.keepers(nodes, host)
	s.eventuallyWithin(60*time.Second, func() error {
		if sc, err := s.scopeOf("default"); err != nil || sc.Nodes.Accepted != nodes {
			return fmt.Errorf("%+v, %v", sc.Nodes, err)
		}
		return nil
	})
	// Two encodings of each name at the start: what the node was delivered before is not known.
	if n := s.rest(all, make([]int, nodes)); n > 4 {
		t.Errorf("a node was sent %d responses at its start, want 4 at most", n)
	}
	for _, step := range []struct {
		name string
		put  func(...string) fleet.Pair
		most int
	}{
		{"a bad renewal: it, the cure, the ring", s.issueOdd, 3},
		{"another bad one", s.issueOdd, 3},
		{"mended", s.issue, 2},
		{"a bad one again", s.issueOdd, 3},
	} {
		since := sentTo(all)
		s.ok(fleet.WriteHost(s.certs, host, step.put(host)))
		most := s.rest(all, since)
		refused := 0
		for _, k := range all {
			k.mu.Lock()
			if k.bad || k.standIn {
				t.Errorf("%s: %s keeps the bad one, or a stand-in", step.name, k.id)
			}
			refused += k.refused
			k.refused = 0
			k.mu.Unlock()
		}
		t.Logf("%s: %d responses a node at most, %d refusals in all", step.name, most, refused)
		if most > step.most || refused > nodes {
			t.Errorf("%s: a node was sent %d responses, want %d at most; %d refusals, want one a node",
				step.name, most, step.most, refused)
		}
	}
	began := time.Now()
	s.mustRunInTime("rotate", "--wait", "--timeout", "60s")
	t.Logf("a rotation with all of them took %s", time.Since(began).Round(time.Millisecond))
}
