package traffic

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Open holds a WebSocket and a streaming response of each client kind open on each node; it counts
// those that are cut.
type Open struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	cut   map[uint16][]string // by TLS version
	beats int
}

// Hold opens them on each node (name: address) and returns once all carry data.
func Hold(parent context.Context, nodes map[string]string, host string, roots *x509.CertPool) (*Open, error) {
	ctx, cancel := context.WithCancel(parent)
	o := &Open{cancel: cancel, cut: map[uint16][]string{}}
	for name, addr := range nodes {
		for version := range Kinds {
			client := &http.Client{Transport: &http.Transport{
				TLSClientConfig: &tls.Config{
					ServerName: host, RootCAs: roots, MinVersion: version, MaxVersion: version,
				},
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", addr)
				},
			}}
			if err := errors.Join(o.socket(ctx, version, name, host, client),
				o.stream(ctx, version, name, host, client)); err != nil {
				o.Close()
				return nil, err
			}
		}
	}
	return o, nil
}

func (o *Open) socket(ctx context.Context, version uint16, node, host string, client *http.Client) error {
	ws, _, err := websocket.Dial(ctx, "wss://"+host+"/ws", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		return fmt.Errorf("traffic: WebSocket on %s: %w", node, err)
	}
	beat := func() error {
		if err := ws.Write(ctx, websocket.MessageText, []byte("beat")); err != nil {
			return err
		}
		_, _, err := ws.Read(ctx)
		return err
	}
	if err := beat(); err != nil {
		return fmt.Errorf("traffic: WebSocket on %s: %w", node, err)
	}
	o.keep(ctx, version, "WebSocket on "+node, func() error {
		time.Sleep(200 * time.Millisecond)
		return beat()
	}, func() { ws.CloseNow() })
	return nil
}

func (o *Open) stream(ctx context.Context, version uint16, node, host string, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/stream", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("traffic: stream on %s: %w", node, err)
	}
	lines := bufio.NewReader(resp.Body)
	next := func() error {
		_, err := lines.ReadString('\n')
		return err
	}
	if err := next(); err != nil {
		return fmt.Errorf("traffic: stream on %s: %w", node, err)
	}
	o.keep(ctx, version, "stream on "+node, next, func() { resp.Body.Close() })
	return nil
}

// keep calls beat until ctx ends; an error before that is a cut.
func (o *Open) keep(ctx context.Context, version uint16, what string, beat func() error, end func()) {
	o.wg.Go(func() {
		defer end()
		for {
			err := beat()
			if ctx.Err() != nil {
				return
			}
			o.mu.Lock()
			if err != nil {
				o.cut[version] = append(o.cut[version], fmt.Sprintf("%s %s: %v", Kinds[version], what, err))
			}
			o.beats++
			o.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
}

// Cut tells which were cut, by TLS version, and how many messages and lines came through.
func (o *Open) Cut() (cut map[uint16][]string, beats int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.cut), o.beats
}

// Close ends all.
func (o *Open) Close() {
	o.cancel()
	o.wg.Wait()
}
