# Those who stay let go of this member, if it is in the cluster still. Its etcd does not run any more.
#
# Reads: peer_url; nobody is listed when the whole cluster goes.
eval "$shell"
deadline=$((SECONDS + 60))

[ -n "${listed// /}" ] || exit 0
until all=$(list) && ! grep -qF ", $peer_url, " <<<"$all"; do
    id=$(awk -F', ' -v mine="$peer_url" '$4 == mine { print $1 }' <<<"$all")
    # Refused by etcd itself where too few would be left.
    [ -z "$id" ] || ask member remove "$id" || true
    if [ "$SECONDS" -ge "$deadline" ]; then
        echo "still a member: $(complaint)" >&2
        exit 1
    fi
    sleep 1
done
