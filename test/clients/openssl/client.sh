#!/bin/sh
# An OpenSSL that makes a connection for each line on standard input. The session stands in a file.
#
#     client.sh HOST PORT CA VERSION DIR [early]
host=$1 port=$2 ca=$3 version=$4 dir=$5 early=${6-}
case $version in 1.2) only=-tls1_2 ;; 1.3) only=-tls1_3 ;; *) only= ;; esac
printf 'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$host" >"$dir/request"
while read -r _; do
	set -- -connect "127.0.0.1:$port" -servername "$host" -CAfile "$ca" -verify_return_error -quiet \
		$only -sess_out "$dir/next"
	if [ -s "$dir/session" ]; then
		set -- "$@" -sess_in "$dir/session"
		[ "$early" = early ] && set -- "$@" -early_data "$dir/request"
	fi
	if openssl s_client "$@" <"$dir/request" 2>"$dir/said" | grep -q '^HTTP/1.1 200'; then
		echo ok
	else
		echo "error: $(grep -a error "$dir/said" | tail -1)"
	fi
	[ -s "$dir/next" ] && mv "$dir/next" "$dir/session"
done
