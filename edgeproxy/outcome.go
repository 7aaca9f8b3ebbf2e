package edgeproxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"golang.org/x/net/http2"
)

// outcome is why a request has no response.
type outcome int

const (
	// malformed means that the response is none that net/http takes, or the request is none.
	malformed outcome = iota
	// silent means that the endpoint took too long.
	silent
	// lost means that the connection or the stream ended. The endpoint may have done what it was
	// asked.
	lost
	// broken means the same, since what came over the connection is not HTTP/2.
	broken
	// unsent means that the endpoint has not seen the request: it was not written, or the endpoint
	// said with GOAWAY that it takes no more over this connection (RFC 9113, section 6.8).
	unsent
	// refused means that the endpoint has not looked at the request (REFUSED_STREAM, RFC 9113,
	// section 8.7).
	refused
)

// outcomeOf tells what an error of net/http means, which is seldom one that can be named. The tests
// of this package show that the texts are still those of net/http.
func outcomeOf(err error) outcome {
	var stream http2.StreamError
	var late net.Error
	switch text := err.Error(); {
	case errors.As(err, &stream):
		switch {
		case stream.Code == http2.ErrCodeRefusedStream:
			return refused
		case strings.Contains(text, "received from peer"):
			return lost
		}
		return malformed
	case strings.Contains(text, "http2: client conn not usable"),
		strings.Contains(text, "http2: client conn could not be established"),
		strings.Contains(text, "http2: Transport received Server's graceful shutdown GOAWAY"),
		strings.Contains(text, "http2: Transport received GOAWAY from server ErrCode"):
		return unsent
	case errors.As(err, &late) && late.Timeout():
		return silent
	case strings.Contains(text, "connection error: "):
		return broken
	case errors.As(err, &late), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, errNotWanted),
		strings.Contains(text, "http: server closed idle connection"),
		strings.Contains(text, "http: persistConn.readLoop exiting"),
		strings.Contains(text, "http2: client connection lost"),
		strings.Contains(text, "http2: server sent GOAWAY and closed the connection"):
		return lost
	}
	return malformed
}

// idempotent reports whether a request may be made twice (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}
