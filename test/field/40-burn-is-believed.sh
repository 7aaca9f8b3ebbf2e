#!/bin/bash
# The renewal of one host is bad, and the key of all has leaked. A burnt key is gone everywhere.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
issue certs/other.example DNS:other.example
origin
plane
envoy other.example shop.example
check 'a session' "$(session "$eager" tls1_2 -sess_out s12)$(session "$eager" tls1_3 -sess_out s13)" NewNew
check 'resumes' "$(session "$eager" tls1_2 -sess_in s12)$(session "$eager" tls1_3 -sess_in s13)" ReusedReused
issue certs/other.example DNS:other.example tlsfeature=status_request
named() { lockstep cert list | grep '^other.example' | grep -q staple; }
within 15 named
check 'the bad one is named' $? 0
lockstep burn default --yes --wait --timeout 40s >burnt 2>&1
check 'burn' "$?$(tail -1 burnt | cut -c1-100)" '0*'
check 'is refused then' "$(session "$eager" tls1_2 -sess_in s12)$(session "$eager" tls1_3 -sess_in s13)" NewNew
verdict
