#!/bin/sh
# A curl that makes N connections, one after the other. It keeps its sessions for as long as it
# runs, and cannot wait between two. So whoever starts it lets one connection through at a time.
#
#     client.sh HOST PORT CA VERSION DIR N
host=$1 port=$2 ca=$3 version=$4 n=$6
exec curl -sS --no-keepalive -H 'Connection: close' --http1.1 --cacert "$ca" --tlsv"$version" \
	--tls-max "$version" --resolve "$host:$port:127.0.0.1" \
	-w '%{stderr}ok\n' -o /dev/null "https://$host:$port/?[1-$n]" 2>&1
