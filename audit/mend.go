package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
)

// Mend is for a shared chain whose newest lines (audit/head), or whose key, are damaged, while no
// backup has them. No line can follow then. Mend begins audit/head anew with those of its lines
// that are as they were written, and a line that tells of the break and names who. The number of
// that line is above all that this replica's mark and the witnesses name, and one number is left
// out. So [Log.Verify] names the break for ever.
//
// If the key is lost, Mend makes a new one, and no older line can be verified any more. The error
// wraps [ErrSound] if Append could go on by itself. Other replicas may append meanwhile.
func (l *Log) Mend(ctx context.Context, who string, witnesses []Witness) (h Head, err error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return h, ctx.Err()
	}
	floor := uint64(0)
	for _, w := range l.ours(witnesses) {
		if w.Head.Chain == sharedChain {
			floor = max(floor, w.Head.Number)
		}
	}
	keys, why, err := l.mendKey(ctx)
	if err != nil {
		return h, err
	}
	heads, err := l.sinks[0].use(ctx, func(ctx context.Context) ([]Head, error) {
		e := Entry{At: l.now(ctx), Actor: who, What: "audit-broken", Why: why}
		h, err := l.shared.mend(ctx, batch{keys: keys, of: []int{0}}, e, floor)
		return []Head{h}, err
	})
	if err != nil {
		return h, err
	}
	l.marks.see(heads[0])
	return heads[0], nil
}

// mendKey returns the stored key. If that is damaged, or gone while there is a log, mendKey
// replaces it by the one that was used so far, or else by a new one. why says so.
func (l *Log) mendKey(ctx context.Context) (k *keys, why string, err error) {
	secret, rev, err := l.cfg.Records.Get(ctx, keyName)
	switch {
	case errors.Is(err, ErrNotExist):
		if _, _, err := l.cfg.Records.Get(ctx, headName); errors.Is(err, ErrNotExist) {
			// an append makes one
			return nil, "", ErrSound
		}
	case err != nil && !errors.Is(err, ErrSealed):
		return nil, "", err
	}
	l.mu.Lock()
	known := l.known
	l.mu.Unlock()
	if err != nil || len(secret) != keySize {
		if known != nil {
			secret, why = known.secret, keyName+" was damaged, and was put back"
		} else {
			secret, why = make([]byte, keySize), keyName+" was lost: no line before this one can be verified"
			rand.Read(secret)
		}
		if _, err = l.cfg.Records.Swap(ctx, keyName, rev, secret); err != nil {
			return nil, "", fmt.Errorf("audit: %s cannot be replaced: %w", keyName, err)
		}
	}
	mac, err := derive(secret)
	if err != nil {
		return nil, "", err
	}
	k = &keys{secret, mac}
	l.mu.Lock()
	l.known = k
	l.mu.Unlock()
	return k, why, nil
}

// mend writes audit/head anew, with e behind those of its lines that are as they were written. If
// e does not say why, there must be a fault in audit/head that does.
func (s *sharedSink) mend(ctx context.Context, b batch, e Entry, floor uint64) (h Head, err error) {
	s.read = false // whatever comes of it
	text, rev, err := s.records.Get(ctx, headName)
	sealed := errors.Is(err, ErrSealed)
	if err != nil && !sealed && !errors.Is(err, ErrNotExist) {
		return h, err
	}
	var kept []byte
	last, bad := Head{Chain: sharedChain}, 0
	for _, raw := range split(text) {
		if line, err := decode(b.mac, raw); err == nil && line.Chain == sharedChain {
			kept = append(append(kept, raw...), '\n')
			last = line.Head()
		} else if len(text) > 0 {
			bad++
		}
	}
	switch {
	case e.Why != "":
	case sealed:
		e.Why = fmt.Sprintf("%s did not open: the lines that stood there are lost", headName)
	case bad > 0:
		e.Why = fmt.Sprintf("%d lines of %s were not as they were written, and are lost", bad, headName)
	default:
		return h, ErrSound
	}
	e.Why += "; it was mended, and begun anew"
	older, err := s.lastArchived(ctx, b)
	if err != nil {
		return h, err
	}
	above := max(last.Number+uint64(bad), older.Number, floor)
	b.entries = []Entry{e}
	// so that above+1 is missing
	line, heads, err := b.lines(Head{Chain: sharedChain, Number: above + 1}, s.replica)
	if err != nil {
		return h, err
	}
	if _, err := s.records.Swap(ctx, headName, rev, append(kept, line...)); err != nil {
		return h, fmt.Errorf("audit: %s was not begun anew: %w", headName, err)
	}
	s.log.Error("the audit log was broken and is mended; the break stands in it, and verifying it names the break",
		"by", e.Actor, "why", e.Why)
	return heads[0], nil
}
