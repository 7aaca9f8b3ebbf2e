package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// plane is a control plane: ours or stock.
type plane struct {
	name    string
	proc    *fleet.Process
	xds     string // host:port
	control string // base URL
	client  *http.Client
	token   string

	push func(context.Context) error // one push of the ring; what it sets off may go on: a burn ends 10 s after the last ACK
	rest func(context.Context) error // until all that the last push or rotation set off is over
}

// ours starts a lockstepd on a data directory, or on a new one where data is "". With TLS files, nodes come over mTLS.
func (b *bench) ours(ctx context.Context, data string, files *mTLS) (*plane, error) {
	o := fleet.Lockstepd{Bin: b.bin, Data: data} // without Data it makes one, in a folder of its name
	if files != nil {
		o.Args = []string{"--xds-cert", files.server.Cert, "--xds-key", files.server.Key, "--xds-client-ca", files.server.CA}
	}
	return b.lockstepd(ctx, o)
}

func (b *bench) lockstepd(ctx context.Context, o fleet.Lockstepd) (*plane, error) {
	l, err := b.fleet.Lockstepd(b.fresh("lockstepd"), o)
	if err != nil {
		return nil, err
	}
	p := &plane{name: "lockstepd", proc: l.Process, xds: l.XDS, control: "http://" + l.Admin, client: &http.Client{}}
	if err := p.ready(ctx); err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(l.Data, "admin.token"))
	if err != nil {
		return nil, err
	}
	p.token = strings.TrimSpace(string(token))
	p.push = func(ctx context.Context) error { return p.begin(ctx, "burn") }
	p.rest = func(context.Context) error { return nil }
	return p, nil
}

// begin starts a burn or a rotation.
func (p *plane) begin(ctx context.Context, what string) error {
	var begun struct{ Rotation int }
	if err := p.call(ctx, http.MethodPost, "/v1/scopes/default/"+what, []byte("{}"), &begun); err != nil {
		return err
	}
	p.rest = func(ctx context.Context) error {
		return fleet.Until(ctx, func() error {
			var r struct {
				Ended     bool
				BlockedBy []string `json:"blocked_by"`
			}
			if err := p.call(ctx, http.MethodGet, fmt.Sprintf("/v1/scopes/default/rotations/%d", begun.Rotation), nil, &r); err != nil {
				return err
			}
			if !r.Ended {
				return fmt.Errorf("%s %d waits for %d nodes", what, begun.Rotation, len(r.BlockedBy))
			}
			return nil
		})
	}
	return nil
}

// call makes a request to the control address; v, if not nil, gets the JSON of the answer.
func (p *plane) call(ctx context.Context, method, path string, body []byte, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, p.control+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if p.token != "" {
		req.Header.Set("Authorization", "Bearer "+p.token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(b, v)
}

func (p *plane) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return p.proc.Ready(ctx)
}

// settled returns the resident memory in bytes when five seconds make less than 1 % of difference. Nothing is asked of the runtime: what counts is
// what an operator sees, garbage included.
func (p *plane) settled(ctx context.Context) (rss int64, err error) {
	for range 12 {
		before := rss
		if rss, err = memoryOf(p.proc.PID(), "VmRSS"); err != nil || before > 0 && rss > before-before/100 && rss < before+before/100 {
			return rss, err
		}
		if err := sleep(ctx, 5*time.Second); err != nil {
			return 0, err
		}
	}
	return rss, nil
}
