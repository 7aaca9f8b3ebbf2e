package double_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// look is what one chain of a node shows to clients.
type look struct {
	open   bool   // the port accepts connections
	serves bool   // a full handshake succeeds
	leaf   string // DER of the leaf
	key    string // the name of the key that made the ticket

	session *tls.ClientSessionState
}

// observe makes a full TLS 1.2 handshake. Without roots it takes any certificate.
func observe(ctx context.Context, addr, sni string, roots *x509.CertPool) (look, error) {
	cache := &one{}
	state, err := shake(ctx, addr, sni, roots, cache)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return look{}, nil
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return look{open: true}, nil
	}
	if err != nil {
		return look{}, err
	}
	l := look{open: true, serves: true, leaf: string(state.PeerCertificates[0].Raw), session: cache.got}
	if cache.got == nil {
		return l, fmt.Errorf("%s gave no ticket", sni)
	}
	ticket, _, err := cache.got.ResumptionState()
	if err != nil || len(ticket) < 16 {
		return l, fmt.Errorf("%s gave a ticket of %d bytes: %w", sni, len(ticket), err)
	}
	l.key = string(ticket[:16])
	return l, nil
}

// resumes reports whether a chain decrypts tickets of a key. The ticket of a session is encrypted
// anew with that key.
func resumes(
	ctx context.Context, addr, sni string, roots *x509.CertPool, session *tls.ClientSessionState, made, key []byte,
) (bool, error) {
	ticket, state, err := session.ResumptionState()
	if err != nil {
		return false, err
	}
	if ticket, err = reseal(ticket, made, key); err != nil {
		return false, err
	}
	b, err := state.Bytes()
	if err == nil { // NewResumptionState changes the state that it gets
		state, err = tls.ParseSessionState(b)
	}
	if err != nil {
		return false, err
	}
	offer, err := tls.NewResumptionState(ticket, state)
	if err != nil {
		return false, err
	}
	got, err := shake(ctx, addr, sni, roots, &one{offer: offer})
	return got.DidResume, err
}

func shake(ctx context.Context, addr, sni string, roots *x509.CertPool, cache *one) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{
		ServerName: sni, RootCAs: roots, InsecureSkipVerify: roots == nil,
		MaxVersion: tls.VersionTLS12, ClientSessionCache: cache,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), nil
}

// one is a session cache of one connection.
type one struct{ offer, got *tls.ClientSessionState }

func (o *one) Get(string) (*tls.ClientSessionState, bool) { return o.offer, o.offer != nil }

func (o *one) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		o.got = s
	}
}

// reseal decrypts a ticket (RFC 5077 section 4, AES-256-CBC and HMAC-SHA256) with the key that made
// it, and encrypts it with another. A key has 16 bytes of name, 32 of HMAC key and 32 of AES key.
func reseal(ticket, made, key []byte) ([]byte, error) {
	if len(ticket) < 16+aes.BlockSize+sha256.Size {
		return nil, fmt.Errorf("a ticket of %d bytes", len(ticket))
	}
	signed, sum := ticket[:len(ticket)-sha256.Size], ticket[len(ticket)-sha256.Size:]
	if !hmac.Equal(mac(made, signed), sum) {
		return nil, errors.New("the ticket was not made by that key")
	}
	iv, body := signed[16:16+aes.BlockSize], signed[16+aes.BlockSize:]
	old, err := aes.NewCipher(made[48:80])
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(body))
	cipher.NewCBCDecrypter(old, iv).CryptBlocks(plain, body)
	next, err := aes.NewCipher(key[48:80])
	if err != nil {
		return nil, err
	}
	out := append(append([]byte(nil), key[:16]...), iv...)
	sealed := make([]byte, len(plain))
	cipher.NewCBCEncrypter(next, iv).CryptBlocks(sealed, plain)
	out = append(out, sealed...)
	return append(out, mac(key, out)...), nil
}

func mac(key, b []byte) []byte {
	h := hmac.New(sha256.New, key[16:48])
	h.Write(b)
	return h.Sum(nil)
}

// digest is a short name of bytes.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%x", sum[:4])
}
