package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
)

// bareConfig is of the role bare.
type bareConfig struct {
	Addr       string
	Chain, Key []byte // PEM
}

// serveBare is the role bare: net/http with a certificate, whose handler answers at once. A proxy on net/http cannot cost less.
func serveBare(arg string) error {
	var c bareConfig
	if err := roleConfig(arg, &c); err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(c.Chain, c.Key)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	s := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(smallBody)) }),
	}
	return s.ServeTLS(ln, "", "")
}

const smallBody = "What an upstream says: a hundred bytes, more or less, as a small piece of JSON would be, and then the end\n"

// serveUpstream is the role upstream: it answers each request's header, and reads no more of HTTP/1.1, so that proxies are what is measured.
func serveUpstream(arg string) error {
	var addr string
	if err := roleConfig(arg, &addr); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nDate: Mon, 02 Nov 2026 10:00:00 GMT\r\n\r\n%s", len(smallBody), smallBody)
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for r := bufio.NewReader(conn); ; {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return // io.EOF mostly; a header line longer than the buffer does not occur
				}
				if len(line) > 2 {
					continue
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}
