#!/bin/sh
# Keeps one lab machine of Plinth running: starts it, starts it again when it reboots, and ends when it is off.
#
#   supervise.sh NODE_DIR
#
# The machine's mounts and processes live in namespaces that belong to this process. Killing it takes all of them away
# at once, so there is nothing to unmount and nobody to look for. It outlives the engine that started it.
set -eu
node=$1
. "$node/machine" # NAME MACHINE UUID BRIDGE IMAGE LOWER

# A control group of its own for this machine in every hierarchy there is. Two machines in one group would take each
# other's services for their own. Where systemd runs the host, it has given us such a group already.
own_groups() {
    [ ! -d /run/systemd/system ] || return 0
    : >"$node/groups"
    groups=$(cat "/proc/$$/cgroup")
    while IFS=: read -r _ hierarchy path; do
        case $hierarchy in
        '') mount=/sys/fs/cgroup/unified; [ -d $mount ] || mount=/sys/fs/cgroup ;;
        *) mount=/sys/fs/cgroup/${hierarchy#name=} ;;
        esac
        [ -f "$mount/cgroup.procs" ] || continue
        parent=$mount${path%/}
        group=$parent/plinth-lab-$MACHINE
        echo "$group" >>"$node/groups"
        mkdir -p "$group"
        for set in cpuset.cpus cpuset.mems; do
            [ "$hierarchy" != cpuset ] || cat "$parent/$set" >"$group/$set"
        done
        echo $$ >"$group/cgroup.procs"
    done <<END
$groups
END
}

if [ "${2:-}" != inside ]; then
    # One supervisor per machine, also when two engines start it at the same moment. Everything below inherits the lock.
    exec 9>>"$node/lock"
    flock --nonblock 9 || exit 0
    exec 8<"$IMAGE" # in use: nobody removes it
    flock --shared 8
    own_groups
    set -- "$node" $(cut -d ')' -f 2 "/proc/$$/stat") # from the third field on: the name before it may hold blanks
    printf '%s %s %s\n' "$$" "${21}" "$(cat /proc/sys/kernel/random/boot_id)" >"$node/pid.new"
    mv "$node/pid.new" "$node/pid"
    exec unshare --mount --propagation private --pid --mount-proc --fork --kill-child=KILL -- /bin/sh "$0" "$node" inside
fi

# What nspawn keeps for itself stays in here too.
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=0755 plinth-lab /run/systemd/nspawn
mount -t overlay -o "lowerdir=$LOWER,upperdir=$node/upper,workdir=$node/work" plinth-lab "$node/root"

while :; do
    if [ "$(stat -c %s "$node/console" 2>/dev/null || echo 0)" -gt 4194304 ]; then
        mv "$node/console" "$node/console.old"
    fi
    code=0
    SYSTEMD_NSPAWN_API_VFS_WRITABLE=network systemd-nspawn \
        --quiet --boot --register=no --keep-unit --console=read-only \
        --directory="$node/root" --machine="$MACHINE" --hostname="$NAME" --uuid="$UUID" \
        --network-bridge="$BRIDGE" --capability=all --resolv-conf=off --timezone=off --link-journal=no \
        >>"$node/console" 2>&1 8<&- 9>&- </dev/null || code=$?
    # 133 is how nspawn says that the machine asked for a reboot.
    [ "$code" -eq 133 ] || break
done
[ "$code" -eq 0 ] || echo "systemd-nspawn ended with $code" >>"$node/console"
exit "$code"
