# A read through the cluster: passes only where there is a leader. Then the member shakes hands with every other one that
# listens, as their client and as their peer, with what it has now.
#
# Reads: client_url, peer_ca, peer_cert, peer_key.
eval "$shell"
etcdctl --endpoints="$client_url" --command-timeout=5s endpoint health

peer() {
    curl --silent --show-error --http1.1 --max-time 5 --cacert "$peer_ca" --cert "$peer_cert" --key "$peer_key" \
        --output /dev/null "$1/version" 2>"$said"
}
client() { at "$1" endpoint status >/dev/null; }

# One that has just been started listens before it answers.
deadline=$((SECONDS + 20))
hand() {
    until "$1" "$2"; do
        listens "$2" || return 0
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "no handshake with $2: $(complaint)" >&2
            exit 1
        fi
        sleep 0.5
    done
}

all=$(at "$client_url" member list)
while IFS=', ' read -r _ _ _ peer_url_of client_url_of _; do
    if listens "$peer_url_of"; then hand peer "$peer_url_of"; fi
    if [ -n "$client_url_of" ] && listens "$client_url_of"; then hand client "$client_url_of"; fi
done <<<"$all"
