package edgeproxy

import (
	"io"
	"time"
)

const (
	// lingerFor is how long a client that is still sending is listened to after an answer.
	lingerFor = time.Second
	// lingerBytes is how much is read of it. It is what net/http reads over HTTP/1.1.
	lingerBytes = 256 << 10
)

// linger is called after an answer that no upstream gave. Over HTTP/2 net/http resets a stream that
// goes on after its answer. Some clients then do not read the answer, such as curl 7.88. So the
// answer goes out first, and what the client sends is read for a moment.
func (w *response) linger() {
	if w.http1 || w.body == nil || w.body.ended() || w.body.failed() != nil || w.control.Flush() != nil {
		return
	}
	w.control.SetReadDeadline(time.Now().Add(lingerFor))
	io.CopyN(io.Discard, w.body, lingerBytes)
}
