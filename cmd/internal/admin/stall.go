package admin

import (
	"io"
	"net/http"
	"time"
)

// maxStall is how long an import may bring nothing. It holds a place for which others wait.
const maxStall = 30 * time.Second

// steadily passes requests on whose bodies may take any time, but may not pause for longer than
// maxStall. Then a read fails with [os.ErrDeadlineExceeded].
func steadily(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = &steady{r.Body, http.NewResponseController(w)}
		next.ServeHTTP(w, r)
	})
}

type steady struct {
	io.ReadCloser
	conn *http.ResponseController
}

func (s *steady) Read(p []byte) (int, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(maxStall)); err != nil {
		return 0, err
	}
	n, err := s.ReadCloser.Read(p)
	if err == io.EOF { // the server reads on, to learn whether the client is still there
		if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
			return n, err
		}
	}
	return n, err
}
