package fleet

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// The stored roster of one replica has about 20 bytes a node. It begins with format, time, flags,
// admin URL and count. Then follow, for each member, node, number, floor, flags, the age of Since
// in milliseconds, and if it refuses, the generation and its words. Lengths and numbers are
// unsigned varints. The flags may get new bits, over which earlier versions pass.
const (
	rosterFormat = 2

	flagAlone = 1

	flagAnswered  = 1
	flagConnected = 2
	flagRefused   = 4
	flagBrought   = 8
	// The rest are passed over by earlier versions.
	flagStuck   = 16
	flagGrouped = 32

	maxNr  = 1 << 20 // maxNr bounds the streams under one id.
	maxAge = 1 << 42 // maxAge is in ms, 139 years.
)

// rosterRecord is what one replica lets the others know of a scope.
type rosterRecord struct {
	peer    Peer // peer has no name when it was read, since that is in the store key.
	members []rotation.Member
}

// encode returns the record, of at most 896 KiB.
func (r rosterRecord) encode() []byte {
	b, _ := r.bounded()
	return b
}

// bounded returns the record, and how many members it has no entry for. A NATS server takes
// messages of 1 MiB, and a roster that cannot be written would stop every rotation. So the members
// for which there is no room stand there as one, or two if some are candidates. Each holds back
// what any of those would that it stands for. Members that refuse or lag have entries of their own,
// while there is room.
func (r rosterRecord) bounded() (b []byte, summed int) {
	const usual = 32 // bytes a node
	at := r.peer.At
	b = make([]byte, 0, 64+usual*len(r.members))
	b = append(b, rosterFormat)
	b = binary.AppendUvarint(b, uint64(at.UnixMilli()))
	var flags byte
	if r.peer.Alone {
		flags |= flagAlone
	}
	b = append(b, flags)
	b = appendText(b, r.peer.Admin)
	all := r.members
	if n := fits(all, at); n < len(all) {
		all = slices.SortedFunc(slices.Values(all), mattersMore)
		n = fits(all, at)
		summed = len(all) - n
		all = append(all[:n:n], sums(r.peer.Replica, all[n:])...)
	}
	b = binary.AppendUvarint(b, uint64(len(all)))
	words := maxRosterWords
	for i := range all {
		b = appendMember(b, &all[i], at, &words)
	}
	return b, summed
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendMember appends m. words is how many bytes there are left for reasons of refusals.
func appendMember(b []byte, m *rotation.Member, at time.Time, words *int) []byte {
	b = appendText(b, m.Node)
	b = binary.AppendUvarint(b, uint64(m.Nr))
	b = binary.AppendUvarint(b, m.Floor)
	var flags byte
	for _, f := range []struct {
		is  bool
		bit byte
	}{
		{m.Answered, flagAnswered}, {m.Connected, flagConnected}, {m.Refused != 0, flagRefused},
		{m.Brought, flagBrought}, {m.Stuck, flagStuck}, {m.Grouped, flagGrouped},
	} {
		if f.is {
			flags |= f.bit
		}
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(max(0, at.Sub(m.Since).Milliseconds())))
	if m.Refused == 0 {
		return b
	}
	b = binary.AppendUvarint(b, m.Refused)
	reason := m.Words
	if *words -= len(reason); *words < 0 {
		reason = ""
	}
	return appendText(b, reason)
}

const (
	// maxRoster bounds the bytes of a stored roster without the reasons of refusals, which
	// maxRosterWords bounds. What is stored is sealed besides.
	maxRoster = 896<<10 - maxRosterWords
	// maxSum bounds what a member takes that stands for others, without its reason.
	maxSum = 128
)

// fits returns how many of the first members have room, less two that stand for the others.
func fits(all []rotation.Member, at time.Time) int {
	room := maxRoster - 2*maxSum
	var b []byte
	for i := range all {
		words := 0 // reasons are counted by themselves
		b = appendMember(b[:0], &all[i], at, &words)
		if room -= len(b) + binary.MaxVarintLen16; room < 0 {
			return i
		}
	}
	return len(all)
}

// mattersMore orders the members that refuse or lag before the others.
func mattersMore(a, b rotation.Member) int {
	refuses := func(m rotation.Member) int {
		if m.Refused != 0 {
			return 0
		}
		return 1
	}
	return cmp.Or(refuses(a)-refuses(b), cmp.Compare(a.Floor, b.Floor), byName(a, b))
}

// sums returns a member that stands for all that have answered, and one for the candidates. It may
// hold the lowest generation that any of them may hold, and is live as long as any of them is. It
// is grouped: only this replica, which knows each of them, has a refusal take a key back.
func sums(replica string, all []rotation.Member) (out []rotation.Member) {
	for _, kind := range []struct {
		answered bool
		name     string
	}{{true, "further nodes of replica " + replica}, {false, "further new nodes of replica " + replica}} {
		var sum *rotation.Member
		for _, m := range all {
			if m.Answered != kind.answered {
				continue
			}
			if sum == nil {
				m.Node, m.Nr, m.Brought, m.Grouped = kind.name, 1, false, true
				sum = &m
				continue
			}
			sum.Floor = min(sum.Floor, m.Floor)
			sum.Connected = sum.Connected || m.Connected
			sum.Since = latest(sum.Since, m.Since)
			sum.Stuck = sum.Stuck || m.Stuck
			if m.Refused > sum.Refused {
				sum.Refused, sum.Words = m.Refused, m.Words
			}
		}
		if sum != nil {
			out = append(out, *sum)
		}
	}
	return out
}

func decodeRoster(b []byte) (r rosterRecord, err error) {
	ok := true
	num := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			ok, b = false, nil
			return 0
		}
		b = b[n:]
		return v
	}
	str := func() string {
		n := num()
		if n > uint64(len(b)) {
			ok, b = false, nil
			return ""
		}
		s := string(b[:n])
		b = b[n:]
		return s
	}
	flag := func() byte {
		if len(b) == 0 {
			ok = false
			return 0
		}
		f := b[0]
		b = b[1:]
		return f
	}
	if len(b) == 0 || b[0] != rosterFormat {
		return rosterRecord{}, errRoster
	}
	b = b[1:]
	at := time.UnixMilli(int64(num()))
	known := func(generation uint64) uint64 {
		ok = ok && generation <= rotation.MaxGeneration
		return generation
	}
	r.peer = Peer{At: at, Alone: flag()&flagAlone != 0, Admin: str()}
	count := num()
	for i := uint64(0); ok && i < count; i++ {
		m := rotation.Member{Node: str(), Nr: int(num()), Floor: known(num())}
		if m.Node == "" || m.Nr < 1 || m.Nr > maxNr {
			return rosterRecord{}, errRoster
		}
		flags := flag()
		m.Answered, m.Connected, m.Brought = flags&flagAnswered != 0, flags&flagConnected != 0, flags&flagBrought != 0
		m.Stuck, m.Grouped = flags&flagStuck != 0, flags&flagGrouped != 0
		age := num()
		ok = ok && age <= maxAge
		m.Since = at.Add(-time.Duration(age) * time.Millisecond)
		if flags&flagRefused != 0 {
			m.Refused, m.Words = known(num()), str()
		}
		r.members = append(r.members, m)
	}
	if !ok || len(b) > 0 {
		return rosterRecord{}, errRoster
	}
	return r, nil
}
