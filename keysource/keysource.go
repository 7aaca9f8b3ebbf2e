package keysource

import (
	"context"
	"errors"
)

// Name is the resource name under which a node asks for a certificate. It is a normalised server
// name ([ServerName]), or that of the second certificate of one ([Name.Second]).
type Name string

// Source finds certificates.
//
// Certificate returns an error that wraps [ErrNotExist] only if there is certainly no certificate
// of that exact name. Every other error means "could not look": the caller keeps what it has and
// asks again. Implementations are safe for concurrent use, and may block until ctx ends.
type Source interface {
	Certificate(ctx context.Context, n Name) (Certificate, error)
}

// These are the errors that callers tell apart. The text around them names the thing and the next
// step.
var (
	// ErrNotExist means that there is certainly no such certificate or scope.
	ErrNotExist = errors.New("does not exist")
	// ErrBadName means that it is not a server name under which a certificate can be served.
	ErrBadName = errors.New("not a server name")
	// ErrBadCertificate means a chain or private key that no node should be sent.
	ErrBadCertificate = errors.New("bad certificate")
	// ErrBadTicketKey means a session ticket key, or a ring of them, that no node should be sent.
	ErrBadTicketKey = errors.New("bad session ticket key")
)

// Sources are searched one after the other. The first one that has the name wins.
type Sources []Source

// Find returns a certificate and the index of the source that has it. A source that could not look
// ends the search, since a later source must not answer in its place. Errors are those of
// [Source].
func (s Sources) Find(ctx context.Context, n Name) (c Certificate, from int, err error) {
	for i, src := range s {
		if c, err := src.Certificate(ctx, n); err == nil || !errors.Is(err, ErrNotExist) {
			return c, i, err
		}
	}
	return Certificate{}, 0, ErrNotExist
}
