package edge

import (
	"log/slog"
	"strings"
	"time"
)

// sayAgain is how long the same reason is not told again while lockstepd cannot be reached.
const sayAgain = time.Minute

// link tells of the connection to the control plane. One goroutine calls its methods.
type link struct {
	log  *slog.Logger
	xds  string
	tls  bool // tls says that this edge speaks TLS to it.
	down bool
	why  string    // why is what was told last.
	at   time.Time // at is when it was told.
	more int       // more counts the failures since then.
}

// lost takes why there is no stream any more, or again.
func (l *link) lost(err error) {
	why, do := l.diagnose(err.Error())
	if l.down && why == l.why && time.Since(l.at) < sayAgain {
		l.more++
		return
	}
	l.log.Warn("no connection to lockstepd, trying again: "+why, "xds", l.xds, "do", do, "err", err,
		"same_before", l.more)
	l.down, l.why, l.at, l.more = true, why, time.Now(), 0
}

// reached takes that lockstepd has answered on a new stream.
func (l *link) reached() {
	if l.down {
		l.log.Info("lockstepd answers again", "xds", l.xds)
	}
	l.down = false
}

// causes are parts of the errors of gRPC, crypto/tls and the kernel, with what they mean and what
// to do. The first one that is found counts.
var causes = []struct{ text, why, do string }{
	{"permission denied", "this user may not open its socket",
		"xds_socket_group or xds_socket_mode of lockstepd lets this user in"},
	{"connection refused", "nothing listens there", "start lockstepd, or correct xds"},
	{"no such file", "nothing listens there", "start lockstepd, or correct xds"},
	{"signed by unknown authority", "its certificate is not of the CA that is trusted here",
		"put the CA of lockstepd's certificate into xds_ca"},
	{"certificate is not valid for", "its certificate has another name", otherName},
	{"certificate is valid for", "its certificate has another name", otherName},
	{"doesn't contain any", "its certificate has another name", otherName},
	{"does not carry", "its certificate has another name", otherName},
	{"certificate has expired", "its certificate has expired, or is not valid yet", "renew lockstepd's certificate"},
	{"remote error: tls:", "it does not believe the certificate of this edge",
		"renew the certificate in xds_cert, or have lockstepd trust its CA (xds_client_ca)"},
	{"does not look like a TLS handshake", plaintextThere, speakPlaintext},
	{"PermissionDenied", "it refuses this node", "its log says why; mostly the policy does not allow this node's id"},
}

const (
	otherName      = "correct the address in xds, or name the one that the certificate carries in xds_name"
	plaintextThere = "it speaks plaintext there, and this edge speaks TLS"
	speakPlaintext = "leave out xds_cert, xds_key and xds_ca, or give lockstepd a certificate (its xds_cert)"
)

func (l *link) diagnose(text string) (why, do string) {
	for _, c := range causes {
		if strings.Contains(text, c.text) {
			return c.why, c.do
		}
	}
	ended := strings.Contains(text, "EOF") || strings.Contains(text, "reset by peer") ||
		strings.Contains(text, "broken pipe")
	switch {
	case l.tls && ended && strings.Contains(text, "handshake failed"):
		return "it ended the handshake: it may speak plaintext there, and this edge speaks TLS", speakPlaintext
	case !l.tls && strings.Contains(text, "server preface"):
		return "it ended the connection at once: it may speak TLS there, and this edge speaks plaintext",
			"set xds_cert, xds_key and xds_ca"
	}
	return "the stream has ended", "its log may say why, if this goes on"
}
