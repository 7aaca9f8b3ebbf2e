// Package problems is the register of what `lockstep status` can say is not well: its codes, how
// bad each is, the next step, and the alert that tells of it.
//
// Its rules:
//
//   - Each problem has a code of the register. A code never changes its meaning, since scripts,
//     alerts and acknowledgements hold on to it.
//   - Each code has a section in docs/failures.md. It has an alert, or a reason why not. Tests
//     compare the register with the page and with deploy/prometheus.
//   - The library rooms know no code and no command. They return sentinels, and [Of] finds the code
//     of an error. Package advice has what to type.
//   - One list of problems feeds `lockstep status`, the metric lockstep_problems and the record of
//     events. One goroutine makes it (admin.Problems), and it alone asks the store.
//
// A new problem needs a code and its line in the register, a section in the page, and a call of
// [New] or [Of] where the problem is seen:
//
//	p := problems.New(problems.EventsDown, "", fmt.Sprintf("events are down: %v", err))
//	p.Since = since // if the source knows; else the replica remembers when it saw it first
//	p := problems.Of("", err)
package problems
