package server

import (
	"bytes"
	"time"

	"github.com/lockstep-tls/lockstep/xds"
)

// A node that keeps what it refuses (see [xds.Varying]) is offered a content in bytes that differ
// from those delivered last. Only then does its ACK say that it uses them. If it is not known what
// was delivered last, two encodings are sent one after the other. The answer to the second counts,
// since the first was delivered between. This is done for every name in the first request of a
// stream. The exception is a name for which the node claims a version that is believed.

// encoding returns r in the encoding in which it is to be sent for e, and whether an ACK of it
// counts.
func (e *entry) encoding(r *xds.Resource, content string) (_ *xds.Resource, counts bool) {
	switch {
	case e.bodyUnknown:
		return xds.Encoded(e.sub.vary, r, 2, false), false
	case e.accepted != content && e.body != nil && (e.body == r.Body || bytes.Equal(e.body.Value, r.Body.GetValue())):
		return xds.Encoded(e.sub.vary, r, 1, true), true
	}
	return r, true
}

// forgetBody notes that it is not known what was delivered last for e.
func (e *entry) forgetBody() {
	e.bodyUnknown, e.firstSent, e.secondDue = e.sub.vary != nil, false, false
}

// renew offers again, in other bytes, what the node holds of e. It is in doubt whether the node
// uses it.
func (m *machine) renew(e *entry) {
	switch ref := e.refused; {
	case e.gone || e.removed || e.sent == "":
		return
	case ref != nil && ref.stage == refusing:
		m.unpark(e)
	case ref != nil || e.sub.vary == nil:
		return // a remedy was sent or taken; or there is no doubt
	}
	if e.sub.vary != nil {
		e.inDoubt = e.inDoubt || e.accepted != ""
		if e.accepted = ""; e.body == nil {
			e.forgetBody()
		}
	}
	e.again, e.alone = true, true
	m.look(e)
}

// Renew makes streams offer again what they were sent, each name alone and in other bytes. match
// chooses the streams, and name the names. A name counts as sent until the node has accepted that.
// Names that the node refused are offered again at once. Renew returns how many names it chose.
func (s *Server) Renew(match func(xds.Node) bool, typeURL string, name func(string) bool) (n int) {
	for _, st := range s.all() {
		// An error has ended the stream already.
		_ = st.do(func(now time.Time) ([]*response, error) {
			if st.m.node.ID == "" || !match(st.m.node) {
				return nil, nil
			}
			for _, sub := range st.m.subs {
				if sub.typeURL != typeURL {
					continue
				}
				for _, e := range sub.names {
					if name(e.name) {
						st.m.renew(e)
						n++
					}
				}
			}
			return st.m.flush(now), nil
		})
	}
	return n
}
