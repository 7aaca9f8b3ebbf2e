#!/bin/bash
# Two fleets keep their stores in two databases of one Redis. Each rotates its own keys only.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli
port r
mkdir r
spawn redis.log redis-server --port "$r" --bind 127.0.0.1 --appendonly yes --appendfsync always --dir "$work/r"
opened "$r" redis.log
for db in 1 2; do
	port admin
	spawn "d$db.log" "$bin/lockstepd" --data-dir "data$db" --admin-listen "127.0.0.1:$admin" \
		--store "redis://127.0.0.1:$r/$db"
	within 15 ready "$admin" || wrong "fixture: database $db: $(grep . "d$db.log" | tail -1)"
done
keys() { # keys FLEET prints the versions of its rings
	"$bin/lockstep" --data-dir "data$1" status -o json 2>/dev/null | tr -d ' \n' |
		grep -o '"version":"g[^"]*"' | sort -u
}
one=$(keys 1) two=$(keys 2)
"$bin/lockstep" --data-dir data1 rotate >rotate.out 2>&1
changed() { [ "$(keys 1)" != "$one" ]; }
within 10 changed || wrong "fixture: no rotation: $(tail -1 rotate.out)"
check 'the fleets have keys of their own' "$([ "$one" != "$two" ] && echo yes)" yes
check 'a rotation of one leaves the other alone' "$(keys 2)" "$two"
check 'nobody listens to channels' "$(redis-cli -p "$r" client list type pubsub)" ''
redis-cli -p "$r" -n 1 flushdb >/dev/null
ready2() { ready "$admin"; }
check 'the other serves on when one is emptied' "$(ready2 && keys 2)" "$two"
port admin
spawn d9.log timeout 15 "$bin/lockstepd" --data-dir data9 --admin-listen "127.0.0.1:$admin" \
	--store "redis://127.0.0.1:$r/99"
wait $! 2>/dev/null
check 'a database too many: the error says which setting' "$(grep . d9.log | tail -1)" '*databases*'
verdict
