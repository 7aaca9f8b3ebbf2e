package traffic

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
)

// Answer is what became of a ClientHello.
type Answer int

const (
	Unanswered Answer = iota
	Taken             // with a ServerHello: there is a certificate
	Closed            // with an alert, or without a word
)

// Knocker sends ClientHellos and goes away when something comes back, so that a hundred thousand
// cost little. The name may be anything of 1 to 255 bytes, not only what crypto/tls would send. The
// zero value is ready; Knock is safe for concurrent use.
type Knocker struct {
	hellos sync.Map // by the length of the name
}

// Knock connects to addr from an address of this machine ("": any). The error says why there was no
// answer.
func (k *Knocker) Knock(ctx context.Context, addr, from, sni string) (Answer, error) {
	hello, err := k.hello(sni)
	if err != nil {
		return Unanswered, err
	}
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return Unanswered, err
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil { // no port is kept waiting
		return Unanswered, err
	}
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return Unanswered, err
		}
	}
	if _, err := conn.Write(hello); err != nil {
		return Unanswered, err
	}
	var record [1]byte
	_, err = io.ReadFull(conn, record[:])
	const handshake, alert = 22, 21 // RFC 8446 §5.1
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Unanswered, fmt.Errorf("%.40q: no answer to a ClientHello: %w", sni, err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), err == nil && record[0] == alert:
		return Closed, nil
	case err == nil && record[0] == handshake:
		return Taken, nil
	}
	return Unanswered, fmt.Errorf("%.40q: answered with a record of type %d: %w", sni, record[0], err)
}

// hello is a ClientHello as crypto/tls makes it, with the name put into it.
func (k *Knocker) hello(sni string) ([]byte, error) {
	if len(sni) == 0 || len(sni) > 255 {
		return nil, fmt.Errorf("traffic: a name of %d bytes", len(sni))
	}
	place := strings.Repeat("x", len(sni))
	have, ok := k.hellos.Load(len(sni))
	if !ok {
		var c capture
		// ends with what it reads
		_ = tls.Client(&c, &tls.Config{
			ServerName: place, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12,
			CurvePreferences: []tls.CurveID{tls.X25519},
		}).Handshake()
		if !bytes.Contains(c.sent, []byte(place)) {
			return nil, errors.New("traffic: crypto/tls sent no name")
		}
		have, _ = k.hellos.LoadOrStore(len(sni), c.sent)
	}
	return bytes.Replace(have.([]byte), []byte(place), []byte(sni), 1), nil
}

// capture keeps what is sent and answers nothing.
type capture struct {
	net.Conn
	sent []byte
}

func (c *capture) Write(b []byte) (int, error) { c.sent = append(c.sent, b...); return len(b), nil }
func (*capture) Read([]byte) (int, error)      { return 0, io.EOF }
func (*capture) Close() error                  { return nil }
