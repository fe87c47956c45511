#!/usr/bin/env bash
# Installs the Debian packages that tests on real parts need, saying which and why; does nothing when all are there.
set -euo pipefail

declare -A why=(
    [gcc]="linking"
    [libc6-dev]="the C library, static for the agent"
    [postgresql]="the engine's database"
    [openssh-server]="hosts that are reached by SSH"
    [openssh-client]="keys for them"
    [sudo]="hosts whose user is not root"
    [passwd]="users made for a test"
    [procps]="ending what a test started"
    [curl]="downloads by the agent"
    [debootstrap]="base image of lab nodes"
    [debian-archive-keyring]="its signatures"
    [systemd-container]="lab nodes"
    [util-linux]="their namespaces"
    [mount]="their file systems"
    [iptables]="the lab's way to the outside"
    [iproute2]="the lab's bridge"
    [bind9]="a server of others that names are pushed to"
    [knot]="another one"
    [pdns-server]="a third one, by its API"
    [pdns-backend-sqlite3]="where it keeps its zones"
    [sqlite3]="making its tables"
    [haproxy]="what the agent tells a load balancer"
    [bind9-dnsutils]="asking as others do"
)

missing=()
for package in "${!why[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

for package in "${missing[@]}"; do
    echo "installing $package: ${why[$package]}"
done
if [ "$(id -u)" != 0 ]; then
    echo "packages.sh: not root; run: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
# Debian would make and start a cluster of its own with the package.
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
# And servers with others: tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"
for package in "${missing[@]}"; do
    case $package in
        bind9) systemctl disable -q named 2>/dev/null || true ;;
        pdns-server) systemctl disable -q pdns 2>/dev/null || true ;;
        knot | haproxy) systemctl disable -q "$package" 2>/dev/null || true ;;
    esac
done
