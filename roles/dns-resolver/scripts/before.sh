# The lines of /etc/resolv.conf without ours, as a JSON array.
file=/etc/resolv.conf
if [ "$(readlink -f "$file")" != "$file" ]; then
    echo "$file is a link to $(readlink -f "$file"): something else writes it" >&2
    exit 1
fi
[ -e "$file" ] || touch "$file"
# Ours end with this line; without it nothing is ours.
ours='# Those above are answered by Plinth.'
if grep -qxF "$ours" "$file"; then
    lines=$(sed "1,/^$ours\$/d" "$file")
else
    lines=$(cat "$file")
fi
{
    printf '['
    printf '%s' "$lines" | tr '\t' ' ' | sed -e 's/[\\"]/\\&/g' -e 's/.*/"&"/' | paste -sd, | tr -d '\n'
    printf ']'
} >"$PLINTH_OUTPUT"
