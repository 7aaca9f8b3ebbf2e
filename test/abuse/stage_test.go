// Package abuse puts nodes that misbehave beside nodes that do not, on a real lockstepd, and holds
// what the others notice against what they may: the p99 of a push stays within twice that of an
// idle server, and the server's memory within 64 MB more.
package abuse

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/lockstep-tls/lockstep/sds"
	"github.com/lockstep-tls/lockstep/test/fleet"
	"github.com/lockstep-tls/lockstep/xds"
	"github.com/lockstep-tls/lockstep/xds/client"
)

const (
	goodNodes = 20
	pushes    = 40 // a measurement: 800 samples
	maxMemory = 64 << 20
	ring      = "tickets/default"
	attempts  = 8 // of a comparison: other tests share the two cores
)

// stage is a lockstepd and the nodes that behave.
type stage struct {
	t     *testing.T
	plane *fleet.Lockstepd
	token string

	mu  sync.Mutex
	got map[string]int // version: nodes that have it
	at  []time.Time
}

func setUp(t *testing.T) *stage { t.Helper(); return setUpIn(t, "") }

// setUpIn keeps the data in a folder; "" is one of the test's.
func setUpIn(t *testing.T, data string) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	bin, err := fleet.Build(ctx, "lockstepd")
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, got: map[string]int{}}
	if s.plane, err = fleet.ForTest(t).Lockstepd("lockstepd", fleet.Lockstepd{Bin: bin, Data: data}); err != nil {
		t.Fatal(err)
	}
	if err := s.plane.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(s.plane.Data, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(b))
	for i := range goodNodes {
		s.node(fmt.Sprintf("good-%d", i))
	}
	s.await(ctx)
	return s
}

// node runs one that behaves, until the test ends.
func (s *stage) node(id string) {
	conn := s.dial()
	ctx, cancel := context.WithCancel(context.Background())
	c := client.New(client.Config{
		Conn: conn, Node: &corev3.Node{Id: id, UserAgentName: xds.EdgeAgent}, Type: sds.TypeURL,
		Method: secretv3.SecretDiscoveryService_DeltaSecrets_FullMethodName,
		Apply: func(rs []*xds.Resource, _ []string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.got[rs[0].Version]++
			s.at = append(s.at, time.Now())
			return nil
		},
	})
	c.Subscribe(ring)
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	s.t.Cleanup(func() { cancel(); <-done })
}

func (s *stage) dial() *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient(s.plane.XDS, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// await waits until all good nodes have one and the same version.
func (s *stage) await(ctx context.Context) {
	s.t.Helper()
	if err := fleet.Until(ctx, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, n := range s.got {
			if n >= goodNodes {
				return nil
			}
		}
		return fmt.Errorf("the good nodes have %v", s.got)
	}); err != nil {
		s.t.Fatal(err)
	}
}

// p99 pushes a new ring again and again and returns the p99 of the time until a node has it. A burn
// is one push to all.
func (s *stage) p99() time.Duration {
	s.t.Helper()
	var all []time.Duration
	for range pushes {
		s.mu.Lock()
		s.got, s.at = map[string]int{}, nil
		s.mu.Unlock()
		began := time.Now()
		if code, body := s.post("burn"); code != http.StatusOK {
			s.t.Fatalf("burn: %d %s", code, body)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		s.await(ctx)
		cancel()
		s.mu.Lock()
		for _, at := range s.at {
			all = append(all, at.Sub(began))
		}
		s.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

func (s *stage) post(command string) (int, string) { s.t.Helper(); return s.send(command, "{}") }

func (s *stage) send(command, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost,
		"http://"+s.plane.Admin+"/v1/scopes/default/"+command, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// memory is the server's resident memory and its peak since the last reset, in bytes.
func (s *stage) memory() (now, peak int) {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.plane.PID()))
	if err != nil {
		s.t.Fatal(err)
	}
	field := func(name string) int {
		m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(b)
		if m == nil {
			s.t.Fatalf("no %s in\n%s", name, b)
		}
		n, _ := strconv.Atoi(string(m[1]))
		return n << 10
	}
	return field("VmRSS"), field("VmHWM")
}

// metric is the value of a line of /metrics.
func (s *stage) metric(name string) int {
	s.t.Helper()
	resp, err := http.Get("http://" + s.plane.Admin + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + ` (\d+)`).FindSubmatch(b)
	if m == nil {
		s.t.Fatalf("no %s in /metrics", name)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// streams is how many xDS streams the server has open.
func (s *stage) streams() int { s.t.Helper(); return s.metric("lockstep_xds_streams") }

// during measures while abuse runs, against the idle server just before. A measurement that a busy
// machine spoilt is taken again.
func (s *stage) during(abuse func(ctx context.Context)) {
	s.t.Helper()
	var words []string
	for range attempts {
		idle := s.p99()
		before, _ := s.memory()
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.plane.PID()), []byte("5"), 0); err != nil {
			s.t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(s.t.Context())
		done := make(chan struct{})
		go func() { defer close(done); abuse(ctx) }()
		time.Sleep(500 * time.Millisecond)
		busy := s.p99()
		_, peak := s.memory()
		cancel()
		<-done
		words = append(words, fmt.Sprintf("p99 of a push to the others %.2f ms, idle %.2f ms; memory +%.1f MB",
			ms(busy), ms(idle), float64(peak-before)/(1<<20)))
		if busy <= 2*idle && peak-before <= maxMemory {
			s.t.Log(strings.Join(words, "; before that: "))
			return
		}
	}
	s.t.Errorf("%d times: %s", attempts, strings.Join(words, "; "))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
