# A learner becomes a full member as soon as it has caught up. Learners can not ask for it themselves.
#
# Reads: peer_url, through: client URLs of the others.
eval "$shell"
deadline=$((SECONDS + 180))

while [ "$SECONDS" -lt "$deadline" ]; do
    for url in $through; do
        all=$(at "$url" member list) || continue
        IFS=', ' read -r id _ _ _ _ learner < <(grep -F ", $peer_url, " <<<"$all") || continue
        if [ "$learner" = false ] || at "$url" member promote "$id"; then exit 0; fi
    done
    sleep 0.5
done
echo "still a learner: $(complaint)" >&2
exit 1
