# A learner becomes a full member as soon as it has caught up. Learners can not ask for it themselves.
#
# Reads: peer_url, through: client URLs of the others.
export ETCDCTL_API=3
deadline=$((SECONDS + 180))
said=$(mktemp)
trap 'rm -f "$said"' EXIT

at() { etcdctl --endpoints="$1" --dial-timeout=2s --command-timeout=5s "${@:2}" 2>"$said"; }

while [ "$SECONDS" -lt "$deadline" ]; do
    for url in $through; do
        list=$(at "$url" member list) || continue
        IFS=', ' read -r id _ _ _ _ learner < <(grep -F ", $peer_url, " <<<"$list") || continue
        if [ "$learner" = false ] || at "$url" member promote "$id"; then exit 0; fi
    done
    sleep 0.5
done
echo "still a learner: $(tail -n 1 "$said")" >&2
exit 1
