#!/usr/bin/env bash
# What the public QUIC interop runner starts in the container of interop/Dockerfile. It gives ROLE, TESTCASE, REQUESTS
# and SSLKEYLOGFILE; files lie in /www, /downloads and /certs. Exit code 127 means: this endpoint does not have the case.
set -euo pipefail

. /setup.sh

flags=()
case "$TESTCASE" in
    handshake | transfer | longrtt | ipv6 | ecn | blackhole | goodput | crosstraffic | multiplexing | amplificationlimit | \
        transferloss | transfercorruption | rebind-port | rebind-addr) ;;
    chacha20 | v2 | http3) flags+=("--$TESTCASE") ;;
    retry) [ "$ROLE" = client ] || flags+=(--retry) ;;
    resumption) [ "$ROLE" = server ] || flags+=(--resume) ;;
    zerortt) [ "$ROLE" = server ] || flags+=(--zero-rtt) ;;
    keyupdate) [ "$ROLE" = server ] || flags+=(--key-update) ;;
    multiconnect | handshakeloss | handshakecorruption) [ "$ROLE" = server ] || flags+=(--multiconnect) ;;
    # The client follows a preferred address by itself; the server here listens at one address only.
    connectionmigration) [ "$ROLE" = client ] || exit 127 ;;
    versionnegotiation) [ "$ROLE" = server ] || flags+=(--unknown-version) ;;
    *) exit 127 ;;
esac
[ -z "${SSLKEYLOGFILE:-}" ] || flags+=(--key-log "$SSLKEYLOGFILE")

if [ "$ROLE" = server ]; then
    # The server ends with its standard input; a container's is closed from the beginning.
    sleep infinity | warpline-interop server --root /www --bind '[::]:443' --cert /certs/cert.pem --key /certs/priv.key \
        "${flags[@]}"
else
    /wait-for-it.sh sim:57832 -s -t 30
    read -r -a urls <<<"$REQUESTS"
    authority=${urls[0]#https://}
    authority=${authority%%/*}
    host=${authority%:*}
    address=$(getent ahosts "$host" | awk 'NR == 1 { print $1 }')
    case "$address" in *:*) address="[$address]" ;; esac
    warpline-interop client --connect "$address:${authority##*:}" --server-name "$host" --ca /certs/ca.pem --out /downloads \
        "${flags[@]}" "${urls[@]}"
fi
