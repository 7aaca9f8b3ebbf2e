package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Verify goes through the shared chain. It finds each line that was changed, left out, put
// elsewhere or cut off. It finds the last only if a witness or the mark of this replica names it.
// The error is that of the records or of witnesses, not what was found.
//
// Verify may run while others append. So witnesses, which must read what is stored, is called
// before and after. It may be nil.
func (l *Log) Verify(ctx context.Context, witnesses func(context.Context) ([]Witness, error)) (Report, error) {
	if witnesses == nil {
		witnesses = func(context.Context) ([]Witness, error) { return nil, nil }
	}
	before, err := witnesses(ctx)
	if err != nil {
		return Report{}, err
	}
	before = l.ours(before)
	keys, err := l.stored(ctx)
	if err != nil {
		return Report{}, err
	}
	c := newChecker(sharedChain, keys.mac, before)
	err = l.records(ctx, func(key string, text []byte) error {
		c.record(text, key)
		return nil
	})
	if err != nil {
		return Report{}, err
	}
	if err := l.checkItems(ctx, c); err != nil {
		return Report{}, err
	}
	after, err := witnesses(ctx)
	if err != nil {
		return Report{}, err
	}
	return c.end(after), nil
}

// ours adds the marks of this replica to the witnesses.
func (l *Log) ours(ws []Witness) []Witness {
	ws = slices.Clone(ws)
	for _, h := range l.marks.all() {
		ws = append(ws, Witness{Who: "the high-water mark of replica " + l.cfg.Replica, Head: h})
	}
	return ws
}

// records calls f with each record of the shared chain, oldest first, and audit/head last. Lines
// of audit/head that stand in a record before it are left out. A record that cannot be opened is
// given without its text.
func (l *Log) records(ctx context.Context, f func(key string, text []byte) error) error {
	head, err := l.text(ctx, headName) // first: what is added meanwhile is left out
	if err != nil && !errors.Is(err, ErrNotExist) {
		return err
	}
	end := lastNumber(head)
	var names []string
	for key, err := range l.cfg.Records.Keys(ctx, linesPrefix) {
		if err != nil {
			return err
		}
		first, _, ok := parseName(key)
		if ok && end > 0 && first > end {
			continue
		}
		names = append(names, key)
	}
	for _, key := range names {
		text, err := l.text(ctx, key)
		if errors.Is(err, ErrNotExist) { // removed this moment: its lines are missing
			continue
		}
		if err != nil {
			return err
		}
		switch { // the record was put aside, and audit/head was not written in between
		case len(text) > 0 && bytes.HasPrefix(head, text):
			head = head[len(text):]
		case len(head) > 0 && bytes.HasPrefix(text, head):
			head = nil
		}
		if err := f(key, text); err != nil {
			return err
		}
	}
	return f(headName, head)
}

// text is the text of a record. For a record that does not open it is one that was not written.
func (l *Log) text(ctx context.Context, key string) ([]byte, error) {
	b, _, err := l.cfg.Records.Get(ctx, key)
	if errors.Is(err, ErrSealed) {
		return []byte("does not open"), nil
	}
	return b, err
}

// lastNumber is the number that the last line of text claims. Whether it is a line is found
// elsewhere.
func lastNumber(text []byte) (n uint64) {
	lines := split(text)
	_, _ = fmt.Sscanf(string(lines[len(lines)-1]), lineStart+"%d", &n)
	return n
}

// VerifyLines goes through the chains in r: a file, or several one after the other, or what
// syslog made of the lines. Everything before the JSON of a line is left out. There is a report
// for each chain.
func (l *Log) VerifyLines(ctx context.Context, r io.Reader, witnesses ...Witness) ([]Report, error) {
	witnesses = l.ours(witnesses)
	keys, err := l.stored(ctx)
	if err != nil {
		return nil, err
	}
	checkers := map[string]*checker{}
	current := (*checker)(nil) // gets the lines that say nothing of their chain
	var before []string        // such lines at the begin
	in := bufio.NewReaderSize(r, maxLine+4096)
	for n := 1; ; n++ {
		raw, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = in.ReadSlice('\n')
			}
			raw = []byte("?")
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if raw = trim(raw); len(raw) > 0 {
			where := fmt.Sprintf("line %d of the file", n)
			chain := "?"
			if line, err := decode(keys.mac, raw); err == nil {
				chain = line.Chain
				if checkers[chain] == nil {
					checkers[chain] = newChecker(chain, keys.mac, witnesses)
					checkers[chain].odd, before = before, nil
				}
				current = checkers[chain]
			}
			if current == nil {
				before = append(before, where)
			} else {
				current.line(raw, where)
			}
		}
		if err != nil {
			break
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if current == nil && len(before) > 0 {
		c := newChecker("file", keys.mac, nil)
		c.odd = before
		checkers["file"] = c
	}
	var out []Report
	for _, c := range checkers {
		out = append(out, c.end(nil))
	}
	slices.SortFunc(out, func(a, b Report) int { return cmp.Compare(a.Chain, b.Chain) })
	return out, nil
}

// trim leaves the JSON of a line.
func trim(raw []byte) []byte {
	raw = bytes.TrimRight(raw, "\r\n")
	if i := bytes.Index(raw, []byte(lineStart)); i > 0 {
		raw = raw[i:]
	}
	return bytes.TrimSpace(raw)
}

// Lines returns the newest n lines of the shared chain, oldest first. Lines that are not as they
// were written are left out; see Verify.
func (l *Log) Lines(ctx context.Context, n int) ([]Line, error) {
	lines, _, err := l.Newest(ctx, n)
	return lines, err
}

// Newest is Lines, and reports by whole that this is all: no line is left out, and none that this
// replica knew of is missing at the end.
func (l *Log) Newest(ctx context.Context, n int) (lines []Line, whole bool, err error) {
	mark := l.marks.get(sharedChain)
	keys, err := l.stored(ctx)
	if err != nil {
		return nil, false, err
	}
	whole = true
	byNumber := map[uint64]Line{}
	take := func(text []byte) {
		for _, raw := range split(text) {
			if line, err := decode(keys.mac, raw); err == nil && line.Chain == sharedChain {
				byNumber[line.Number] = line
			} else if len(text) > 0 {
				whole = false
			}
		}
	}
	var names []string
	for key, err := range l.cfg.Records.Keys(ctx, linesPrefix) {
		if err != nil {
			return nil, false, err
		}
		names = append(names, key)
	}
	head, err := l.text(ctx, headName) // last: else lines that leave it meanwhile would be missing
	if err != nil && !errors.Is(err, ErrNotExist) {
		return nil, false, err
	}
	take(head)
	for i := len(names) - 1; i >= 0 && len(byNumber) < n; i-- {
		text, err := l.text(ctx, names[i])
		if err != nil {
			return nil, false, err
		}
		take(text)
	}
	numbers := slices.Sorted(maps.Keys(byNumber))
	numbers = numbers[max(0, len(numbers)-n):]
	last := uint64(0)
	for i, number := range numbers {
		whole = whole && (number == last+1 || i == 0 && len(numbers) == n)
		lines, last = append(lines, byNumber[number]), number
	}
	return lines, whole && last >= mark.Number, nil
}

// Effect says of lines of rollouts whether the change behind them was made, as far as the
// rollouts' witnesses and the lines show it. A line that is not in the map says nothing of it.
func Effect(lines []Line, rollouts []Witness) map[uint64]bool {
	made := map[uint64]bool{}
	next := map[string]uint64{}
	rest := map[string]int{} // lines of the same change that come before
	for _, w := range rollouts {
		if w.Head.Chain == sharedChain {
			next[w.Scope] = w.Head.Number
		}
	}
	for _, l := range slices.Backward(lines) {
		if n, ok := parseRef(l.After, sharedChain); ok && strings.HasSuffix(l.What, Refused) {
			made[n] = false
			continue
		}
		want, known := next[l.Scope]
		if l.Scope == "" || !known {
			continue
		}
		switch {
		case rest[l.Scope] > 0:
			rest[l.Scope]--
		case l.Number == want:
			rest[l.Scope] = max(l.Of-1, 0)
		default:
			made[l.Number] = false
			continue
		}
		made[l.Number] = true
		if rest[l.Scope] > 0 {
			continue
		}
		if n, ok := parseRef(l.After, sharedChain); ok {
			next[l.Scope] = n
		} else {
			delete(next, l.Scope)
		}
	}
	return made
}
