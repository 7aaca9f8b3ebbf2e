package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// Item is one of many things that a line stands for: the name of a certificate, and its version,
// which is empty if the certificate is removed.
type Item struct{ Name, Key string }

// itemsPrefix comes behind audit/key in byte order. So a restore knows by then to which log the
// names belong.
const itemsPrefix = prefix + "names/"

// maxItems bounds the names of one line, in bytes. They are one record of the store, of which
// NATS takes 1 MiB.
const maxItems = 512 << 10

// AppendMany writes down many changes of a kind that one actor makes at one moment. A line for
// each would cost a write of audit/head for every 32. So the items go first, into a record of
// their own that is never written again, audit/names/<digest>. It has a line for each, name and
// key with a space between. The line of the log has e with their number (Times), the first and
// last of their names (Name) and the digest (Items). So [Log.Verify] finds out if the record was
// changed or is gone.
//
// If the items take more than half a MiB, there are several such records and lines, written
// together. 16 MiB are too many. The head is that of the last line. As with [Log.Append], after
// an error nothing of it may be done.
func (l *Log) AppendMany(ctx context.Context, e Entry, items []Item) (Head, error) {
	var entries []Entry
	for len(items) > 0 {
		text, n := itemsText(items)
		digest := digestOf(text)
		_, err := giveUp(ctx, func(ctx context.Context) (uint64, error) {
			return l.cfg.Records.Swap(ctx, itemsPrefix+digest, 0, text)
		})
		if err != nil && !errors.Is(err, ErrConflict) { // a conflict: the record is there already
			l.mu.Lock()
			l.counts.Refused++
			l.mu.Unlock()
			return Head{}, fmt.Errorf("%w: the names of %d changes: %w", ErrUnwritten, n, err)
		}
		next := e
		next.Times, next.Items = n, digest
		if next.Name = items[0].Name; n > 1 {
			next.Name += " … " + items[n-1].Name
		}
		entries, items = append(entries, next), items[n:]
	}
	return l.Append(ctx, entries...)
}

// itemsText is the record of the first n items, as many as fit.
func itemsText(items []Item) (text []byte, n int) {
	var b bytes.Buffer
	for _, it := range items {
		end := b.Len()
		if fmt.Fprintf(&b, "%s %s\n", clip(it.Name, maxWords), clip(it.Key, maxWords)); b.Len() > maxItems {
			return b.Bytes()[:end], n
		}
		n++
	}
	return b.Bytes(), n
}

// Items returns the items with the digest of a line. The error wraps [ErrNotExist] if they are
// gone, and says so if they were changed.
func (l *Log) Items(ctx context.Context, digest string) ([]Item, error) {
	text, err := l.items(ctx, digest)
	if err != nil {
		return nil, err
	}
	var out []Item
	for _, line := range split(text) {
		name, key, _ := bytes.Cut(line, []byte(" "))
		out = append(out, Item{string(name), string(key)})
	}
	return out, nil
}

func (l *Log) items(ctx context.Context, digest string) ([]byte, error) {
	text, err := l.text(ctx, itemsPrefix+digest)
	if err == nil && digestOf(text) != digest {
		err = errChanged
	}
	if err != nil {
		return nil, fmt.Errorf("audit: the names in %s%s: %w", itemsPrefix, digest, err)
	}
	return text, nil
}

// checkItems finds the records of names that are gone or were changed.
func (l *Log) checkItems(ctx context.Context, c *checker) error {
	for digest, n := range c.items {
		switch _, err := l.items(ctx, digest); {
		case errors.Is(err, ErrNotExist):
			c.found(faultMissing, n, n, "the names that line %d stands for are gone: %s%s", n, itemsPrefix, digest)
		case errors.Is(err, errChanged):
			c.found(faultChanged, n, n, "the names that line %d stands for are not as they were written: %s%s",
				n, itemsPrefix, digest)
		case err != nil:
			return err
		}
	}
	return nil
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
