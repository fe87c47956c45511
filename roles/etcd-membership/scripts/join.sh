# Is added to the running cluster, unless it is in it already.
#
# Reads: name, peer_url.
eval "$shell"
deadline=$((SECONDS + 300))

# A cluster with dead members takes nobody in. Those that do not come back: who is not of the deployment any more, and who was at
# our place before our node was made anew.
bury() {
    local id state other peer client learner
    while IFS=', ' read -r id state other peer client learner; do
        if [ "$peer" != "$peer_url" ]; then
            case " $listed" in *" $peer="*) continue ;; esac
            if [ -n "$client" ] && listens "$client"; then continue; fi
        fi
        echo "member $id (${other:-never started}) is dead: removing it"
        ask member remove "$id" || cat "$said"
    done <<<"$1"
}

learner=
if etcdctl member add --help 2>&1 | grep -q -e --learner; then learner=--learner; fi
until all=$(list) && is_in "$all"; do
    if [ -n "$all" ]; then
        bury "$all"
        # The next look at the list says whether it is in. Refused: one learner at a time, and nobody while somebody is down.
        ask member add "$name" --peer-urls="$peer_url" $learner || true
    fi
    if [ "$SECONDS" -ge "$deadline" ]; then
        echo "not taken in: $(complaint)" >&2
        exit 1
    fi
    sleep 1
done
