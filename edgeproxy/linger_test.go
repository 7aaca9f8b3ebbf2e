package edgeproxy

import (
	"testing"

	"golang.org/x/net/http2"
)

// A client that is sending a large body reads why it is not wanted, and its stream is not reset
// before.
func TestAnAnswerArrivesWhileTheClientIsStillSending(t *testing.T) {
	t.Parallel()
	r := to(t, nil, nowhereAt(t, "http"))
	for path, want := range map[string]string{"/": "502", "/public/../admin": "400"} {
		// A loaded machine may keep this client from sending in time.
		for try := 1; ; try++ {
			f := r.raw()
			f.request(1, false, ":method", "POST", ":path", path)
			piece := make([]byte, 16<<10)
			check(t, f.WriteData(1, false, piece))
			if got := f.status(1); got != want {
				t.Fatalf("%s: %s, want %s", path, got, want)
			}
			check(t, f.WriteData(1, true, piece))
			end := f.await(func(fr http2.Frame) bool {
				_, reset := fr.(*http2.RSTStreamFrame)
				return fr.Header().StreamID == 1 && (reset || fr.Header().Flags.Has(http2.FlagDataEndStream))
			})
			if _, ok := end.(*http2.DataFrame); ok {
				break
			}
			if try == 5 {
				t.Fatalf("%s: the stream ends with %v", path, end)
			}
		}
	}
}

// Whoever goes on sending is not listened to for long.
func TestAClientThatNeverStopsSendingIsStopped(t *testing.T) {
	t.Parallel()
	r := to(t, nil, nowhereAt(t, "http"))
	f := r.raw()
	f.request(1, false, ":method", "POST")
	check(t, f.WriteData(1, false, []byte("x")))
	if got := f.status(1); got != "502" {
		t.Fatalf("%s", got)
	}
	f.await(func(fr http2.Frame) bool {
		_, reset := fr.(*http2.RSTStreamFrame)
		return reset && fr.Header().StreamID == 1
	})
}
