package config

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
)

// What the configuration lets through is a store that can be opened, and the other way round:
// whether opening goes as far as the server shows it.
func TestTheStoresOfTheConfigurationAreThoseThatOpen(t *testing.T) {
	schemes := map[string]bool{
		"nats": true, "tls": true, "redis": true, "rediss": true, "redis+sentinel": true, "rediss+sentinel": true,
		"redis+cluster": true, "rediss+cluster": true,
		"ws": false, "nats+tls": false, "redis+unix": false, "rediss+ring": false, "redisss": false,
		"redis-sentinel": false, "valkey": false, "http": false, "file": false, "": false,
	}
	for _, s := range storeURLs {
		if !schemes[strings.TrimSuffix(s, "://")] {
			t.Errorf("%s is let through, and not in the table", s)
		}
	}
	for scheme, want := range schemes {
		t.Run(scheme, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var asked atomic.Bool
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					asked.Store(true)
					c.Close()
				}
			}()
			where := scheme + "://" + l.Addr().String()
			if strings.HasSuffix(scheme, "sentinel") {
				where += "/mymaster"
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			s, err := stores.Open(ctx, where)
			if err == nil {
				s.Close()
				t.Error("it was opened, with nobody there")
			}
			l.Close()
			<-done
			_, refused := load(t, "", nil, "--store", where)
			if asked.Load() != want || (refused == nil) != want {
				t.Errorf("%s: a server was asked: %v (%v); the configuration: %v; want both: %v",
					where, asked.Load(), err, refused, want)
			}
			if want != slices.Contains(storeURLs, scheme+"://") {
				t.Errorf("%s:// among %v", scheme, storeURLs)
			}
		})
	}
}
