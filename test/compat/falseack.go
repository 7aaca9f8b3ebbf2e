package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// tryFalseACK gives an Envoy a good certificate, then one that it refuses, then the same bytes
// again. The ACK is false if the third answer is one, and the good certificate is served on.
func tryFalseACK(parent context.Context, s *stage, r *row) (cell, error) {
	ctx, cancel := context.WithTimeout(parent, time.Minute)
	defer cancel()
	good, err := s.ca.Issue(fleet.Leaf{Names: []string{eagerHost}})
	if err != nil {
		return cell{}, err
	}
	bad, err := s.ca.Issue(fleet.Leaf{Names: []string{eagerHost}, Usage: x509.KeyUsageKeyAgreement})
	if err != nil {
		return cell{}, err
	}
	server, err := newScripted()
	if err != nil {
		return cell{}, err
	}
	defer server.close()
	n, err := s.envoy(ctx, r.binary, "false-ack", server.addr, "--host", eagerHost)
	if err != nil {
		return cell{}, err
	}
	defer n.Kill()
	var stream delta
	select {
	case stream = <-server.subscribed:
	case <-ctx.Done():
		return cell{}, ctx.Err()
	}
	if words, err := server.give(ctx, stream, certificate(good)); err != nil || words != "" {
		return no("a good certificate was refused: %s", words), err
	}
	if words, err := n.serves(ctx); err != nil || words != "" {
		return no("%s", words), err
	}
	if err := fleet.Until(ctx, func() error { return s.serving(ctx, n, good) }); err != nil {
		return cell{}, err
	}
	first, err := server.give(ctx, stream, certificate(bad))
	if err != nil {
		return cell{}, err
	}
	if first == "" {
		return no("it takes a certificate whose keyUsage is keyAgreement"), nil
	}
	second, err := server.give(ctx, stream, certificate(bad))
	if err != nil {
		return cell{}, err
	}
	if second != "" {
		return no("refused each time: %s", second), nil
	}
	if err := s.serving(ctx, n, good); err != nil {
		return no("after the ACK: %v", err), nil
	}
	return cell{OK: true, Says: "yes", Why: "first “" + first + "”, then an ACK for the same bytes; " +
		"the certificate before it is served on"}, nil
}

// serving returns nil if the Envoy serves that very certificate.
func (s *stage) serving(ctx context.Context, n *node, want fleet.Pair) error {
	d := tls.Dialer{Config: &tls.Config{ServerName: eagerHost, RootCAs: s.ca.Pool()}}
	conn, err := d.DialContext(ctx, "tcp", n.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	block, _ := pem.Decode(want.Chain)
	if got := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]; !bytes.Equal(got.Raw, block.Bytes) {
		return errors.New("another certificate is served")
	}
	return nil
}
