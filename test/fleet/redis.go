package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a redis-server or a redis-sentinel on loopback. A server syncs every write. It can
// be killed, paused and restarted; it keeps its data and address.
type RedisServer struct {
	*Process
	// host:port, without TLS, and without a password unless the caller's configuration has one
	Addr string
}

// Redis starts a redis-server and waits until it answers. The lines are added to its configuration.
func (f *Fleet) Redis(ctx context.Context, name string, lines ...string) (*RedisServer, error) {
	addr, err := f.addr()
	if err != nil {
		return nil, err
	}
	s, err := f.redis(name, "redis-server", addr, append([]string{
		"appendonly yes", "appendfsync always", `save ""`, "repl-diskless-sync-delay 0", "repl-ping-replica-period 1",
	}, lines...))
	if err != nil {
		return nil, err
	}
	return s, s.Ready(ctx)
}

// Sentinel starts a Sentinel and waits until it answers. The lines are its configuration.
func (f *Fleet) Sentinel(ctx context.Context, name string, lines ...string) (*RedisServer, error) {
	addr, err := f.addr()
	if err != nil {
		return nil, err
	}
	s, err := f.redis(name, "redis-sentinel", addr, lines)
	if err != nil {
		return nil, err
	}
	return s, s.Ready(ctx)
}

// ValkeyPath is the valkey-server that `make valkey` installs.
func ValkeyPath() (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, ".valkey", "valkey-server")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("fleet: Valkey is not installed: type: make valkey (%w)", err)
	}
	return path, nil
}

// OnValkey is the fleet with Valkey in the place of Redis. All else is shared with f.
func (f *Fleet) OnValkey() (*Fleet, error) {
	path, err := ValkeyPath()
	return &Fleet{f.dir, f.box, f.started, path}, err
}

func (f *Fleet) redis(name, program, addr string, lines []string) (*RedisServer, error) {
	path, err := f.valkey, error(nil)
	if path == "" {
		path, err = exec.LookPath(program)
	}
	if err != nil {
		return nil, fmt.Errorf("fleet: %s is not installed: type: make test-packages (%w)", program, err)
	}
	dir := filepath.Join(f.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	host, port, _ := strings.Cut(addr, ":")
	lines = append([]string{"bind " + host, "port " + port, fmt.Sprintf("dir %q", dir)}, lines...)
	file := filepath.Join(dir, "redis.conf") // a Sentinel writes to it
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("fleet: configuration of %s: %w", name, err)
	}
	args := []string{file}
	if program == "redis-sentinel" {
		args = append(args, "--sentinel")
	}
	p, err := f.Start(Command{Name: name, Path: path, Args: args})
	if err != nil {
		return nil, err
	}
	return &RedisServer{p, addr}, nil
}

// Do runs a command as the default user, on a connection of its own.
func (s *RedisServer) Do(ctx context.Context, args ...any) (any, error) {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, fmt.Errorf("fleet: %s: %w", s.Name(), err)
	}
	c := redis.NewClient(&redis.Options{
		// the library would log a failure
		Dialer:   func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Protocol: 2, MaxRetries: -1, ReadTimeout: 2 * time.Second, ContextTimeoutEnabled: true, DisableIdentity: true,
	})
	defer c.Close()
	v, err := c.Do(ctx, args...).Result()
	if err != nil {
		return nil, fmt.Errorf("fleet: %s on %s: %w", args[0], s.Name(), err)
	}
	return v, nil
}

// Ready waits until it answers and has read its data. If it ends meanwhile, or ctx does, the error
// holds the end of the log.
func (s *RedisServer) Ready(ctx context.Context) error {
	return s.until(ctx, func() error { _, err := s.Do(ctx, "PING"); return err })
}

// says waits until INFO or the like has a line.
func (s *RedisServer) says(ctx context.Context, line string, command ...any) error {
	return s.until(ctx, func() error {
		text, err := s.Do(ctx, command...)
		if err == nil && !strings.Contains(fmt.Sprint(text), line) {
			err = fmt.Errorf("%v has not %q", command, line)
		}
		return err
	})
}

func (s *RedisServer) until(ctx context.Context, check func() error) error {
	done := s.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := Until(ctx, func() error {
		select {
		case <-done:
			cancel(errors.New("it ended"))
		default:
		}
		return check()
	})
	if err != nil {
		return fmt.Errorf("fleet: %s: %w (%w); its log ends:\n%s", s.Name(), err, context.Cause(ctx), s.LogTail(20))
	}
	return nil
}

// RedisSentinel is a master with one replica and three Sentinels, who take a server for dead after
// a second of silence.
type RedisSentinel struct {
	Master    string         // its name
	Servers   []*RedisServer // at first Servers[0] is the master
	Sentinels []*RedisServer
}

// RedisSentinel starts them and waits until all know each other.
func (f *Fleet) RedisSentinel(ctx context.Context, name string) (*RedisSentinel, error) {
	master, err := f.Redis(ctx, name+"-1")
	if err != nil {
		return nil, err
	}
	replica, err := f.Redis(ctx, name+"-2", "replicaof "+words(master.Addr))
	if err != nil {
		return nil, err
	}
	r := &RedisSentinel{Master: name, Servers: []*RedisServer{master, replica}}
	if err := replica.says(ctx, "master_link_status:up", "INFO", "replication"); err != nil {
		return nil, err
	}
	for i := range 3 {
		addr, err := f.addr()
		if err != nil {
			return nil, err
		}
		s, err := f.redis(fmt.Sprintf("%s-sentinel-%d", name, i+1), "redis-sentinel", addr, []string{
			"sentinel monitor " + name + " " + words(master.Addr) + " 2",
			"sentinel down-after-milliseconds " + name + " 1000",
			"sentinel failover-timeout " + name + " 3000",
		})
		if err != nil {
			return nil, err
		}
		r.Sentinels = append(r.Sentinels, s)
	}
	for _, s := range r.Sentinels {
		if err := s.says(ctx, "slaves=1,sentinels=3", "INFO", "sentinel"); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Addrs are the Sentinels as a URL wants them, "host:port,host:port".
func (r *RedisSentinel) Addrs() string { return addrs(r.Sentinels) }

// Switched waits until the Sentinels name another master than old.
func (r *RedisSentinel) Switched(ctx context.Context, old *RedisServer) error {
	for _, s := range r.Sentinels {
		err := s.until(ctx, func() error {
			v, err := s.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", r.Master)
			if err == nil && fmt.Sprint(v) == "["+words(old.Addr)+"]" {
				err = fmt.Errorf("%s is still the master", old.Name())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Replicated waits until the master has a replica in order. The Sentinels make one of a master that
// was away only when it was back for some 10 s; until then they may make it the master again, with
// what it had.
func (r *RedisSentinel) Replicated(ctx context.Context, master *RedisServer) error {
	return master.says(ctx, "state=online", "INFO", "replication")
}

// RedisCluster is a cluster of three masters with a replica each.
type RedisCluster struct {
	Servers []*RedisServer // at first the masters, then their replicas in the same order
}

// RedisCluster starts it and waits until it is in order. A server is taken for dead after a second
// of silence.
func (f *Fleet) RedisCluster(ctx context.Context, name string) (*RedisCluster, error) {
	const masters, slots = 3, 16384
	c := &RedisCluster{}
	ids := make([]any, 2*masters)
	for i := range ids {
		peer, err := Port()
		if err != nil {
			return nil, err
		}
		s, err := f.Redis(ctx, fmt.Sprintf("%s-%d", name, i+1), "cluster-enabled yes",
			"cluster-node-timeout 1000", fmt.Sprintf("cluster-port %d", peer))
		if err != nil {
			return nil, err
		}
		c.Servers = append(c.Servers, s)
		if ids[i], err = s.Do(ctx, "CLUSTER", "MYID"); err != nil {
			return nil, err
		}
		if i < masters {
			if _, err := s.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", i*slots/masters, (i+1)*slots/masters-1); err != nil {
				return nil, err
			}
			if _, err := s.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1); err != nil {
				return nil, err
			}
		}
		host, port, _ := strings.Cut(s.Addr, ":")
		if _, err := c.Servers[0].Do(ctx, "CLUSTER", "MEET", host, port, peer); err != nil {
			return nil, err
		}
	}
	for _, s := range c.Servers {
		if err := s.says(ctx, fmt.Sprintf("cluster_known_nodes:%d", len(ids)), "CLUSTER", "INFO"); err != nil {
			return nil, err
		}
	}
	for i := range masters {
		replica := c.Servers[masters+i]
		if _, err := replica.Do(ctx, "CLUSTER", "REPLICATE", ids[i]); err != nil {
			return nil, err
		}
	}
	for i, s := range c.Servers {
		if err := s.says(ctx, "cluster_state:ok", "CLUSTER", "INFO"); err != nil {
			return nil, err
		}
		if i < masters {
			if err := s.says(ctx, "state=online", "INFO", "replication"); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// Addrs are the servers as a URL wants them, "host:port,host:port".
func (c *RedisCluster) Addrs() string { return addrs(c.Servers) }

// MasterOf is the server that has a key.
func (c *RedisCluster) MasterOf(ctx context.Context, key string) (*RedisServer, error) {
	var errs []error
	for _, s := range c.Servers {
		info, err := s.Do(ctx, "INFO", "replication")
		if err == nil && strings.Contains(fmt.Sprint(info), "role:master") {
			if _, err = s.Do(ctx, "EXISTS", key); err == nil {
				return s, nil
			}
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("fleet: no master has %q: %w", key, errors.Join(errs...))
}

func addrs(servers []*RedisServer) string {
	var all []string
	for _, s := range servers {
		all = append(all, s.Addr)
	}
	return strings.Join(all, ",")
}

// words is an address as Redis's configuration has it, "host port".
func words(addr string) string { return strings.Replace(addr, ":", " ", 1) }
