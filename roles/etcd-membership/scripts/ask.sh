# Says what this member is to do: it founds, it joins, or it has joined.
#
# Reads: founds (true or false), name, peer_url.
eval "$shell"
if ! all=$(list); then
    case $founds in true) says=founds ;; *) says=joins ;; esac
elif ! is_in "$all"; then
    says=joins
else
    case $founds in true) says=founds ;; *) says=joined ;; esac
fi
echo "\"$says\"" >"$PLINTH_OUTPUT"
