#!/bin/bash
# What explain says of a renewal that is not served does not become "accepted" as time goes on.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
envoy shop.example
cp certs/shop.example/tls.crt good.crt
issue certs/shop.example DNS:shop.example tlsfeature=status_request
version() { lockstep explain shop.example 2>/dev/null | line; }
named() { lockstep cert list | grep '^shop.example' | grep -q staple; }
within 15 named
check 'named' $? 0
for _ in 1 2 3 4; do
	sleep 1
	check 'the one before is served' "$(serves "$eager" shop.example good.crt; echo $?)" 0
	check 'explain says why' "$(version)" '*staple*'
done
lockstep status >status 2>&1
check 'status is not in order' $? '[1-9]*'
verdict
