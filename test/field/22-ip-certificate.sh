#!/bin/bash
# A certificate for an IP address, for clients that send no server name.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example,IP:127.0.0.1
issue certs/127.0.0.1 IP:127.0.0.1
issue certs/other.example DNS:other.example
origin
plane
check 'no problem' "$(lockstep cert list 2>&1 | grep '^127.0.0.1' | grep -c 'bad certificate\|not a server name')" 0
check 'listed' "$(lockstep cert list 2>&1 | grep -c '^127.0.0.1')" 1
check explain "$(lockstep explain 127.0.0.1 2>&1 | line)" '*directory*'
by_address() { curl -s --cacert ca.crt -o /dev/null -w '%{http_code}' "https://127.0.0.1:$edge/"; }
edge 's/^  scope: .*/&\n  fallback: shop.example/'
check 'the fallback has the address' "$(by_address)" 200
edge 's/^  scope: .*/&\n  fallback: 127.0.0.1/'
check 'the fallback is the address' "$(by_address)" 200
check 'others by name' "$(status other.example "$edge" /)" 200
edge 's/^  scope: .*/&\n  fallback: other.example/'
check 'the fallback has another name' "$(by_address)" 200
rm -r certs/127.0.0.1
gone() { ! lockstep cert list | grep -q ^127.0.0.1; }
within 15 gone
edge 's/^  scope: .*/&\n  fallback: other.example/'
check 'nothing has the address' "$(by_address)" 000
verdict
