package jetstream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Codes of the server (its errors.json).
const (
	accountExceeded    jetstream.ErrorCode = 10002
	tooFewServers      jetstream.ErrorCode = 10005
	serverExceeded     jetstream.ErrorCode = 10023
	tooManyStreams     jetstream.ErrorCode = 10027
	offForAccount      jetstream.ErrorCode = 10039
	noStorage          jetstream.ErrorCode = 10047
	messageTooBig      jetstream.ErrorCode = 10054
	oneServer          jetstream.ErrorCode = 10074
	off                jetstream.ErrorCode = 10076
	storeFailed        jetstream.ErrorCode = 10077
	limitDemanded      jetstream.ErrorCode = 10113
	streamLimitTooHigh jetstream.ErrorCode = 10122
)

// advise adds to an error of making or finding the bucket what to set.
func (s *Store) advise(err error) error {
	if advice := s.advice(err); advice != "" {
		return fmt.Errorf("%w: %s", err, advice)
	}
	return err
}

func (s *Store) advice(err error) string {
	if errors.Is(err, nats.ErrNoResponders) {
		return s.nobody()
	}
	var e *jetstream.APIError
	if !errors.As(err, &e) {
		return ""
	}
	switch e.ErrorCode {
	case limitDemanded:
		return "this account demands a limit: add max_bytes=64MB to the store's URL"
	case streamLimitTooHigh:
		return "max_bytes in the store's URL is above what the account lets one stream have " +
			"(disk_max_stream_bytes): lower it, or raise that"
	case accountExceeded, serverExceeded, noStorage:
		if s.maxBytes > 0 {
			return fmt.Sprintf("there is no room for %d copies of max_bytes=%s: lower max_bytes in the store's URL, "+
				"or raise the account's storage (max_file, disk_storage) and that of the servers (max_file)",
				s.replicas, sized(s.maxBytes))
		}
		return "the account or the server has no storage left: raise the account's (max_file, disk_storage) and that " +
			"of the servers (max_file), or remove other streams"
	case oneServer:
		return "this NATS server is no cluster: add replicas=1 to the store's URL, " +
			"or name the servers of a cluster of three"
	case tooFewServers:
		return fmt.Sprintf("fewer than %d servers have room for it: start the others, "+
			"or set replicas in the store's URL to how many there are (1, 3 or 5)", s.replicas)
	case tooManyStreams:
		return "the account has as many streams as it may (max_streams): raise that, or remove another stream"
	case offForAccount, off:
		return s.nobody()
	}
	return ""
}

// nobody says why no JetStream answers.
func (s *Store) nobody() string {
	if s.domain != "" {
		return fmt.Sprintf("no JetStream of the domain %s answers here: is domain in the store's URL what its servers "+
			"have (jetstream { domain }), are they connected, and is JetStream on for this account?", s.domain)
	}
	return "JetStream is off for this server or this account: turn it on (jetstream: enabled), " +
		"or add domain=NAME to the store's URL where the servers of another domain have it"
}

// refusals remembers what the server did not let this user do: it answers a request with silence.
type refusals struct {
	mu   sync.Mutex
	last error
	at   time.Time // at is when last was said.
}

func (r *refusals) note(err error) {
	if errors.Is(err, nats.ErrPermissionViolation) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last, r.at = err, time.Now()
	}
}

// take returns the last refusal, once. One from before any request that may be under way is
// forgotten: it is not why that request had no answer.
func (r *refusals) take() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.last
	r.last = nil
	if time.Since(r.at) > 2*patience {
		return nil
	}
	return err
}

// unanswered returns why a request that ended in err had no answer, if the server has said that the
// user may not make it.
func (s *Store) unanswered(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) {
		return nil
	}
	if refusal := s.refusals.take(); refusal != nil {
		return s.denied(refusal)
	}
	return nil
}

// denied says what to set where the server does not let the user do what err is about.
func (s *Store) denied(err error) error {
	text := strings.ToLower(err.Error())
	_, subject, _ := strings.Cut(err.Error(), `"`)
	subject, _, _ = strings.Cut(subject, `"`)
	switch {
	case strings.Contains(text, "subscription"):
		return fmt.Errorf("store: NATS does not let this user listen to %s: if it has another inbox, "+
			"set inbox_prefix in the store's URL (inbox_prefix=_INBOX_me for one who may subscribe to _INBOX_me.>): %w",
			subject, err)
	case strings.Contains(subject, ".STREAM.CREATE.") || strings.Contains(subject, ".STREAM.UPDATE."):
		return fmt.Errorf("store: NATS does not let this user make the bucket: allow it to publish to %s, "+
			"or have somebody type: %s: %w", subject, s.command(), err)
	}
	return fmt.Errorf("store: NATS does not let this user publish to %s: allow it %s and %s: %w",
		subject, s.api+">", s.prefix+">", err)
}

// full explains the refusal of a write by a limit. Nothing was written then.
func (s *Store) full(key string, err error) error {
	var e *jetstream.APIError
	if !errors.As(err, &e) {
		return nil
	}
	switch {
	case e.ErrorCode == messageTooBig:
		return fmt.Errorf("store: %s was not written, since stream %s takes no message of that size: type: "+
			"nats stream edit %s --max-msg-size=-1: %w", key, s.stream(), s.stream(), err)
	case e.ErrorCode == storeFailed && strings.Contains(e.Description, "maximum"):
		return fmt.Errorf("store: %s was not written, since stream %s is full: raise its limit, type: nats stream "+
			"edit %s --max-bytes=BYTES (and --max-msgs=-1), and raise max_bytes in the store's URL if it is there: %w",
			key, s.stream(), s.stream(), err)
	case e.ErrorCode == accountExceeded, e.ErrorCode == serverExceeded, e.ErrorCode == noStorage:
		return fmt.Errorf("store: %s was not written: %s: %w", key, s.advice(err), err)
	}
	return nil
}

// sized writes a size as the URL takes it.
func sized(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return fmt.Sprintf("%dMB", n>>20)
	}
	return fmt.Sprint(n)
}

// unconnectedAdvice says what to set where no connection was made; it begins with a colon.
func unconnectedAdvice(err error) string {
	var (
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &name):
		return ": name the server in the URL as its certificate does"
	case errors.As(err, &unknown):
		return ": give tls_ca=/path with the CA of the server's certificate"
	case errors.Is(err, nats.ErrSecureConnRequired):
		return ": begin the URL with tls"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return ": the server has no TLS: begin the URL with nats, and leave out tls_ca, tls_cert and tls_key"
	case errors.As(err, &op) && op.Op == "remote error":
		return ": the server wants a client certificate of a CA that it knows: give tls_cert=/path and tls_key=/path"
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return ": give what the server knows this user by: creds=/path, nkey=/path, user@ with password_file=/path, " +
			"or token_file=/path"
	case errors.Is(err, nats.ErrNoServers), errors.As(err, &op) && op.Op == "dial":
		return ": are its servers up, and reachable from here?"
	}
	return ""
}
