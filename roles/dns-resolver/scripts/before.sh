# Who answers for programs of this node, and the lines of /etc/resolv.conf without ours: {"by": …, "lines": […]}.
file=/etc/resolv.conf
to=$(readlink -f "$file")
case $to in
    /run/systemd/resolve/*)
        printf '{"by": "systemd-resolved", "lines": []}' >"$PLINTH_OUTPUT"
        exit
        ;;
    "$file") ;;
    *)
        echo "$file is a link to $to: something else writes it" >&2
        exit 1
        ;;
esac
[ -e "$file" ] || touch "$file"
# Ours end with this line; without it nothing is ours.
ours='# Those above are answered by Plinth.'
if grep -qxF "$ours" "$file"; then
    lines=$(sed "1,/^$ours\$/d" "$file")
else
    lines=$(cat "$file")
fi
{
    printf '{"by": "resolv.conf", "lines": ['
    printf '%s' "$lines" | tr '\t' ' ' | sed -e 's/[\\"]/\\&/g' -e 's/.*/"&"/' | paste -sd, | tr -d '\n'
    printf ']}'
} >"$PLINTH_OUTPUT"
