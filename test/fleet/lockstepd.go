package fleet

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/seal"
)

// Lockstepd says how a control plane is started, and where it then is. Empty fields are filled in:
// a folder of its own in the fleet's, a socket for nodes, free ports on 127.0.0.1 or the box's
// address.
type Lockstepd struct {
	*Process
	Box   *Box   // where it runs; nil: here
	Bin   string // the folder of the binary, from Build; needed
	Data  string // --data-dir
	Certs string // --certs; "" is left out
	XDS   string // --xds-listen; "": a socket, or TCP with certificates; "-": left out, in Data
	Admin string // --admin-listen
	NATS  string // --nats-listen; "-": it opens none, as with --events
	Args  []string
	Env   []string
	TLS   *tls.Config // of a client of the admin API; nil: it is plaintext, as on loopback
}

// Authorize adds the token of the local administrator to a request to the admin API.
func (l *Lockstepd) Authorize(r *http.Request) error {
	b, err := os.ReadFile(filepath.Join(l.Data, "admin.token"))
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(b)))
	return nil
}

// Lockstepd starts a control plane. It is ready when its /readyz is. A restart keeps data and
// addresses.
func (f *Fleet) Lockstepd(name string, o Lockstepd) (*Lockstepd, error) {
	o.Box = f.box
	if o.Data == "" {
		o.Data = filepath.Join(f.dir, name)
	}
	if o.XDS == "" && f.box == nil && !slices.Contains(o.Args, "--xds-cert") {
		var err error
		if o.XDS, err = f.Socket(); err != nil {
			return nil, err
		}
	}
	for _, addr := range []*string{&o.XDS, &o.Admin, &o.NATS} {
		if *addr == "" {
			var err error
			if *addr, err = f.addr(); err != nil {
				return nil, err
			}
		}
	}
	if i := slices.Index(o.Args, "--kek"); i >= 0 { // replicas share a key; it is there first
		if _, err := seal.LoadOrCreate(context.Background(), seal.File(o.Args[i+1])); err != nil {
			return nil, fmt.Errorf("fleet: the sealing key: %w", err)
		}
	}
	args := []string{"--data-dir", o.Data, "--admin-listen", o.Admin}
	if o.XDS == "-" {
		o.XDS = "unix:" + filepath.Join(o.Data, "xds.sock")
	} else {
		args = append(args, "--xds-listen", o.XDS)
	}
	if o.NATS != "-" {
		args = append(args, "--nats-listen", o.NATS)
	}
	if o.Certs != "" {
		args = append(args, "--certs", o.Certs)
	}
	scheme := "http"
	if o.TLS != nil {
		scheme = "https"
	}
	var err error
	o.Process, err = f.Start(Command{
		Name:  name,
		Path:  filepath.Join(o.Bin, "lockstepd"),
		Args:  append(args, o.Args...),
		Env:   o.Env,
		Ready: scheme + "://" + o.Admin + "/readyz",
		TLS:   o.TLS,
	})
	return &o, err
}
