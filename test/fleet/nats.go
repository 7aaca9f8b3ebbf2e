package fleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// NATS is a cluster of nats-server processes with JetStream, on loopback, each of which syncs every
// write. Each [Process] in it can be killed, paused and restarted by itself; it keeps its data and
// addresses.
type NATS struct {
	Servers []*NATSServer
}

// NATSServer is one of them. Ready: it and all streams on it are up to date.
type NATSServer struct {
	*Process
	Client  string // host:port
	Monitor string // host:port of the HTTP monitoring (/varz, /jsz, …)
}

// BuildNATS builds nats-server, in go.mod's version, into bin/ of the checkout, and returns its
// path.
func BuildNATS(ctx context.Context) (string, error) {
	bin, err := Build(ctx, "github.com/nats-io/nats-server/v2")
	return filepath.Join(bin, "nats-server"), err
}

// NATS starts a cluster of size servers, named <name>-1 and so on, and waits until it is ready. The
// lines are added to their configuration.
func (f *Fleet) NATS(ctx context.Context, name string, size int, lines ...string) (*NATS, error) {
	program, err := BuildNATS(ctx)
	if err != nil {
		return nil, err
	}
	n := &NATS{}
	var peers, routes []string
	for range size {
		s := &NATSServer{}
		var peer string
		for _, addr := range []*string{&s.Client, &s.Monitor, &peer} {
			if *addr, err = f.addr(); err != nil {
				return nil, err
			}
		}
		n.Servers, peers, routes = append(n.Servers, s), append(peers, peer), append(routes, "nats-route://"+peer)
	}
	for i, s := range n.Servers {
		member := fmt.Sprintf("%s-%d", name, i+1)
		config := fmt.Sprintf("server_name: %q\nlisten: %q\nhttp: %q\n"+
			"jetstream { store_dir: %q, sync_interval: always, max_file: 4G }\n",
			member, s.Client, s.Monitor, filepath.Join(f.dir, member))
		if size > 1 {
			config += fmt.Sprintf("cluster { name: %q, listen: %q, routes: [%s] }\n",
				name, peers[i], strings.Join(routes, ", "))
		}
		config += strings.Join(lines, "\n") + "\n"
		file := filepath.Join(f.dir, member+".conf")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return nil, fmt.Errorf("fleet: configuration of %s: %w", member, err)
		}
		s.Process, err = f.Start(Command{
			Name: member, Path: program, Args: []string{"-c", file}, Ready: "http://" + s.Monitor + "/healthz",
		})
		if err != nil {
			return nil, err
		}
	}
	return n, n.Ready(ctx)
}

// Addrs are the servers as a NATS URL wants them, "host:port,host:port".
func (n *NATS) Addrs() string {
	var addrs []string
	for _, s := range n.Servers {
		addrs = append(addrs, s.Client)
	}
	return strings.Join(addrs, ",")
}

// Ready waits until every server is.
func (n *NATS) Ready(ctx context.Context) error {
	for _, s := range n.Servers {
		if err := s.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}
