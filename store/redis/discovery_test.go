package redis

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/store"
	"github.com/lockstep-tls/lockstep/test/fleet"
)

// named are TLS settings of servers whose certificate has names, and no address.
type named struct {
	roots string   // the path of the CA
	lines []string // of a server's configuration
}

func certificateFor(t *testing.T, names ...string) named {
	t.Helper()
	ca, err := fleet.NewCA("redis-ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(fleet.Leaf{Names: names})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	roots := file("ca.crt", ca.PEM())
	return named{roots, []string{"tls-ca-cert-file " + roots, "tls-cert-file " + file("tls.crt", pair.Chain),
		"tls-key-file " + file("tls.key", pair.Key), "tls-auth-clients no"}}
}

// secure runs a server that takes TLS at the second address.
func secure(t *testing.T, with named, lines ...string) (r *fleet.RedisServer, addr string) {
	t.Helper()
	port, peer := freePort(t), freePort(t)
	if slices.Contains(lines, "cluster-enabled yes") {
		lines = append(lines, fmt.Sprintf("cluster-port %d", peer))
	}
	r = server(t, slices.Concat(with.lines, lines, []string{fmt.Sprintf("tls-port %d", port)})...)
	return r, fmt.Sprintf("127.0.0.1:%d", port)
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := fleet.Port()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// member runs a cluster of one server.
func member(t *testing.T, lines ...string) *fleet.RedisServer {
	t.Helper()
	r := server(t, append([]string{"cluster-enabled yes", fmt.Sprintf("cluster-port %d", freePort(t))}, lines...)...)
	whole(t, r)
	return r
}

// overTLS runs a server, one that a Sentinel watches, and a cluster of one, and returns their URLs.
func overTLS(t *testing.T, with named) map[string]string {
	t.Helper()
	_, one := secure(t, with)
	_, master := secure(t, with)
	sentinelPort := freePort(t)
	host, port, _ := strings.Cut(master, ":")
	if _, err := fleet.ForTest(t).Sentinel(limited(t), "sentinel", append(slices.Clone(with.lines),
		fmt.Sprintf("tls-port %d", sentinelPort), "tls-replication yes",
		"sentinel monitor mymaster "+host+" "+port+" 1")...); err != nil {
		t.Fatal(err)
	}
	member, cluster := secure(t, with, "cluster-enabled yes", "tls-cluster yes")
	whole(t, member)
	return map[string]string{
		"one server": "rediss://" + one,
		"Sentinel":   fmt.Sprintf("rediss+sentinel://127.0.0.1:%d/mymaster", sentinelPort),
		"cluster":    "rediss+cluster://" + cluster,
	}
}

// whole makes a server a cluster of its own.
func whole(t *testing.T, r *fleet.RedisServer) {
	t.Helper()
	do(t, r, "CLUSTER ADDSLOTSRANGE 0 16383")
	soon(t, 10*time.Second, func() error {
		if got := do(t, r, "CLUSTER INFO"); !strings.Contains(got, "cluster_state:ok") {
			return errNotYet(got)
		}
		return nil
	})
}

// refuses opens the store for a short time, and checks that the error has the words.
func refuses(t *testing.T, url string, words ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	s, err := Open(ctx, at(t, url))
	if err == nil {
		s.Close()
		t.Errorf("%s was opened", url)
		return nil
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q lacks %q", url, err, w)
		}
	}
	return err
}

// Servers that are known by addresses have certificates for names.
func TestACertificateForANameIsTakenWhereServersAreKnownByAddress(t *testing.T) {
	t.Parallel()
	with := certificateFor(t, "redis.test", "*.redis.test")
	other := certificateFor(t, "redis.test")
	for kind, url := range overTLS(t, with) {
		url += "?tls_ca=" + with.roots
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for _, name := range []string{"redis.test", "a.redis.test", "x.test,REDIS.test"} {
				s := open(t, at(t, url+"&tls_name="+name))
				if _, _, err := s.Get(t.Context(), "a/none"); !errors.Is(err, store.ErrNotExist) {
					t.Errorf("%s: %v", name, err)
				}
			}
			refuses(t, url, "give tls_name=redis.test")
			refuses(t, url+"&tls_name=x.test", "tls_name is x.test", "give tls_name=x.test,redis.test")
			refuses(t, url+"&tls_name=x.test,a.b.redis.test", "a.b.redis.test", "redis.test")
			url := strings.Replace(url, with.roots, other.roots, 1) // the CA counts as ever
			for _, names := range []string{"redis.test", "x.test,redis.test"} {
				err := refuses(t, url+"&tls_name="+names, "tls_ca", other.roots)
				if unknown := new(x509.UnknownAuthorityError); !errors.As(err, unknown) {
					t.Errorf("another CA: %v", err)
				}
			}
		})
	}
	refuses(t, "rediss://"+server(t).Addr+"?tls_name=redis.test", "speaks no TLS", "redis instead of rediss")
	_, addr := secure(t, with)
	refuses(t, "redis://"+addr, "begin the URL with rediss")
	r, addr := secure(t, with, "cluster-enabled yes")
	whole(t, r)
	refuses(t, "rediss+cluster://"+addr+"?tls_name=redis.test&tls_ca="+with.roots, "tls-cluster yes")
}

// forwarder passes connections on to another address, while it is open.
type forwarder struct {
	addr   string
	listen net.Listener
	mu     sync.Mutex
	count  int
	conns  []net.Conn
}

func forward(t *testing.T, to string) *forwarder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{addr: l.Addr().String(), listen: l}
	var wg sync.WaitGroup
	t.Cleanup(func() { f.cut(); wg.Wait() })
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			f.mu.Lock()
			f.count++
			f.conns = append(f.conns, in, out)
			f.mu.Unlock()
			for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					io.Copy(c[0], c[1])
					c[0].Close()
					c[1].Close()
				})
			}
		}
	})
	return f
}

// used is how many connections came.
func (f *forwarder) used() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

func (f *forwarder) cut() {
	f.listen.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.Close()
	}
}

// A cluster in a container network announces addresses of its own. No Redis listens at them here.
func TestAnAnnouncedAddressIsMappedInACluster(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	inside := fmt.Sprintf("127.9.9.9:%d", port)
	r := member(t, "cluster-announce-ip 127.9.9.9", fmt.Sprintf("cluster-announce-port %d", port))
	url := "redis+cluster://" + r.Addr
	refuses(t, url, "the cluster gave the address", "announce="+inside+"=HOST:PORT")
	refuses(t, url+"?announce=127.9.9.8="+r.Addr[:strings.IndexByte(r.Addr, ':')], "announce="+inside+"=HOST:PORT")
	f := forward(t, r.Addr)
	s := open(t, at(t, url+"?announce="+inside+"="+f.addr))
	put(t, s, "a/x", 0, "v")
	if f.used() == 0 {
		t.Error("the store was not reached where announce leads")
	}
	f.cut()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, _, err := s.Get(ctx, "a/x")
	said(t, "Get", err, inside, "announce leads to "+f.addr)
}

func TestAnAnnouncedAddressIsMappedBehindSentinels(t *testing.T) {
	t.Parallel()
	r := server(t)
	sentinel, err := fleet.ForTest(t).Sentinel(limited(t), "sentinel",
		"sentinel monitor mymaster "+strings.Replace(r.Addr, ":", " ", 1)+" 1")
	if err != nil {
		t.Fatal(err)
	}
	f := forward(t, r.Addr)
	url := "redis+sentinel://" + sentinel.Addr + "/mymaster"
	s := open(t, at(t, url+"?announce="+r.Addr+"="+f.addr))
	put(t, s, "a/x", 0, "v")
	if f.used() == 0 {
		t.Error("the store was not reached where announce leads")
	}
	f.cut()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, _, err = s.Get(ctx, "a/x")
	said(t, "Get", err, "the Sentinels gave "+r.Addr, "announce leads to "+f.addr)
	open(t, at(t, url)) // the server itself is up
	refuses(t, "redis+sentinel://"+sentinel.Addr+"/none", "know no master of that name")
	refuses(t, "redis://"+sentinel.Addr, "use redis+sentinel://")
	refuses(t, "redis+sentinel://"+r.Addr+"/mymaster", "it is no Sentinel")
	refuses(t, "redis+cluster://"+r.Addr, "it is no cluster")
}

func TestStoresInTwoDatabasesDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	r := server(t, "databases 3")
	sentinel, err := fleet.ForTest(t).Sentinel(limited(t), "sentinel",
		"sentinel monitor mymaster "+strings.Replace(r.Addr, ":", " ", 1)+" 1")
	if err != nil {
		t.Fatal(err)
	}
	for kind, url := range map[string]string{
		"one server": "redis://" + r.Addr, "Sentinel": "redis+sentinel://" + sentinel.Addr + "/mymaster",
	} {
		t.Run(kind, func(t *testing.T) {
			do(t, r, "FLUSHALL")
			one, two := open(t, at(t, url+"/1")), open(t, at(t, url+"/2"))
			if one.id() == two.id() {
				t.Fatal("both are one store")
			}
			rev := put(t, one, "ring/default", 0, "of one")
			if _, _, err := two.Get(t.Context(), "ring/default"); !errors.Is(err, store.ErrNotExist) {
				t.Errorf("Get = %v in the other database", err)
			}
			if _, err := two.Swap(t.Context(), "ring/default", rev, []byte("w")); !errors.Is(err, store.ErrConflict) {
				t.Errorf("Swap = %v in the other database", err)
			}
			if changed, _, err := two.Changed(t.Context(), "", 0); err != nil || len(changed) != 0 {
				t.Errorf("Changed = %q, %v in the other database", changed, err)
			}
			if got := all(t, two, ""); len(got) != 0 {
				t.Errorf("Keys = %q in the other database", got)
			}
			put(t, two, "ring/default", 0, "of two")
			// Channels are not parted by databases: the store uses none.
			for line := range strings.Lines(do(t, r, "CLIENT LIST TYPE pubsub")) {
				if !strings.Contains(line, "name=sentinel-") {
					t.Errorf("somebody listens to channels: %s", line)
				}
			}
			empty(t, url+"/2")
			if val, _, err := one.Get(t.Context(), "ring/default"); err != nil || string(val) != "of one" {
				t.Errorf("Get = %q, %v, after the other was emptied", val, err)
			}
			if _, _, err := two.Get(t.Context(), "ring/default"); !errors.Is(err, store.ErrLost) {
				t.Errorf("Get = %v of a database that was emptied", err)
			}
			refuses(t, url+"/3", "databases")
		})
	}
	refuses(t, "redis://"+member(t).Addr+"/1", "redis+cluster://")
}

// empty empties the database of a store.
func empty(t *testing.T, url string) {
	t.Helper()
	c := at(t, url)
	b, err := c.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	node, _, err := b.node(t.Context())
	if err == nil {
		err = node.FlushDB(t.Context()).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}
