// Package failpoint kills the process at a named point, for tests of crashes. Only a build with
// the tag failpoint does so; in any other build nothing here does anything.
//
// Such a build kills itself (SIGKILL) at the point that $LOCKSTEP_FAILPOINT names, after it has
// written the name to $LOCKSTEP_FAILPOINT_HIT. The points are:
//
//	<step>/before-swap   the step is decided and not written; its name is that of the history
//	<step>/after-swap    it is written, and nobody knows of it
//	<step>/after-wake    the streams are woken, NATS knows nothing
//	roster/before-swap   a roster is about to be written
//	roster/after-swap    it is written
//
// and of the fourth batch of certificates (of up to 1024) of an import, when others may have been
// acknowledged:
//
//	import/before-swap   its line in the audit log is written, nothing of it is stored
//	import/half-way      half of it is stored
//	import/after-swap    all of it is stored, and nobody knows of it
package failpoint
