# Says with whom this member starts, itself among them, and whom it will ask to make it a full member.
#
# Reads: name, peer_url, listed: PEER-URL=CLIENT-URL of every member of the deployment.
export ETCDCTL_API=3

# Does anybody listen there? etcdctl itself asks for seconds where the answer is no at once.
listens() { local at=${1#*://}; timeout 2 bash -c ": </dev/tcp/${at%:*}/${at##*:}" 2>/dev/null; }

for pair in $listed; do
    if [ "${pair%%=*}" = "$peer_url" ] || ! listens "${pair#*=}"; then continue; fi
    list=$(etcdctl --endpoints="${pair#*=}" --dial-timeout=2s --command-timeout=5s member list) || continue
    # ID, state, name, peer URL, client URL, is a learner. One that never started has told neither name nor client URL.
    awk -F', ' -v me="$name" -v mine="$peer_url" '
        { name = $4 == mine ? me : ($3 == "" ? $1 : $3)
          cluster = cluster (NR > 1 ? ", " : "") sprintf("{\"name\": \"%s\", \"peer_url\": \"%s\"}", name, $4)
          if ($5 != "" && $4 != mine) through = through (through == "" ? "" : ", ") "\"" $5 "\"" }
        END { printf "{\"state\": \"existing\", \"initial_cluster\": [%s], \"through\": [%s]}\n", cluster, through }
    ' <<<"$list" >"$PLINTH_OUTPUT"
    exit
done
echo "no other member says who is in the cluster" >&2
exit 1
