#!/bin/bash
# The certificate of Redis has a name. Sentinel, or Cluster, answers with an address.
. "$(dirname "$0")/lib.sh"
need redis-server redis-sentinel redis-cli
issue localhost DNS:localhost
tls=(--tls-cert-file "$work/localhost/tls.crt" --tls-key-file "$work/localhost/tls.key"
	--tls-ca-cert-file "$work/ca.crt" --tls-auth-clients no)
port r
port s
port k
mkdir r k
spawn redis.log redis-server --port 0 --tls-port "$r" "${tls[@]}" --bind 127.0.0.1 --appendonly yes \
	--appendfsync always --dir "$work/r"
# Redis takes a port and one that is 10000 higher as the bus of the cluster.
spawn cluster.log redis-server --port 0 --tls-port "$k" "${tls[@]}" --bind 127.0.0.1 --appendonly yes \
	--appendfsync always --dir "$work/k" --cluster-enabled yes --tls-cluster yes --tls-replication yes \
	--cluster-port $((k + 5000))
cat >sentinel.conf <<N
port 0
bind 127.0.0.1
tls-port $s
tls-replication yes
tls-cert-file $work/localhost/tls.crt
tls-key-file $work/localhost/tls.key
tls-ca-cert-file $work/ca.crt
tls-auth-clients no
dir $work
sentinel monitor mymaster 127.0.0.1 $r 1
N
opened "$r" redis.log
spawn sentinel.log redis-sentinel sentinel.conf
opened "$s" sentinel.log
opened "$k" cluster.log
cli() { redis-cli --tls --cacert ca.crt --sni localhost -h localhost -p "$k" "$@"; }
cli cluster addslotsrange 0 16383 >cluster.out 2>&1
clustered() { cli cluster info | grep -q cluster_state:ok; }
within 10 clustered || wrong "fixture: no cluster: $(cli cluster info | head -1)"
try() { # try URL prints the code of readyz, or the last words of lockstepd
	rm -rf data
	port admin
	spawn try.log timeout 15 "$bin/lockstepd" --data-dir data --admin-listen "127.0.0.1:$admin" --store "$1"
	local pid=$!
	within 15 settled "$admin" $pid
	ready "$admin" && echo 200 || grep . try.log | tail -1
	stop $pid
}
sentinel="rediss+sentinel://localhost:$s/mymaster?tls_ca=$work/ca.crt"
cluster="rediss+cluster://localhost:$k?tls_ca=$work/ca.crt"
check 'Sentinel: the error says what to set' "$(try "$sentinel")" '@(*tls_name*|200)'
check 'Sentinel with tls_name' "$(try "$sentinel&tls_name=localhost")" 200
check 'Cluster with tls_name' "$(try "$cluster&tls_name=localhost")" 200
check 'another tls_name' "$(try "$sentinel&tls_name=other.internal")" '*other.internal*'
verdict
