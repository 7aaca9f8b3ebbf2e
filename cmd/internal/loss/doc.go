// Package loss is what lockstepd does, and says, about a store that has lost its content: it
// writes back the certificates that it goes on sending, and calls no certificate absent
// meanwhile. That the store is empty is noticed in package guard. Rings are written back by
// package fleet.
package loss
