// Package loss is what lockstepd does, and says, about a store that has lost its content.
//
// Its rules:
//
//   - Each replica writes back the certificates that it goes on sending. Only what came from the
//     store is written back, under the name under which it was there. A newer one stays.
//   - While the record of the loss stands, no certificate that is missing is called absent. One
//     that was sent does not give way to a wildcard's.
//   - Status names the loss, and says what to do. What is missing is put again, or given up with
//     lockstep cert rm --confirm. That ends the record.
//   - The caller adds what else it has, such as the pins of hosts ([Refill], Also).
//
// Package guard notices that the store is empty and keeps the record (store/lost). Package
// rotation/fleet writes back the rings, and makes no step for 105 s.
package loss
