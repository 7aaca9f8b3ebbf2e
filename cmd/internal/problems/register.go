package problems

import "github.com/lockstep-tls/lockstep/cmd/internal/api"

// The codes. Of one severity, those that come first here are listed first.
const (
	StandIn             = "stand-in"
	NodeStuck           = "node-stuck"
	NodeWithoutRing     = "node-without-ring"
	NodeInDoubt         = "node-in-doubt"
	KeysInDoubt         = "keys-in-doubt"
	KeyTooOld           = "key-too-old"
	OwnExpired          = "own-certificate-expired"
	CertificatesExpired = "certificates-expired"
	NotRenewed          = "certificates-not-renewed"
	PolicyUnsettled     = "policy-unsettled"
	ProblemsOld         = "problems-old"
	StoreDown           = "store-down"
	NoRing              = "no-ring"
	StoreLost           = "store-lost"
	CanaryDamaged       = "canary-damaged"
	CertificatesHeld    = "certificates-held"
	XDSOpen             = "xds-open"
	IDsCrowded          = "ids-crowded"
	RingUnrecorded      = "ring-unrecorded"
	StoreFrozen         = "store-frozen"
	RingRefused         = "ring-refused"
	KeyRefused          = "key-refused"
	CertificateRefused  = "certificate-refused"
	RefusedFirst        = "certificate-refused-first"
	CertificatesStale   = "certificates-stale"
	CertificateUnloaded = "certificate-unloadable"
	CertificateProblem  = "certificate-problem"
	CertificateWorse    = "certificate-worse"
	SecretsUnlisted     = "secrets-unlisted"
	ListenerRefused     = "listener-refused"
	ListenerTemplate    = "listener-template-unusable"
	BeyondMaxEager      = "hosts-beyond-max-eager"
	OwnNearEnd          = "own-certificate-near-end"
	NodesNearEnd        = "node-certificates-near-end"
	PolicyUnusable      = "policy-unusable"
	PolicyUnwritten     = "policy-unwritten"
	PolicyPutBack       = "policy-put-back"
	AuditSinkDown       = "audit-sink-down"
	SealingKeyUnusable  = "sealing-key-unusable"
	RecordsUnopenable   = "records-unopenable"
	RosterUnreadable    = "roster-unreadable"
	RosterFull          = "roster-full"
	LifetimeWaits       = "lifetime-waits"
	LifetimesDiffer     = "lifetimes-differ"
	ClockOff            = "clock-off"
	EventsDown          = "events-down"
	ConfigUnusable      = "config-unusable"
	ConfigNotReloaded   = "config-not-reloaded"
	ConfigNeedsRestart  = "config-needs-restart"
	ReplicaTwice        = "replica-twice"
	ReplicaMissing      = "replica-missing"
	ReplicaUnreachable  = "replica-unreachable"
	MixedVersions       = "mixed-versions"
	NodeMissing         = "node-missing"
	NodeGone            = "node-gone"
	NodesUnremembered   = "nodes-unremembered"
	Unaudited           = "certificates-unaudited"
	Unrecorded          = "events-unrecorded"
	NodeDenied          = "node-denied"
	NodeExcluded        = "node-excluded"
)

// Kind is what is true of all problems of a code.
type Kind struct {
	Code string
	// Severity is what a problem of this code has at least for a part of its life. One that gets
	// worse with time may have another.
	Severity api.Severity
	// Next is the next step of a problem that names none of its own.
	Next string
	// Alert is the rule in deploy/prometheus that tells of it, and the label alert of the metric
	// lockstep_problems. It is Generic for the rules over that metric, which name the code. The
	// rule has the same severity. It is empty for a notice, about which nobody need do anything.
	Alert string
	// Worse is the rule that tells of one that has got critical, if Alert tells of a warning.
	Worse string
}

// Generic stands for the rules over lockstep_problems: LockstepProblemCritical for what is
// critical, LockstepProblem for warnings.
const Generic = "LockstepProblem"

const renew = "renew it, with lockstep pki renew or where it was issued; the new file is read by itself"

// Register has every code once, in the order of the constants.
var Register = []Kind{
	{StandIn, api.Critical, "put a certificate that can be served (lockstep cert put)", "LockstepStandIn", ""},
	{NodeStuck, api.Critical, "restart this Envoy", "LockstepNodeStuck", ""},
	{NodeWithoutRing, api.Critical, "lockstep nodes", "LockstepNodeWithoutRing", ""},
	{NodeInDoubt, api.Critical, "restart this Envoy", "LockstepNodeInDoubt", ""},
	{KeysInDoubt, api.Critical, "lockstep audit show", "LockstepKeysInDoubt", ""},
	{KeyTooOld, api.Critical, "lockstep status names what blocks", "LockstepKeyTooOld", ""},
	{OwnExpired, api.Critical, renew, "LockstepOwnCertificateExpired", ""},
	{CertificatesExpired, api.Critical, "lockstep cert list --expired", "LockstepCertificateExpiring", ""},
	{NotRenewed, api.Warning, "lockstep cert list --expires-within 30d", "LockstepCertificateNotRenewed",
		"LockstepCertificateExpiring"},
	{PolicyUnsettled, api.Critical, "lockstep audit verify", Generic, ""},
	{ProblemsOld, api.Critical, "look at the disks of that lockstepd, then restart it", Generic, ""},
	{StoreDown, api.Critical, "repair the store; lockstepd goes on by itself", "LockstepStoreDown", ""},
	{NoRing, api.Critical, "wait some seconds, then look at the log of lockstepd", Generic, ""},
	{StoreLost, api.Critical,
		"put what is missing again: lockstep cert put or lockstep restore, then lockstep cert rm --confirm",
		Generic, ""},
	{CanaryDamaged, api.Critical, "give lockstepd the right --kek", Generic, ""},
	{CertificatesHeld, api.Critical, "lockstep cert rm --confirm gives them up", "LockstepCertificatesHeld", ""},
	{XDSOpen, api.Warning, "give a policy or certificates, or leave --xds-open out", Generic, ""},
	{IDsCrowded, api.Warning, "list the ids of each identity in the policy (nodes)", Generic, ""},
	{RingUnrecorded, api.Warning, "repair what status says of the audit log", Generic, ""},
	{StoreFrozen, api.Warning, "lockstep store thaw ends it", Generic, ""},
	{RingRefused, api.Warning, "lockstep nodes", "LockstepNodeRefusing", ""},
	{KeyRefused, api.Warning, "lockstep nodes", Generic, ""},
	{CertificateRefused, api.Warning, "lockstep explain", "LockstepCertificateRefused", ""},
	{RefusedFirst, api.Warning, "put another one, or give this one to all (lockstep cert put --now)",
		"LockstepCertificateRefusedFirst", ""},
	{CertificatesStale, api.Warning, "lockstep nodes NODE; restart that node if it does not answer", Generic, ""},
	{CertificateUnloaded, api.Warning, "lockstep cert get NAME tells why", Generic, ""},
	{CertificateProblem, api.Warning, "lockstep cert list", "LockstepCertificateProblem", ""},
	{CertificateWorse, api.Warning, "put a right one, or lockstep status --ack certificate-worse if it is meant",
		Generic, ""},
	{SecretsUnlisted, api.Warning, "lockstep nodes", Generic, ""},
	{ListenerRefused, api.Warning, "lockstep nodes", Generic, ""},
	{ListenerTemplate, api.Warning, "correct the file; it is read again by itself", Generic, ""},
	{BeyondMaxEager, api.Warning, "lockstep host list", Generic, ""},
	{OwnNearEnd, api.Warning, renew, "LockstepOwnCertificateNearItsEnd", ""},
	{NodesNearEnd, api.Warning, "lockstep nodes; renew them, with lockstep pki renew or where they were issued",
		"LockstepNodeCertificateNearItsEnd", "LockstepNodeCertificateExpired"},
	{PolicyUnusable, api.Warning, "correct the file; it is read again by itself", "LockstepPolicyUnusable", ""},
	{PolicyUnwritten, api.Warning, "lockstep audit verify", Generic, ""},
	{PolicyPutBack, api.Warning, "lockstep audit show has the digests", "LockstepPolicyPutBack", ""},
	{AuditSinkDown, api.Warning, "repair the disk, the store or syslog", Generic, ""},
	{SealingKeyUnusable, api.Warning, "lockstep kek status", Generic, ""},
	{RecordsUnopenable, api.Warning, "lockstep kek status names them", Generic, ""},
	{RosterUnreadable, api.Warning, "wait: that replica writes another within 10 s if it runs", Generic, ""},
	{RosterFull, api.Warning, "shorten the ids of nodes, or spread the nodes over more replicas", Generic, ""},
	{LifetimeWaits, api.Warning, "repair or thaw the store; lockstepd goes on by itself", Generic, ""},
	{LifetimesDiffer, api.Warning, "give all replicas the same ticket_lifetime", Generic, ""},
	{ClockOff, api.Warning, "set the clock (timedatectl, chronyc tracking)", "LockstepClockOff", ""},
	{EventsDown, api.Warning, "check the NATS server of --events", "LockstepEventsDown", ""},
	{ConfigUnusable, api.Warning, "correct it, then systemctl reload lockstepd or kill -HUP", Generic, ""},
	{ConfigNotReloaded, api.Warning, "systemctl reload lockstepd or kill -HUP", Generic, ""},
	{ConfigNeedsRestart, api.Warning, "restart lockstepd, or put the file back", Generic, ""},
	{ReplicaTwice, api.Critical, "stop one of the two, and remove the file replica from its data directory; " +
		"it gets a new name at its next start", Generic, ""},
	{ReplicaMissing, api.Warning,
		"start it, or lockstep status --ack replica-missing if it is not to come back", "LockstepReplicaMissing", ""},
	{ReplicaUnreachable, api.Warning,
		"look at its admin_listen, at the network between the two, and at the clocks of both", Generic, ""},
	{MixedVersions, api.Warning, "bring the others to the same version (docs/upgrade.md)", Generic, ""},
	{NodeMissing, api.Warning, "lockstep nodes --all", "LockstepNodeMissing", ""},
	{NodeGone, api.Warning, "lockstep nodes --all, or lockstep node forget NODE if one is not to come back",
		"LockstepNodeGone", ""},
	// A large fleet has it for good.
	{NodesUnremembered, api.Notice, "lockstep node forget NODE makes room", "", ""},
	{Unaudited, api.Warning, "repair the sinks of the audit log", Generic, ""},
	{Unrecorded, api.Warning, "make room on the disk of the data directory", Generic, ""},
	{NodeDenied, api.Warning, "give the node an id that the rule lists (nodes), or list this one there",
		"LockstepNodeDenied", ""},
	{NodeExcluded, api.Warning, "lockstep exclude NODE --for 0 takes it back", "LockstepNodeExcluded", ""},
}

// AlertOf returns the rule that tells of a problem of that code and severity.
func AlertOf(code string, severity api.Severity) string {
	switch k, ok := Find(code); {
	case !ok:
		return Generic
	case severity == api.Critical && k.Worse != "":
		return k.Worse
	case k.Alert == "":
		return "none"
	default:
		return k.Alert
	}
}

// Find returns the kind of a code. ok is false for one that is not in the register.
func Find(code string) (k Kind, ok bool) {
	for _, k := range Register {
		if k.Code == code {
			return k, true
		}
	}
	return Kind{Code: code, Severity: api.Warning}, false
}
