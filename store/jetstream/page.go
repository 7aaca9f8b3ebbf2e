package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
)

// A page ends after so many messages, or after the one with which it exceeds so many bytes.
const (
	pageMessages = 1024
	pageBytes    = 1 << 20
)

// What the server says of a message or of the end of a page (ADR-31, direct batch get).
const (
	statusHeader   = "Status"
	endOfPage      = "204"
	nothingThere   = "404"
	nobodyAnswered = "503"
)

var errGap = errors.New("store: a message of a page did not arrive")

// page visits the messages whose subjects match filter, from a sequence on, as some replica of the
// stream has them, in order and without a gap, and says whether there are more. After an error, all
// visited so far hold.
func (s *Store) page(ctx context.Context, filter string, from uint64, visit func(message)) (more bool, err error) {
	body, err := json.Marshal(query{Next: filter, Seq: from, Batch: pageMessages, MaxBytes: pageBytes})
	if err != nil {
		return false, err
	}
	inbox := s.conn.NewInbox()
	sub, err := s.conn.SubscribeSync(inbox)
	if err != nil {
		return false, err
	}
	// it fails only where the connection is gone, and the subscription with it
	defer sub.Unsubscribe()
	if err := s.conn.PublishRequest(s.api+"DIRECT.GET."+s.stream(), inbox, body); err != nil {
		return false, err
	}
	var last uint64 // visited
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return false, err
		}
		switch status := m.Header.Get(statusHeader); status {
		case "":
		case nothingThere:
			return false, nil
		case endOfPage:
			if number(m, nats.JSLastSequence) != last {
				return false, errGap
			}
			return number(m, "Nats-Num-Pending") > 0, nil
		case nobodyAnswered:
			return false, nats.ErrNoResponders
		default:
			return false, fmt.Errorf("store: NATS to a read of %s: %s %s", filter, status, m.Header.Get("Description"))
		}
		if number(m, nats.JSLastSequence) != last {
			return false, errGap
		}
		last = number(m, nats.JSSequence)
		if last < from {
			return false, fmt.Errorf("store: NATS gave message %d to a read from %d on", last, from)
		}
		visit(message{subject: m.Header.Get(nats.JSSubject), seq: last, deleted: isDelete(m.Header)})
	}
}

// number reads a header; 0 where there is none.
func number(m *nats.Msg, header string) uint64 {
	n, _ := strconv.ParseUint(m.Header.Get(header), 10, 64)
	return n
}
