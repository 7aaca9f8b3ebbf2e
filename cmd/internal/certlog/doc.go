// Package certlog tells what becomes of the certificates in the directory: as events, and in the
// audit log. Of stored certificates it tells which are near their end or cannot be used.
//
// Its rules:
//
//   - It remembers in a file which versions were there. So a change that was made while lockstepd
//     was not running is told, too, and a restart tells nothing anew. A change adds a line to the
//     file beside it, so its cost does not follow how many certificates there are.
//   - A change that comes from the directory is in force when it is seen. It is served also while
//     the audit log cannot be written. Its line is written as soon as the log takes one, also after
//     a restart, and until then `lockstep status` says so.
//   - What changes together is told together: above a few, one line stands for all.
package certlog
