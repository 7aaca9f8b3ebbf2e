#!/bin/bash
# A NATS account demands a size of each stream. Another has one server for three copies.
. "$(dirname "$0")/lib.sh"
server=${TMPDIR:-/tmp}/field-nats-server
command -v go >/dev/null || skip "go is not here, which builds nats-server"
(cd "$root" && go build -o "$server" github.com/nats-io/nats-server/v2) || skip "nats-server does not build"
port n
printf p >pw
cat >nats.conf <<N
listen: 127.0.0.1:$n
jetstream { store_dir: "$work/js" }
accounts {
	A { jetstream { max_mem: 64M, max_file: 1G, max_bytes_required: true }, users [ {user: u, password: p} ] }
	B { jetstream: enabled, users [ {user: v, password: p} ] }
	C { users [ {user: w, password: p} ] }
	D { jetstream { max_mem: 1M, max_file: 1M }, users [ {user: x, password: p} ] }
}
N
spawn nats.log "$server" -c nats.conf
opened "$n" nats.log
try() { # try USER OPTIONS prints the code of readyz, or the last words of lockstepd
	rm -rf data
	port admin
	spawn try.log timeout 15 "$bin/lockstepd" --data-dir data --admin-listen "127.0.0.1:$admin" \
		--store "nats://$1@127.0.0.1:$n?password_file=$work/pw$2"
	local pid=$!
	within 15 settled "$admin" $pid
	ready "$admin" && echo 200 || grep . try.log | grep -iE 'error|store|lockstepd:' | tail -1
	stop $pid
}
check 'a size is demanded' "$(try u '&replicas=1')" '*max_bytes*'
check 'and given' "$(try u '&replicas=1&max_bytes=64MB')" 200
check 'three copies on one server' "$(try v '')" '*replicas=1*'
check 'one copy' "$(try v '&replicas=1')" 200
check 'an account without JetStream' "$(try w '&replicas=1')" '*[jJ]et[sS]tream*'
check 'a size that the account does not have' "$(try x '&replicas=1&max_bytes=64MB')" '*max_bytes*'
verdict
