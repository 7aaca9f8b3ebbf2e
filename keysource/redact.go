package keysource

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Somebody will print these types. Every fmt verb, slog, and everything built on
// encoding.TextMarshaler (JSON, YAML, XML) gets a harmless name or an error. A ring gets the error
// from its keys. fmt cannot call these methods on an unexported field of a struct. So no struct
// that is printed keeps a key in one.

// errMarshal makes json.Marshal of a key fail. Otherwise the key would leak, or would be lost
// unseen. Code that stores keys writes the bytes into a record of its own, which is sealed.
var errMarshal = errors.New("keysource: a key does not marshal itself: put its bytes into a sealed record")

// text keeps the private key out of every message.
func (c Certificate) text() string { return "certificate " + c.Version() }

// Format writes the text for every verb.
func (c Certificate) Format(w fmt.State, _ rune) { io.WriteString(w, c.text()) }

// LogValue keeps the private key out of every log.
func (c Certificate) LogValue() slog.Value {
	return slog.GroupValue(slog.String("version", c.Version()), slog.Time("not_after", c.NotAfter))
}

// MarshalText always fails.
func (Certificate) MarshalText() ([]byte, error) { return nil, errMarshal }

// text keeps the private key out of every message.
func (p PEM) text() string {
	return fmt.Sprintf("a chain of %d bytes and a key, as PEM", len(p.Chain))
}

// Format writes the text for every verb.
func (p PEM) Format(w fmt.State, _ rune) { io.WriteString(w, p.text()) }

// LogValue keeps the private key out of every log.
func (p PEM) LogValue() slog.Value { return slog.StringValue(p.text()) }

// MarshalText always fails.
func (PEM) MarshalText() ([]byte, error) { return nil, errMarshal }

// text keeps the private key out of every message.
func (d DER) text() string { return fmt.Sprintf("%d certificates and a key, as DER", len(d.Chain)) }

// Format writes the text for every verb.
func (d DER) Format(w fmt.State, _ rune) { io.WriteString(w, d.text()) }

// LogValue keeps the private key out of every log.
func (d DER) LogValue() slog.Value { return slog.StringValue(d.text()) }

// MarshalText always fails.
func (DER) MarshalText() ([]byte, error) { return nil, errMarshal }

// text keeps the key out of every message.
func (k TicketKey) text() string { return "ticket key " + k.ID() }

// Format writes the text for every verb.
func (k TicketKey) Format(w fmt.State, _ rune) { io.WriteString(w, k.text()) }

// LogValue keeps the key out of every log.
func (k TicketKey) LogValue() slog.Value { return slog.StringValue(k.text()) }

// MarshalText always fails.
func (TicketKey) MarshalText() ([]byte, error) { return nil, errMarshal }

// text names the ring by its version and its keys by their IDs.
func (r Ring) text() string {
	ids := make([]string, len(r.Keys))
	for i, k := range r.Keys {
		ids[i] = k.ID()
	}
	return fmt.Sprintf("ring %s [%s]", r.Version(), strings.Join(ids, " "))
}

// Format writes the text for every verb.
func (r Ring) Format(w fmt.State, _ rune) { io.WriteString(w, r.text()) }

// LogValue keeps the keys out of every log.
func (r Ring) LogValue() slog.Value { return slog.StringValue(r.text()) }
