// Package enforce keeps the policy that is in force: the file, watched, and the audit lines that
// say which policy counted when.
//
// Its rules:
//   - A policy counts only after the audit log has a line that names it. A policy that is not
//     known to be unchanged lets no node in before that (see [Enforcer.Settled]).
//   - While the file holds no policy, the last good one stays in force.
//   - A policy that was replaced and comes back is named as such, in the log and for a day in
//     [Enforcer.Problems].
//   - A restart with an unchanged policy needs no audit log. The data directory remembers it.
//
// The package knows neither streams nor the store. It gets the audit log as [Audit], and hands a
// new policy to Config.Apply. Package identity decides what a policy grants.
package enforce
