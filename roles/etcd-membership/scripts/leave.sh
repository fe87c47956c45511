# Those who stay let go of this member, if it is in the cluster still. Its etcd does not run any more.
#
# Reads: peer_url, stay: PEER-URL=CLIENT-URL of those who stay; nobody does when the whole cluster goes.
export ETCDCTL_API=3
deadline=$((SECONDS + 60))
said=$(mktemp)
trap 'rm -f "$said"' EXIT

# Does anybody listen there? etcdctl itself asks for seconds where the answer is no at once.
listens() { local at=${1#*://}; timeout 2 bash -c ": </dev/tcp/${at%:*}/${at##*:}" 2>/dev/null; }

ask() {
    local pair
    for pair in $stay; do
        listens "${pair#*=}" || continue
        if etcdctl --endpoints="${pair#*=}" --dial-timeout=2s --command-timeout=5s "$@" 2>"$said"; then return 0; fi
    done
    return 1
}

[ -n "${stay// /}" ] || exit 0
until list=$(ask member list) && ! grep -qF ", $peer_url, " <<<"$list"; do
    id=$(awk -F', ' -v mine="$peer_url" '$4 == mine { print $1 }' <<<"$list")
    # Refused by etcd itself where too few would be left.
    [ -z "$id" ] || ask member remove "$id" || true
    if [ "$SECONDS" -ge "$deadline" ]; then
        echo "still a member: $(tail -n 1 "$said")" >&2
        exit 1
    fi
    sleep 1
done
