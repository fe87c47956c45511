# Says what this member is to do: it founds, it joins, or it has joined.
#
# Reads: founds (true or false), peer_url, listed: PEER-URL=CLIENT-URL of every member of the deployment.
export ETCDCTL_API=3

# Does anybody listen there? etcdctl itself asks for seconds where the answer is no at once.
listens() { local at=${1#*://}; timeout 2 bash -c ": </dev/tcp/${at%:*}/${at##*:}" 2>/dev/null; }

for pair in $listed; do
    if [ "${pair%%=*}" = "$peer_url" ] || ! listens "${pair#*=}"; then continue; fi
    # A learner, or one without the others, does not say.
    list=$(etcdctl --endpoints="${pair#*=}" --dial-timeout=2s --command-timeout=5s member list 2>/dev/null) || continue
    known=false
    if grep -qF ", $peer_url, " <<<"$list"; then known=true; fi
    case $founds,$known in
    true,true) echo '"founds"' ;;
    *,true) echo '"joined"' ;;
    *) echo '"joins"' ;;
    esac >"$PLINTH_OUTPUT"
    exit
done
if [ "$founds" = true ]; then echo '"founds"'; else echo '"joins"'; fi >"$PLINTH_OUTPUT"
