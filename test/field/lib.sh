# The fixture of the cases in this folder. A case is a script that sources this file, sets up real
# programs in a folder and on ports of its own, and ends with a verdict:
#
#	RIGHT: words	exit 0
#	WRONG: words	exit 1
#	SKIP: words	exit 77, for a case that needs a program that is not here
#
# The fixture ends what a case started, by process id. KEEP=1 keeps the folder.
# LOCKSTEP_BIN names another folder of binaries, LOCKSTEP_ENVOY another Envoy.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${LOCKSTEP_BIN:-$root/bin}
envoy=${LOCKSTEP_ENVOY:-$root/.envoy/envoy}
python=/usr/bin/python3
[ -x $python ] || python=python3
PATH=$PATH:/usr/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/field.XXXXXX")
cd "$work" || exit 1
mkdir certs
started=() faults=() notes=()

finish() {
	local status=$? pid
	trap - EXIT INT TERM
	for pid in "${started[@]}"; do kill "$pid" 2>/dev/null; done
	for _ in $(seq 50); do
		alive=
		for pid in "${started[@]}"; do kill -0 "$pid" 2>/dev/null && alive=1; done
		[ -n "$alive" ] || break
		sleep .1
	done
	for pid in "${started[@]}"; do kill -KILL "$pid" 2>/dev/null; done
	wait 2>/dev/null
	cd /
	if [ -n "${KEEP:-}" ]; then echo "kept: $work" >&2; else rm -rf "$work"; fi
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

right() { echo "RIGHT: $*"; exit 0; }
wrong() { echo "WRONG: $*"; exit 1; }
skip() { echo "SKIP: $*"; exit 77; }

# need PROGRAM... skips the case where one is missing.
need() { for program; do command -v "$program" >/dev/null || skip "$program is not here"; done; }

# check WHAT SEEN WANTED notes a fault unless the pattern WANTED matches all that was seen.
check() {
	# shellcheck disable=SC2053
	if [[ $2 == $3 ]]; then notes+=("$1"); else faults+=("$1: [$2], not [$3]"); fi
}

# verdict ends a case by what check has noted.
verdict() {
	[ ${#notes[@]} -gt 0 ] || [ ${#faults[@]} -gt 0 ] || wrong "the case has checked nothing"
	local IFS=';'
	[ ${#faults[@]} -eq 0 ] || wrong "${faults[*]}"
	right "${notes[*]}"
}

# within SECONDS COMMAND... asks again until the command succeeds.
within() {
	local end=$((SECONDS + $1 + 1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || return 1
		sleep .05
	done
}

# port NAME sets a variable to a port that nobody uses. Ports are below those of the other tests. A
# lock keeps one from cases that run at the same time.
port() {
	local number lock
	mkdir -p /tmp/lockstep-field-ports
	while :; do
		number=$((15000 + RANDOM % 3000))
		exec {lock}>"/tmp/lockstep-field-ports/$number"
		if flock -n "$lock" && ! listens $number; then
			printf -v "$1" %s $number
			return
		fi
		exec {lock}>&-
	done
}

# spawn LOG COMMAND... starts a program; $! is its process id.
spawn() {
	local log=$1
	shift
	"$@" >"$log" 2>&1 </dev/null &
	started+=($!)
}

# stop PID ends a program that was started, and waits for its end.
stop() {
	kill "${2:--TERM}" "$1" 2>/dev/null
	wait "$1" 2>/dev/null
}

listens() { (exec 9<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# opened PORT LOG waits until a program takes connections. Where it does not, the case is wrong.
opened() { within 20 listens "$1" || wrong "fixture: nothing listens: $(grep . "$2" | tail -2)"; }

# key FILE [bits] makes a private key, P-256 unless RSA bits are given.
key() {
	if [ $# -gt 1 ]; then
		openssl genrsa -out "$1" "$2" 2>/dev/null
	else
		openssl ecparam -name prime256v1 -genkey -noout -out "$1"
	fi
}

# ca FILE NAME [ISSUER] makes FILE.crt and FILE.key, self-signed or of an issuer.
ca() {
	key "$1.key"
	if [ $# -gt 2 ]; then
		openssl req -new -key "$1.key" -subj "/CN=$2" 2>/dev/null |
			openssl x509 -req -CA "$3.crt" -CAkey "$3.key" -CAcreateserial -days 20 -out "$1.crt" \
				-extfile <(echo basicConstraints=critical,CA:TRUE) 2>/dev/null
	else
		openssl req -x509 -new -key "$1.key" -days 30 -subj "/CN=$2" -out "$1.crt" 2>/dev/null
	fi
}

# issue FOLDER SANS [EXTENSIONS] puts tls.crt and tls.key into a folder. The key that is there is
# used again. by=FILE names another issuer, days= another lifetime, subject= another subject.
issue() {
	mkdir -p "$1"
	[ -f "$1/tls.key" ] || key "$1/tls.key"
	openssl req -new -key "$1/tls.key" -subj "${subject:-/CN=leaf}" 2>/dev/null |
		openssl x509 -req -CA "${by:-ca}.crt" -CAkey "${by:-ca}.key" -CAcreateserial -days "${days:-20}" \
			-extfile <(printf 'subjectAltName=%s\n%b\n' "$2" "${3:-}") -out "$1/.new" 2>/dev/null ||
		wrong "fixture: no certificate for $2"
	mv "$1/.new" "$1/tls.crt"
}
need curl openssl flock $python
ca ca 'Field CA'

# origin starts an upstream at $up, which answers with the head of the request as it came.
origin() {
	cat >origin.py <<'PY'
import socketserver, sys

class Origin(socketserver.BaseRequestHandler):
    def handle(self):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.request.recv(65536)
            if not piece:
                return
            head += piece
        head = head.split(b"\r\n\r\n")[0]
        self.request.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(head) + head)

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 200

Server(("127.0.0.1", int(sys.argv[1])), Origin).serve_forever()
PY
	port up
	spawn origin.log $python origin.py "$up"
	opened "$up" origin.log
}

lockstep() { "$bin/lockstep" --data-dir "$work/data" "$@"; }

# plane [FLAGS] starts lockstepd on the folder certs, or on that of --certs. Its nodes come by a
# socket. $admin is its port for the admin API.
plane() {
	local certs=(--certs certs)
	[[ " $* " == *" --certs "* ]] && certs=()
	port admin
	spawn plane.log "$bin/lockstepd" --data-dir data --admin-listen "127.0.0.1:$admin" "${certs[@]}" "$@"
	plane=$!
	within 30 settled "$admin" $plane
	ready "$admin" || wrong "fixture: lockstepd does not start: $(grep . plane.log | tail -1)"
}
settled() { ready "$1" || ! kill -0 "$2" 2>/dev/null; } # settled ADMIN-PORT PID
ready() { [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$1/readyz")" = 200 ]; }

# edge [SED-SCRIPT] starts lockstep-edge at $edge, $edge_admin with what bootstrap prints, edited.
edge() {
	port edge
	port edge_admin
	lockstep bootstrap edge --node "edge-$edge" --listen "127.0.0.1:$edge" --admin "127.0.0.1:$edge_admin" \
		--upstream "127.0.0.1:${up:-1}" --edge-data "" >edge.yaml || wrong "fixture: no bootstrap"
	[ -z "${1:-}" ] || sed -i -E "$1" edge.yaml
	spawn edge.log "$bin/lockstep-edge" --config edge.yaml
	edge_pid=$!
	within 20 settled "$edge_admin" $edge_pid
	ready "$edge_admin" || wrong "fixture: lockstep-edge does not start: $(grep . edge.log | tail -1)"
}

# envoy HOST... starts an Envoy at $eager with a filter chain for each host; without hosts one at
# $ondemand that fetches certificates at the first handshake.
envoy() {
	[ -x "$envoy" ] || skip "Envoy is not here: make envoy"
	local hosts=() host p a mode=on-demand
	for host; do hosts+=(--host "$host") mode=eager; done
	port p
	port a
	lockstep bootstrap envoy --mode $mode "${hosts[@]}" --node "envoy-$p" --listen "127.0.0.1:$p" \
		--admin "127.0.0.1:$a" --upstream "127.0.0.1:${up:-1}" >"$mode-$p.yaml" || wrong "fixture: no bootstrap"
	run_envoy "$mode-$p.yaml"
	if [ $mode = eager ]; then eager=$p eager_pid=$envoy_pid eager_yaml=$mode-$p.yaml; else ondemand=$p; fi
	[ -n "${lame:-}" ] || opened "$p" "$mode-$p.yaml.log"
}

run_envoy() {
	spawn "$1.log" "$envoy" -c "$1" --concurrency 1 --disable-hot-restart --use-dynamic-base-id -l warn
	envoy_pid=$!
}

# fetch HOST PORT PATH [CURL OPTIONS] prints a response; status prints its code.
fetch() {
	local host=$1 p=$2 path=$3
	shift 3
	curl -sS -m 20 --cacert "$work/ca.crt" --resolve "$host:$p:127.0.0.1" "https://$host:$p$path" "$@"
}
status() { fetch "$@" -o /dev/null -w '%{http_code}' 2>/dev/null; }
answers() { [ "$(status "$2" "$3" /)" = "$1" ]; } # answers CODE HOST PORT

# raw HOST PORT [S_CLIENT OPTIONS] sends standard input over TLS, and prints what comes back.
raw() {
	local host=$1 p=$2
	shift 2
	timeout 15 openssl s_client -quiet -connect "127.0.0.1:$p" -servername "$host" "$@" 2>/dev/null
}

# session PORT VERSION [S_CLIENT OPTIONS] prints New or Reused. -sess_out FILE keeps the session,
# -sess_in FILE offers it.
session() {
	local p=$1 version=$2
	shift 2
	(printf 'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "${host:-shop.example}"; sleep .3) |
		timeout 10 openssl s_client "-$version" -connect "127.0.0.1:$p" -servername "${host:-shop.example}" "$@" \
			2>/dev/null | grep -aoE '^(New|Reused)' | head -1
}

# serial PORT HOST prints the serial number of the certificate that is served.
serial() {
	timeout 10 openssl s_client -connect "127.0.0.1:$1" -servername "$2" </dev/null 2>/dev/null |
		openssl x509 -noout -serial 2>/dev/null
}
# serves PORT HOST FILE
serves() { [ "$(serial "$1" "$2")" = "$(openssl x509 -in "$3" -noout -serial)" ]; }

line() { tr '\n' '|' | tr -s ' ' | cut -c1-"${1:-400}"; } # what is read, on one line
