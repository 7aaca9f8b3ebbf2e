package bootstrap

import (
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

func TestAListenerIsOfTheKindThatItsScopeDeclares(t *testing.T) {
	ca, err := fleet.NewCA("Clients CA")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "clients.pem")
	if err := os.WriteFile(file, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	// Envoy refuses a file with a byte order mark, which Windows writes.
	marked := filepath.Join(t.TempDir(), "marked.pem")
	if err := os.WriteFile(marked, append([]byte("\uFEFF"), ca.PEM()...), 0o600); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(ca.PEM())
	declared := fmt.Sprintf("%x", sha256.Sum256(block.Bytes))
	second, err := fleet.NewCA("Clients CA 2")
	if err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode(second.PEM())
	both := fmt.Sprintf("%s,%x", declared, sha256.Sum256(block.Bytes))
	own := &ClientCA{File: file, PEM: ca.PEM()}
	byAddress := example()
	byAddress.Hosts = append(byAddress.Hosts, "192.0.2.1")
	byAddress.ClientCerts, byAddress.ClientCA = both, &ClientCA{File: file, PEM: append(ca.PEM(), second.PEM()...)}
	if _, err := Envoy(byAddress); !errors.Is(err, ErrBadOptions) || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("several CAs and an address: %v", err)
	}
	for _, c := range []struct {
		declared string
		ca       *ClientCA
		want     string // of the error; "": none
	}{
		{"", nil, ""},
		{"none", nil, ""},
		{declared, own, ""},
		{"none", own, "ask for none"},
		{"", own, "ask for none"},
		{declared, nil, "ask for them"},
		{strings.Repeat("0", 64), own, "declares another CA"},
		{declared, &ClientCA{File: file, PEM: append(ca.PEM(), ca.PEM()...)}, ""},
		{declared, &ClientCA{File: marked, PEM: append([]byte("\uFEFF"), ca.PEM()...)}, ""},
		{declared, &ClientCA{File: file, PEM: append(ca.PEM(), second.PEM()...)}, "declares another CA"},
		{both, &ClientCA{File: file, PEM: append(ca.PEM(), second.PEM()...)}, ""},
		{declared, &ClientCA{File: file, PEM: []byte("hello")}, "no certificate"},
	} {
		o := example()
		o.ClientCerts, o.ClientCA = c.declared, c.ca
		for name, write := range map[string]func(Options) ([]byte, error){"Envoy": Envoy, "Snippet": Snippet} {
			b, err := write(o)
			if (err == nil) != (c.want == "") ||
				err != nil && (!errors.Is(err, ErrBadOptions) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s with %q: %v, want %q in it", name, c.declared, err, c.want)
			}
			if err != nil {
				continue
			}
			var chains []*listenerv3.FilterChain
			if name == "Envoy" {
				got := new(bootstrapv3.Bootstrap)
				decode(t, b, got)
				chains = got.GetStaticResources().GetListeners()[0].GetFilterChains()
				if err := fleet.ValidateEnvoy(t.Context(), b); err != nil {
					t.Error(err)
				}
			} else {
				for _, doc := range strings.Split(string(b), "\n---\n")[1:] {
					chain := new(listenerv3.FilterChain)
					decode(t, []byte(doc), chain)
					chains = append(chains, chain)
				}
			}
			if len(chains) != len(o.Hosts) {
				t.Fatalf("%s: %d chains", name, len(chains))
			}
			for _, chain := range chains {
				d := downstream(t, chain)
				asks, trusts := d.GetRequireClientCertificate().GetValue(),
					d.GetCommonTlsContext().GetValidationContext().GetTrustedCa().GetFilename()
				if c.declared == both {
					text := d.GetCommonTlsContext().GetValidationContext().GetTrustedCa().GetInlineString()
					names := chain.GetFilterChainMatch().GetServerNames()
					if !asks || strings.Count(text, "BEGIN CERTIFICATE") != 2 || len(names) != 2 {
						t.Errorf("%s: two CAs: %v, %q, %q", name, asks, names, text)
					}
					continue
				}
				if c.ca != nil && c.ca.File == marked {
					text := d.GetCommonTlsContext().GetValidationContext().GetTrustedCa().GetInlineString()
					if !asks || text != string(ca.PEM()) {
						t.Errorf("%s: a CA with a byte order mark: %v, %q", name, asks, text)
					}
					continue
				}
				if asks != (c.ca != nil) || (trusts == file) != (c.ca != nil) {
					t.Errorf("%s: a chain asks for client certificates: %v, of %q", name, asks, trusts)
				}
			}
		}
	}
}
