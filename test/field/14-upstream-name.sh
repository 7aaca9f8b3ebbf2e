#!/bin/bash
# An https upstream is an address, and its certificate has a name. Another wants a certificate.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
issue back DNS:backend.internal
issue mine DNS:edge.internal extendedKeyUsage=clientAuth
plane
port s
spawn s.log openssl s_server -accept "$s" -cert back/tls.crt -key back/tls.key -www
opened "$s" s.log
to="s#upstreams:.*#upstreams: [\"https://127.0.0.1:$s\"]\n  upstream_ca: $work/ca.crt"
edge "$to#"
check 'by address alone' "$(status shop.example "$edge" /)" 502
check 'the error says what to set' "$(grep '"status":502' edge.log | tail -1)" '*upstream_name*'
edge "$to\n  upstream_name: backend.internal#"
check 'with upstream_name' "$(status shop.example "$edge" /)" 200
edge "$to\n  upstream_name: other.internal#"
check 'with another name' "$(status shop.example "$edge" /)" 502
port m
spawn m.log openssl s_server -accept "$m" -cert back/tls.crt -key back/tls.key -www -CAfile ca.crt -Verify 2 \
	-verify_return_error
opened "$m" m.log
to="${to/:$s/:$m}\n  upstream_name: backend.internal"
edge "$to#"
check 'a certificate is demanded' "$(status shop.example "$edge" /)" 502
edge "$to\n  upstream_cert: $work/mine/tls.crt\n  upstream_key: $work/mine/tls.key#"
check 'and shown' "$(status shop.example "$edge" /)" 200
verdict
