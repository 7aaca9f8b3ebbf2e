package sds

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/xds"
)

// loadSecond does what load does for the second certificate of a host. It is only found where the
// first one is: under the host's own name, or under its wildcard. It is bad while the first one is
// not ECDSA.
//
// A chain that names a second certificate which does not exist would never be ready. It gets a
// stand-in. Clients that can do ECDSA get the first one, and no others could be served.
func (t *Table) loadSecond(ctx context.Context, e *entry) (f found, err error) {
	host := e.name.Host()
	first, _, err := t.find(ctx, host)
	if w := host.Wildcard(); w != "" && errors.Is(err, keysource.ErrNotExist) {
		f.wild, host = true, w
		first, _, err = t.find(ctx, w)
	}
	if err == nil {
		if f.Certificate, f.from, err = t.find(ctx, host.Second()); err == nil {
			err = first.CheckFirst(host)
		} else if errors.Is(err, keysource.ErrNotExist) {
			f.standIn, _ = standInFor(e.asked, e.name)
		}
	}
	if errors.Is(err, keysource.ErrNotExist) && t.cfg.CheckComplete != nil {
		if doubt := t.checkAbsence(ctx, e); doubt != nil {
			return f, doubt
		}
	}
	return f, err
}

// absentSecond returns the stand-in of a second certificate that does not exist. It is nil for
// every other entry. The caller holds mu.
func (e *entry) absentSecond() *xds.Resource {
	if e.state != xds.Absent || !e.name.IsSecond() || e.history == nil {
		return nil
	}
	return e.history.standIn
}

// standInFor makes the stand-in of n as it is sent under the name asked.
func standInFor(asked string, n keysource.Name) (*xds.Resource, error) {
	c, err := selfSigned(n, time.Now())
	if err != nil {
		return nil, err
	}
	r, err := certificateResource(asked, c)
	if err != nil {
		return nil, err
	}
	r.Version, r.StandIn = "stand-in-"+r.Version, true
	return r, nil
}

// standInKey is the key of all stand-ins for RSA certificates. To make one takes long.
var standInKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
