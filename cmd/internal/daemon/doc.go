// Package daemon puts lockstepd together: it opens what the configuration names, wires the rooms
// to each other, and runs them. It decides nothing. What is a decision, or a thing of its own,
// stands in a room or in another package of cmd/internal.
//
//	data    dir, catalog, rotation ─▶ sds.Table ─▶ xds/server ─▶ nodes
//	acks    rotation ◀── observe ◀── xds/server
//	wake    NATS ─▶ rotation, catalog ─▶ sds.Table
package daemon
