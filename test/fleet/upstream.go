package fleet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// Upstream is the server behind the fleet: "/" echoes the request's body, "/ws" echoes WebSocket
// messages, "/stream" writes a numbered line every 100 ms for as long as the client listens.
type Upstream struct {
	Addr string

	server *http.Server
	cancel context.CancelFunc
	done   chan struct{}
}

// NewUpstream starts one on a free port. The caller closes it.
func NewUpstream() (*Upstream, error) {
	addr, err := Addr()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("fleet: upstream: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", echo)
	mux.HandleFunc("/ws", echoMessages)
	mux.HandleFunc("/stream", stream)
	ctx, cancel := context.WithCancel(context.Background())
	u := &Upstream{
		Addr:   addr,
		server: &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return ctx }},
		cancel: cancel,
		done:   make(chan struct{}),
	}
	go func() {
		defer close(u.done)
		u.server.Serve(l) // ends with Close
	}()
	return u, nil
}

// Close cuts every connection.
func (u *Upstream) Close() error {
	u.cancel() // ends WebSockets, which the server no longer knows of
	err := u.server.Close()
	<-u.done
	return err
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	io.Copy(w, io.LimitReader(r.Body, 1<<20))
}

func echoMessages(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	for {
		kind, b, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		if err := conn.Write(r.Context(), kind, b); err != nil {
			return
		}
	}
}

func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(w, "line %d\n", i); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}
