#!/bin/bash
# A certificate demands a stapled response: of a new host, and as the renewal of a good one.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
issue certs/staple.example DNS:staple.example tlsfeature=status_request
origin
plane
envoy shop.example
envoy
edge
cp certs/shop.example/tls.crt good.crt
begin=$SECONDS
check 'a new host on demand' "$(status staple.example "$ondemand" /)" 000
check 'it fails at once' "$((SECONDS - begin > 4))" 0
check 'at the edge' "$(status staple.example "$edge" /)" 000
check 'explain' "$(lockstep explain staple.example 2>&1 | line)" '*staple*'
issue certs/shop.example DNS:shop.example tlsfeature=status_request
refused() { lockstep cert list | grep '^shop.example' | grep -q staple; }
within 10 refused
check 'the list names the rule' $? 0
stop $eager_pid
run_envoy "$eager_yaml"
opened "$eager" "$eager_yaml.log"
serves "$eager" shop.example good.crt
check 'a new Envoy gets the good one' $? 0
check 'clients' "$(status shop.example "$eager" /)$(status shop.example "$edge" /)" 200200
verdict
