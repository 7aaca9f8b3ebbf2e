package fleet

// groups are the bytes that the members of each group take in the stored roster, about. A group is
// all nodes of one identity whose ids are not bound to it ([Asked.Group]). One client could make
// ids up until the roster is too large to be stored. Then nobody could be let in, and no key
// would rotate.
//
// A node without a ring for which there is no room is sent none. So it holds no key, and nobody has
// to wait for it. A node that says that it holds a ring always enters: if that is true, it makes
// tickets. Nobody who is on the roster is ever taken off to make room. Members that were read back
// after a restart count for every group until they are back, since their group is not stored.
type groups map[string]int

const (
	// maxGroupBytes bounds one group. A NATS server takes messages of 1 MiB. With ids of 12 bytes
	// it is room for 30 000 nodes.
	maxGroupBytes = 640 << 10
	// maxRosterWords bounds the bytes of all refusals' words in a stored roster.
	maxRosterWords = 128 << 10
	// memberBytes is what a member takes besides its id, about: see rosterRecord.encode.
	memberBytes = 9

	unknownGroup = "?"
)

func groupOf(e *entry) string {
	if e.Group == "" {
		return unknownGroup
	}
	return e.Group
}

func sizeOf(e *entry) int { return memberBytes + len(e.Node) }

func (g groups) add(e *entry) {
	if e.Grouped {
		g[groupOf(e)] += sizeOf(e)
	}
}

func (g groups) remove(e *entry) {
	if !e.Grouped {
		return
	}
	of := groupOf(e)
	if g[of] -= sizeOf(e); g[of] <= 0 {
		delete(g, of)
	}
}

// room reports whether e may enter.
func (g groups) room(e *entry) bool {
	return !e.Grouped || g[e.Group]+g[unknownGroup]+sizeOf(e) <= maxGroupBytes
}
