package jetstream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The least limits with which a stream is taken that somebody else has made.
const (
	leastBytes    = 8 << 20
	leastMessages = 10_000
	leastSize     = 1 << 20 // of one message: the max_payload that NATS has by default
)

// command makes a stream by hand as this package would.
func (s *Store) command() string {
	cfg := s.config(max(uint64(time.Now().UnixMicro()), s.seen.Load()+1))
	limit := ""
	if s.maxBytes > 0 {
		limit = fmt.Sprintf(" --max-bytes=%d", s.maxBytes)
	}
	return fmt.Sprintf("nats stream add %s --first-sequence=%d --subjects='%s' --storage=file --retention=limits "+
		"--replicas=%d --max-msgs-per-subject=1 --discard=new%s --allow-direct --deny-delete --deny-purge --defaults",
		cfg.Name, cfg.FirstSeq, cfg.Subjects[0], cfg.Replicas, limit)
}

// refuseWhenFull has a stream refuse what is beyond a limit, and returns its configuration. Earlier
// versions made streams that drop the oldest messages then. They had no limit, but may get one.
func (s *Store) refuseWhenFull(ctx context.Context, is jetstream.StreamConfig) jetstream.StreamConfig {
	mended := is
	mended.Discard = jetstream.DiscardNew
	if _, err := s.js.UpdateStream(ctx, mended); err != nil {
		if refusal := s.refusals.take(); refusal != nil {
			err = refusal
		}
		s.log.Warn("the store's stream would drop records if it had a limit, and was not changed", "stream", is.Name,
			"error", err, "next", "nats stream edit "+is.Name+" --discard=new")
		return is
	}
	return mended
}

// mind logs once that somebody has set a limit of the stream beyond which records are dropped.
func (s *Store) mind(is jetstream.StreamConfig) {
	drops := is.MaxAge > 0 || (is.MaxBytes > 0 || is.MaxMsgs > 0) && is.Discard != jetstream.DiscardNew
	if was := s.drops.Swap(drops); drops && !was {
		s.log.Error("the store's stream drops records, since its limits were changed", "stream", is.Name,
			"next", "nats stream edit "+is.Name+" --max-age=0 --discard=new")
	}
}

// enough returns an error if records would not last in a stream, or find no room. It says what to
// set.
func (s *Store) enough(is jetstream.StreamConfig) error {
	var lacks, edits, remove []string
	lack := func(edit, format string, args ...any) {
		lacks = append(lacks, fmt.Sprintf(format, args...))
		if edit == "" {
			remove = append(remove, is.Name)
		} else {
			edits = append(edits, edit)
		}
	}
	subject := s.prefix + ">"
	if !slices.ContainsFunc(is.Subjects, func(has string) bool { return covers(has, subject) }) {
		lack("--subjects='"+subject+"'", "subjects %s are not all of %s", strings.Join(is.Subjects, " "), subject)
	}
	if is.MaxMsgsPerSubject != 1 {
		lack("--max-msgs-per-subject=1", "max-msgs-per-subject is %d", is.MaxMsgsPerSubject)
	}
	if !is.AllowDirect {
		lack("--allow-direct", "allow-direct is off")
	}
	if is.MaxAge != 0 {
		lack("--max-age=0", "records are dropped after %v (max-age)", is.MaxAge)
	}
	limited := is.MaxBytes > 0 || is.MaxMsgs > 0
	if limited && is.Discard != jetstream.DiscardNew {
		lack("--discard=new", "records are dropped when it is full")
	}
	if is.DiscardNewPerSubject {
		lack("--no-discard-per-subject", "no record can be changed (discard-per-subject)")
	}
	least, from := max(s.maxBytes, leastBytes), ""
	if s.maxBytes > 0 {
		least, from = s.maxBytes, ", and max_bytes in the store's URL is "+sized(s.maxBytes)
	}
	if is.MaxBytes > 0 && is.MaxBytes < least {
		lack(fmt.Sprintf("--max-bytes=%d", least), "max-bytes is %s%s", sized(is.MaxBytes), from)
	}
	if is.MaxMsgs > 0 && is.MaxMsgs < leastMessages {
		lack("--max-msgs=-1", "max-msgs is %d", is.MaxMsgs)
	}
	if is.MaxMsgSize > 0 && is.MaxMsgSize < leastSize {
		lack("--max-msg-size=-1", "max-msg-size is %d", is.MaxMsgSize)
	}
	if is.Replicas < s.replicas {
		lack(fmt.Sprintf("--replicas=%d", s.replicas),
			"it keeps %d copies, not %d (or set replicas=%d in the store's URL)", is.Replicas, s.replicas, is.Replicas)
	}
	if is.Storage != jetstream.FileStorage {
		lack("", "it is kept in memory")
	}
	if is.Retention != jetstream.LimitsPolicy {
		lack("", "records that were read are dropped (retention %s)", is.Retention)
	}
	if is.Sealed || is.NoAck {
		lack("", "it takes no writes, or does not acknowledge them (sealed, no-ack)")
	}
	switch {
	case len(remove) > 0:
		return fmt.Errorf("%w: %s: %s: that cannot be changed: remove it, or set another bucket in the store's URL",
			errForeign, is.Name, strings.Join(lacks, ", "))
	case len(lacks) > 0:
		return fmt.Errorf("%w: %s: %s: type: nats stream edit %s %s",
			errForeign, is.Name, strings.Join(lacks, ", "), is.Name, strings.Join(edits, " "))
	}
	return nil
}

// covers reports whether the subject has, with its wildcards, includes all of want. Want ends in >.
func covers(has, want string) bool {
	h, w := strings.Split(has, "."), strings.Split(want, ".")
	for i, token := range h {
		switch {
		case token == ">":
			return i < len(w)
		case i >= len(w) || w[i] == ">" || token != "*" && token != w[i]:
			return false
		}
	}
	return len(h) == len(w)
}
