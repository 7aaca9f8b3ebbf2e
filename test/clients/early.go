package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// offer is what becomes of a client that comes to a node with a ticket of another server, which
// allows early data.
type offer struct {
	client
	kind int
	// fails counts requests that failed before the first one that succeeded.
	fails   int
	offered bool  // offered is true if the client did offer early data.
	err     error // err is why the first request failed, or what did not work here.
}

// tries is how many requests a client has. Browsers hold two tickets.
const tries = 4

// offers has each client that can offer early data do so at both kinds of nodes.
func (s *stage) offers(ctx context.Context, sources, built string, all []client) (out []*offer, err error) {
	former, err := s.formerServer(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		for k := range s.kinds {
			if !c.early {
				continue
			}
			o := &offer{client: c, kind: k}
			if err := s.offer(o, former, sources, built); err != nil {
				return nil, err
			}
			out = append(out, o)
		}
	}
	return out, nil
}

func (s *stage) offer(o *offer, former, sources, built string) error {
	dir := filepath.Join(s.Dir(), fmt.Sprintf("%s-early-%d", o.name, o.kind))
	d, err := o.client.start(sources, built, dir, host, s.ca, "any", tries+1, "early")
	if err != nil {
		return err
	}
	defer d.stop()
	if _, err := d.visit(former); err != nil {
		return fmt.Errorf("at nginx: %w", err)
	}
	for range tries {
		seen, err := d.visit(s.kinds[o.kind].nodes[0])
		for _, h := range seen {
			o.offered = o.offered || h.Early
		}
		if err == nil {
			return nil
		}
		if o.fails++; o.err == nil {
			o.err = err
		}
	}
	return nil
}

// formerServer is an nginx that takes early data.
func (s *stage) formerServer(ctx context.Context) (string, error) {
	at, err := fleet.Addr()
	if err != nil {
		return "", err
	}
	plain, err := fleet.Addr()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(s.Dir(), "nginx")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	config := fmt.Sprintf(`daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_timeout 0;
  server {
    listen %s ssl;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_early_data on;
    ssl_certificate tls.crt;
    ssl_certificate_key tls.key;
    location / { return 200; }
  }
  server {
    listen %s;
    location / { return 200; }
  }
}
`, at, plain)
	files := map[string][]byte{"tls.crt": s.host.Chain, "tls.key": s.host.Key, "nginx.conf": []byte(config)}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return "", err
		}
	}
	path := "/usr/sbin/nginx" // it is not on everybody's PATH
	p, err := s.Start(fleet.Command{Name: "nginx", Path: path, Ready: "http://" + plain,
		Args: []string{"-p", dir, "-c", filepath.Join(dir, "nginx.conf")}})
	if err != nil {
		return "", err
	}
	return at, p.Ready(ctx)
}
