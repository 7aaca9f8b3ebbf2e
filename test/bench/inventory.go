package main

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// importMany is the time that lockstep cert import takes, from exec to its end, to bring an archive
// of certificates in an order of their own into the embedded store and into Redis. CLI and server
// share the processors. Then the same again, where all is stored already.
func importMany(b *bench) {
	n, begin := b.size(1_000_000, 20_000), time.Now()
	file := filepath.Join(b.fleet.Dir(), "leaves.tar")
	check(newSigner().archive(b.ctx, file, n))
	defer os.Remove(file)
	b.say("%d certificates, each with its CA's, were made in %.1fs", n, time.Since(begin).Seconds())
	both := func(to string, within time.Duration, p *plane, data string) {
		what := fmt.Sprintf("import of %d certificates into %s", n, to)
		took, peaks := b.importOnce(p, data, file, n)
		b.add(row{what: what, ours: inSeconds(took.Seconds()), note: peaks}.absolute(fmt.Sprintf("≤ %.0f s", within.Seconds()), took > within))
		again, peaks := b.importOnce(p, data, file, n)
		b.add(row{what: "— again, when all are stored", ours: inSeconds(again.Seconds()), note: peaks})
		b.say("%s: %s, again %s", what, inSeconds(took.Seconds()), inSeconds(again.Seconds()))
		check(b.end()) // what comes next has the machine to itself
	}
	data := filepath.Join(b.fleet.Dir(), b.fresh("huge"))
	both("the embedded store", 60*time.Second, b.ours(data, nil), data)
	b.huge = data
	p := b.shared().replica("import", nil)
	both("Redis", 120*time.Second, p, filepath.Join(b.fleet.Dir(), p.name))
}

func (b *bench) importOnce(p *plane, data, file string, n int) (took time.Duration, peaks string) {
	cmd := exec.CommandContext(b.ctx, filepath.Join(b.bin, "lockstep"), "--data-dir", data, "cert", "import", file, "-o", "json")
	var words strings.Builder
	cmd.Stderr = &words
	var out []byte
	cpu := cpuOf(p.PID())
	peak := peakOf(p.PID(), func() {
		var err error
		begin := time.Now()
		if out, err = cmd.Output(); err != nil {
			check(fmt.Errorf("%w: %.2000s", err, words.String()))
		}
		took = time.Since(begin)
	})
	var done struct{ Stored, Failed int }
	if err := json.Unmarshal(out, &done); err != nil || done.Stored != n || done.Failed != 0 {
		check(fmt.Errorf("%d of %d stored, %d failed (%v)", done.Stored, n, done.Failed, err))
	}
	usage := cmd.ProcessState
	return took, fmt.Sprintf("CPU %.1f s of the server and %.1f s of the CLI; at most %s in the server's memory, mapped pages of the store included",
		(cpuOf(p.PID()) - cpu).Seconds(), (usage.UserTime() + usage.SystemTime()).Seconds(), inMB(float64(peak)))
}

// start is how long lockstepd takes from exec until /readyz says yes and nodes can connect, and the
// memory that it holds then.
func start(b *bench) {
	many := b.size(1_000_000, 20_000)
	dirs := []string{b.hugeData(many), b.data(10)}
	var times, memories [2][]float64
	for range 5 {
		for i, data := range dirs {
			begin := time.Now()
			l := must(b.fleet.Lockstepd(b.fresh("lockstepd"), fleet.Lockstepd{Bin: b.bin, Data: data}))
			p := &plane{Process: l.Process, b: b, control: "http://" + l.Admin}
			for err := errors.New(""); err != nil; time.Sleep(time.Millisecond) {
				if err = p.call(http.MethodGet, "/readyz", nil, nil); err == nil {
					var conn net.Conn
					if conn, err = net.Dial("tcp", l.XDS); err == nil {
						times[i] = append(times[i], time.Since(begin).Seconds())
						conn.Close()
					}
				}
				if time.Since(begin) > patience {
					check(explained(err, l.Process))
				}
			}
			memories[i] = append(memories[i], float64(b.settled(l.Process)))
			check(l.Kill())
		}
	}
	b.add(
		compare(fmt.Sprintf("lockstepd's start with %d certificates, against one with ten", many), times[0], times[1], reported, inMS).
			absolute("≤ 1 s", median(times[0]) > 1),
		compare("— memory before any request", memories[0], memories[1], atMost(1.2), inMB),
	)
}

// signer makes leaves under the bench's names. They share a private key, since to make keys would
// take longer than all else.
type signer struct {
	ca            *x509.Certificate
	caKey, key    *ecdsa.PrivateKey
	caPEM, keyPEM []byte
}

func newSigner() *signer {
	s := &signer{caKey: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	template := s.template(1)
	template.IsCA, template.BasicConstraintsValid, template.SubjectKeyId = true, true, []byte("bench")
	template.Subject.CommonName = "Lockstep bench CA"
	der := must(x509.CreateCertificate(rand.Reader, template, template, s.caKey.Public(), s.caKey))
	s.ca = must(x509.ParseCertificate(der))
	s.caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(s.key))})
	return s
}

func (*signer) template(serial int) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{SerialNumber: big.NewInt(int64(serial)), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(90 * 24 * time.Hour)}
}

// sign returns the chain of the i-th name.
func (s *signer) sign(i int) ([]byte, error) {
	template := s.template(i + 2)
	template.DNSNames, template.KeyUsage = []string{certName(i)}, x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca, s.key.Public(), s.caKey)
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), s.caPEM...), err
}

// scatter is prime to every size here: i*scatter mod n visits all names in an order that has
// nothing to do with theirs.
const scatter = 7_368_787

// archive writes n certificates, each of its own name and serial number, with their CA's.
func (s *signer) archive(ctx context.Context, file string, n int) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	chains := make([]chan []byte, runtime.NumCPU()) // in turn
	g, ctx := errgroup.WithContext(ctx)
	for w := range chains {
		chains[w] = make(chan []byte, 256)
		g.Go(func() error {
			defer close(chains[w])
			for i := w; i < n; i += len(chains) {
				chain, err := s.sign(i * scatter % n)
				if err != nil {
					return err
				}
				select {
				case chains[w] <- chain:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		buffered := bufio.NewWriterSize(f, 1<<20)
		w := tar.NewWriter(buffered)
		for i := range n {
			chain, ok := <-chains[i%len(chains)]
			if !ok {
				return nil // its error says why
			}
			for name, b := range map[string][]byte{"tls.crt": chain, "tls.key": s.keyPEM} {
				h := &tar.Header{Name: certName(i*scatter%n) + "/" + name, Size: int64(len(b)), Mode: 0o600}
				if err := w.WriteHeader(h); err != nil {
					return err
				}
				if _, err := w.Write(b); err != nil {
					return err
				}
			}
		}
		return errors.Join(w.Close(), buffered.Flush())
	})
	return g.Wait()
}
