# Removes members that are not of the deployment from the cluster, one after the other: the dead first, and never one without which
# too few would be left.
#
# Reads: here (client URL of a member).
eval "$shell"
deadline=$((SECONDS + 120))

status() { [ -n "$1" ] && listens "$1" && at "$1" endpoint status; }

while all=$(at "$here" member list); do
    voters=0 up=0 leaver='' heir=''
    while IFS=', ' read -r id state name peer client learner; do
        if now=$(status "$client"); then alive=1; else alive=0; fi
        [ "$learner" = true ] || { voters=$((voters + 1)); up=$((up + alive)); }
        case " $listed" in
        *" $peer="*) [ "$alive$learner" != 1false ] || heir=$id ;;
        *) # ENDPOINT, ID, version, size, is leader, …
            leads=$(cut -d, -f5 <<<"$now" | tr -d ' ')
            if [ -z "$leaver" ] || [ "$alive" = 0 ]; then leaver="$id $alive $learner ${leads:-false} $client"; fi ;;
        esac
    done <<<"$all"
    [ -n "$leaver" ] || exit 0
    read -r id alive learner leads client <<<"$leaver"
    if [ "$learner" != true ] && [ $((up - alive)) -lt $(((voters - 1) / 2 + 1)) ]; then
        echo "member $id stays: of the $((voters - 1)) that would be left, only $((up - alive)) answer" >&2
        exit 1
    fi
    # Nobody has to wait for an election.
    if [ "$leads" = true ] && [ -n "$heir" ]; then at "$client" move-leader "$heir" || true; fi
    if ! at "$here" member remove "$id"; then
        # Soon after another change etcd wants to see that all are well first.
        [ "$SECONDS" -lt "$deadline" ] || break
        sleep 1
    fi
done
complaint >&2
exit 1
