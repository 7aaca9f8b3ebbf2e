package e2e

// How a test of this package is built
//
// A test has a stage: a lockstepd of its own, with data, certificates and a CA of its own, and
// nodes around it. All are real programs, which the package fleet starts, and which end with the
// test. Tests run in parallel, so a stage shares no port and no folder with another.
//
//	func TestATicketOutlivesARotation(t *testing.T) {
//		t.Parallel()
//		s := newStage(t, setup{})                                // lockstepd, two hosts with certificates, an upstream
//		envoys := []*envoy{s.envoy("edge-1"), s.envoy("edge-2")} // with the bootstrap that lockstep prints
//		s.awaitReady(envoys...)
//		s.awaitPhase("steady", 2)                                // both have accepted the ring
//		clients := s.clients(envoys...)                          // traffic from here to the end of the test
//		s.mustRun("rotate", "--wait")                            // the CLI, as an operator uses it
//		clients.awaitKeyInUse()
//		clients.cross("the rotation")                            // every ticket at every other node
//	}
//
// # The fleet
//
// newStage makes the control plane. Its setup says how many hosts there are, what the scopes'
// policies are, and whether the test starts lockstepd itself, with more flags. Nodes are added by
//
//   - envoy: a real Envoy, by the bootstrap that `lockstep bootstrap envoy` prints; more flags of
//     that command follow;
//   - hybrid, hybridAt, hybridVia: a real Envoy that takes its listener from lockstepd, the last
//     through a relay;
//   - edge, edgeOf: a lockstep-edge;
//   - scripted: a node that answers as the test says (script_test.go: accept, withhold, refuse),
//     for what no Envoy does on demand;
//   - keepers: nodes by the hundred that hold one ring, without serving.
//
// Several replicas on one store are made by replicas and replicasOver, a network that can be cut by
// divide, two machines with a virtual address by putUp, and a control plane with systemd by
// startUnits.
//
// # The traffic and the account
//
// clients starts clients that keep their sessions and go from node to node, TLS 1.2 and 1.3. They
// return an account of every ticket: who made it, with which key, and whether it resumed. After
// each step of a fault a test asks it for the whole invariant, not for the step's own effect alone:
//
//   - check: no live ticket was refused so far, and no handshake failed on a node that was up;
//   - cross: a ticket of every key of the ring, of any node, resumes at every other node;
//   - awaitKeyInUse: each node has made tickets with the encrypting key by now;
//   - downs and ups tell it that a test kills a node, whose failed handshakes are then no fault.
//
// # What a test waits for, and what it demands
//
// must… fails the test unless the CLI does so at once: mustRun (exit code 0), mustFail (that exit
// code and those words), mustRunInTime (again while a slow disk has the change refused). await… and
// eventually wait, for a time that only a machine under heavy load needs: awaitReady, awaitPhase,
// eventually, eventuallyWithin. No test sleeps to wait for something. show and scope read what the
// CLI prints as JSON, metric reads a series of /metrics.
//
// # Faults
//
// Processes are killed, paused and restarted by their own methods (fleet.Process). A relay
// (relay_test.go) stands between nodes and lockstepd, cuts streams and spoils certificates.
// Failpoints are in test/crash, hostile nodes in test/abuse, and what a fleet does in an hour of it
// in test/soak.
