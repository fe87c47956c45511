# Says with whom this member starts, itself among them, and whom it will ask to make it a full member.
#
# Reads: name, peer_url.
eval "$shell"
if ! all=$(list); then
    echo "no other member says who is in the cluster: $(complaint)" >&2
    exit 1
fi
# One that never started has told neither name nor client URL.
awk -F', ' -v me="$name" -v mine="$peer_url" '
    { name = $4 == mine ? me : ($3 == "" ? $1 : $3)
      cluster = cluster (NR > 1 ? ", " : "") sprintf("{\"name\": \"%s\", \"peer_url\": \"%s\"}", name, $4)
      if ($5 != "" && $4 != mine) through = through (through == "" ? "" : ", ") "\"" $5 "\"" }
    END { printf "{\"state\": \"existing\", \"initial_cluster\": [%s], \"through\": [%s]}\n", cluster, through }
' <<<"$all" >"$PLINTH_OUTPUT"
