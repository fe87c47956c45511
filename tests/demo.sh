#!/usr/bin/env bash
# The demo: an etcd cluster of three lab nodes, a balancer in front of it and a client, from nothing.
#
#   tests/demo.sh up      make packages and build came before; starts the engine, applies, proves, leaves it running
#   tests/demo.sh down    takes everything away again: nodes, network, image, engine, data
#
# May be interrupted and called again at any time. Everything lies in one folder, DEMO (default /var/lib/plinth-demo).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
plinth=${PLINTH:-$target/debug/plinth}
export PLINTH_DATA=${DEMO:-/var/lib/plinth-demo}
export PLINTH_AGENT=${PLINTH_AGENT:-$target/plinth-agent}
unset PLINTH_ENDPOINT PLINTH_TOKEN DATABASE_URL
log=$PLINTH_DATA/serve.log
began=$(date +%s.%N)
timings=()

die() { echo "demo: $*" >&2; exit 1; }

took() { # what since
    timings+=("$(printf '%6.1f s  %s' "$(echo "$(date +%s.%N) $2" | awk '{print $1 - $2}')" "$1")")
}

[ "$(id -u)" = 0 ] || die "needs root for lab nodes; run: sudo make demo"
[ -x "$plinth" ] || die "$plinth is not there; run: make build"

# The engine of the demo, by the pid file that we wrote and what runs under that pid.
engine_pid() {
    local pid
    pid=$(cat "$PLINTH_DATA/serve.pid" 2>/dev/null) || return 1
    [ "$(readlink "/proc/$pid/exe" 2>/dev/null | sed 's/ (deleted)$//')" = "$(readlink -f "$plinth")" ] || return 1
    echo "$pid"
}

answers() { "$plinth" deployment list >/dev/null 2>&1; }

start_engine() {
    if pid=$(engine_pid) && answers; then
        echo "the engine runs already (pid $pid)"
        return
    fi
    rm -f "$PLINTH_DATA/endpoint.json"
    setsid "$plinth" serve --listen 127.0.0.1:0 --dns "$(names):53" --lists "$(names):80" >>"$log" 2>&1 </dev/null &
    local pid=$!
    echo "$pid" >"$PLINTH_DATA/serve.pid"
    # The file with the endpoint is the sign that it serves; a process that ended will never write it.
    until [ -e "$PLINTH_DATA/endpoint.json" ] && answers; do
        kill -0 "$pid" 2>/dev/null || { tail -n 20 "$log" >&2; die "the engine did not start; its log is $log"; }
        sleep 0.2
    done
    echo "the engine serves (pid $pid, log $log)"
}

members() { "$plinth" deployment show demo >/dev/null && "$plinth" node list -o name | grep '^demo-members-'; }

# Where the engine answers DNS questions: the lab's own address on this machine. Nothing else of the machine asks there.
names() { sed -n 's/^ *"subnet": "\([0-9.]*\)\.[0-9]*\/.*/\1.1/p' "$PLINTH_DATA/lab/lab.json"; }

# The example, with names that are answered.
document() {
    cp "$root/docs/examples/demo.yaml" "$PLINTH_DATA/demo.yaml"
    echo "parameters: {resolvers: [$(names)], subnets: [$(names | sed 's/1$/0/')/24]}" >>"$PLINTH_DATA/demo.yaml"
    echo "$PLINTH_DATA/demo.yaml"
}

# etcdctl on a member, with the certificate of that member.
ctl() { # node arguments
    local node=$1 tls=/etc/etcd/tls/server
    shift
    "$plinth" exec "$node" -- etcdctl --endpoints="$(endpoint "$node")" --cacert=$tls/ca.pem --cert=$tls/cert.pem --key=$tls/key.pem "$@"
}

endpoint() { "$plinth" node show "$1" -o json | sed -n 's/^ *"address": "\([0-9.]*\)".*/https:\/\/\1:2379/p' | head -n 1; }

# On the client, with what etcdctl has to know: its endpoint is the balancer, by name.
through() { # script
    "$plinth" exec demo-clients-1 -- bash -c "set -a; . /etc/etcd/client.env; $1" 2>&1
}

refused() { # who script
    local said
    if said=$(through "$2; timeout 5 etcdctl --dial-timeout=1s --command-timeout=1s get demo"); then die "$1 is let in: $said"; fi
    echo "refused: $1"
}

prove_names() {
    local name=etcd-balanced.demo.plinth.internal address
    "$plinth" dns records demo.plinth.internal
    "$plinth" exec demo-clients-1 -- getent ahostsv4 "$name" >/dev/null || die "the client does not find $name"
    [[ $("$plinth" drift demo --node demo-clients-1 --role etcd-client-lookup) == *conform* ]] || die "$name leads elsewhere for the client"
    address=$(endpoint demo-members-1 | sed 's/https:..\(.*\):.*/\1/')
    [[ $(through "getent hosts $address") == *demo-members-1.demo.plinth.internal* ]] || die "the client does not know who $address is"
    through 'etcdctl put balanced "by name"' >/dev/null || die "nothing is written through $name"
    [[ $(through 'etcdctl get --print-value-only balanced') == *"by name"* ]] || die "nothing is read through $name"
    echo "written and read by a client with its certificate, through $(through 'echo $ETCDCTL_ENDPOINTS' | grep -o 'https.*')"
}

# Another service with an authority of its own, which signs a request of the client.
foreign() {
    local folder=$PLINTH_DATA/other name=demo-clients-1.other.plinth.internal
    mkdir -p "$folder/roles/other-ca" "$folder/workloads/other"
    echo '{bundle: other, version: 1.0.0}' >"$folder/bundle.yaml"
    echo '{role: other-ca, version: 1.0.0, about: The authority of another service., is: certificate-authority, milestone: true, with: {common_name: other}}' \
        >"$folder/roles/other-ca/role.yaml"
    echo '{workload: other, version: 1.0.0, about: Another service., groups: {none: {}}, roles: {deployment: [other-ca]}}' >"$folder/workloads/other/workload.yaml"
    echo '{deployment: other, workload: other, nodes: {}}' >"$folder/other.yaml"
    "$plinth" bundle push "$folder" >/dev/null
    "$plinth" apply "$folder/other.yaml" --yes --wait >/dev/null
    through "mkdir -p /root/foreign; cd /root/foreign; openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key \
        -subj /CN=demo-clients-1 -addext subjectAltName=DNS:$name -out csr 2>/dev/null; base64 -w 0 csr" | grep -o '[A-Za-z0-9+/=]*$' | base64 -d >"$folder/csr"
    "$plinth" cert sign other other-ca --request "$folder/csr" --subject demo-clients-1 --names "$name" >"$folder/cert"
    through "echo '$(cat "$folder/cert")' >/root/foreign/cert" >/dev/null
}

prove_refusals() {
    local serial before='ETCDCTL_CERT=/root/before/cert ETCDCTL_KEY=/root/before/key'
    refused "a client without a certificate" 'unset ETCDCTL_CERT ETCDCTL_KEY'
    foreign
    refused "a client with a certificate of another service's authority" 'ETCDCTL_CERT=/root/foreign/cert ETCDCTL_KEY=/root/foreign/key'
    # The certificate that it has is kept aside, and taken back when it has another one.
    through 'mkdir -p /root/before; cp $ETCDCTL_CERT /root/before/cert; cp $ETCDCTL_KEY /root/before/key' >/dev/null
    serial=$(through 'openssl x509 -in $ETCDCTL_CERT -noout -serial' | sed -n 's/.*serial=//p')
    "$plinth" cert renew "$serial"
    for _ in $(seq 50); do ! through 'cmp -s $ETCDCTL_CERT /root/before/cert' >/dev/null || { sleep 0.1; continue; }; break; done
    "$plinth" cert revoke "$serial" --reason superseded
    # The list goes to every member; until it is there, that member knows nothing of it.
    for _ in $(seq 50); do through "$before; etcdctl --dial-timeout=1s --command-timeout=1s get demo" >/dev/null || break; done
    refused "a client with a certificate that was revoked" "$before"
    [[ $(through 'etcdctl get --print-value-only balanced') == *"by name"* ]] || die "the client's next certificate does not do"
    through 'rm -r /root/before' >/dev/null
    echo "let in: the client with its next certificate"
}

prove() {
    local first node key value
    mapfile -t nodes < <(members)
    [ "${#nodes[@]}" -ge 3 ] || die "demo has ${#nodes[@]} nodes, not three"
    first=${nodes[0]} key=demo value="it works, $(date -u +%FT%TZ)"
    ctl "$first" put "$key" "$value" >/dev/null
    for node in "${nodes[@]:1}"; do
        ctl "$node" get --print-value-only "$key" | grep -qF "$value" ||
            die "$node does not have what was written through $first"
        echo "written through $first, read through $node: $value"
    done
    for node in "${nodes[@]}"; do ctl "$node" endpoint health 2>&1; done
    prove_names
    prove_refusals
}

up() {
    local since
    mkdir -p "$PLINTH_DATA"
    chmod 0755 "$PLINTH_DATA"
    since=$(date +%s.%N); "$plinth" lab up; took "base image and network of the lab" "$since"
    since=$(date +%s.%N); start_engine; took "start the engine" "$since"
    since=$(date +%s.%N)
    "$plinth" apply "$(document)" --yes --wait
    took "apply: nodes, packages, names, etcd, balancer" "$since"
    "$plinth" status demo
    since=$(date +%s.%N); prove; took "proof" "$since"
    echo
    printf '%s\n' "${timings[@]}"
    took "in all" "$began"; printf '%s\n' "${timings[-1]}"
    cat <<TEXT

It is left running. To go on (make demo-down takes it away):

  export PLINTH_DATA=$PLINTH_DATA PATH=$(dirname "$plinth"):\$PATH
  plinth status demo --watch
  plinth why demo deployment/etcd-ready
  plinth graph demo -o mermaid
  plinth exec $(members | head -n 1) -- bash -c 'cd /etc/etcd/tls/server; etcdctl --endpoints=$(endpoint "$(members | head -n 1)") --cacert=ca.pem --cert=cert.pem --key=key.pem member list'
  plinth exec demo-clients-1 -- bash -c 'set -a; . /etc/etcd/client.env; etcdctl endpoint health'
  dig @$(names) +short etcd.demo.plinth.internal
  plinth scale demo members 5 --wait
  plinth destroy demo
TEXT
}

down() {
    local pid name
    if pid=$(engine_pid); then
        for name in $(timeout 20 "$plinth" deployment list -o name 2>/dev/null || true); do
            timeout 300 "$plinth" destroy "$name" --yes --wait || echo "demo: $name is not gone; its nodes are taken away all the same" >&2
        done
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
        ! kill -0 "$pid" 2>/dev/null || kill -9 "$pid"
    fi
    # Also what an interrupted demo or a killed engine left.
    if [ -d "$PLINTH_DATA/postgres" ]; then "$plinth" database stop; fi
    "$plinth" lab down --purge
    rm -rf "$PLINTH_DATA"
    echo "everything of the demo is gone; Debian packages and the build are left"
}

case ${1:-} in
up) up ;;
down) down ;;
*) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
