# Is added to the running cluster, unless it is in it already.
#
# Reads: name, peer_url, listed: PEER-URL=CLIENT-URL of every member of the deployment.
export ETCDCTL_API=3
deadline=$((SECONDS + 300))
said=$(mktemp)
trap 'rm -f "$said"' EXIT

# Does anybody listen there? etcdctl itself asks for seconds where the answer is no at once.
listens() { local at=${1#*://}; timeout 2 bash -c ": </dev/tcp/${at%:*}/${at##*:}" 2>/dev/null; }

# Asks one running member after the other, until one does it. Learners and those who are down do not.
ask() {
    local pair
    for pair in $listed; do
        if [ "${pair%%=*}" = "$peer_url" ] || ! listens "${pair#*=}"; then continue; fi
        if etcdctl --endpoints="${pair#*=}" --dial-timeout=2s --command-timeout=5s "$@" 2>"$said"; then return 0; fi
    done
    return 1
}

# ID, state, name, peer URL, client URL and whether it is a learner, of each member.
members() { ask member list; }

is_in() { grep -qF ", $peer_url, " <<<"$1"; }

# A cluster with dead members takes nobody in. Those that are dead and not of the deployment any more do not come back.
bury() {
    local id state other_name peer client learner
    while IFS=', ' read -r id state other_name peer client learner; do
        case " $listed" in *" $peer="*) continue ;; esac
        if [ -n "$client" ] && listens "$client"; then continue; fi
        echo "member $id (${other_name:-never started}) is dead and leaves: removing it"
        ask member remove "$id" || cat "$said"
    done <<<"$1"
}

learner=
if etcdctl member add --help 2>&1 | grep -q -e --learner; then learner=--learner; fi
until list=$(members) && is_in "$list"; do
    if [ -n "$list" ]; then
        bury "$list"
        # The next look at the list says whether it is in. Refused: one learner at a time, and nobody while somebody is down.
        ask member add "$name" --peer-urls="$peer_url" $learner || true
    fi
    if [ "$SECONDS" -ge "$deadline" ]; then
        echo "not taken in: $(tail -n 1 "$said")" >&2
        exit 1
    fi
    sleep 1
done
