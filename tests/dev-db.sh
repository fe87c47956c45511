#!/usr/bin/env bash
# A Postgres for developers: the `query!` macros are compiled against it.
#
#   tests/dev-db.sh start     start it, bring its schema to what migrations/ says, print the URL
#   tests/dev-db.sh url       print the URL (of a started one or not)
#   tests/dev-db.sh env       print `export DATABASE_URL=...`, for eval
#   tests/dev-db.sh psql ...  open a prompt in it, or run what follows
#   tests/dev-db.sh prepare   start, then write .sqlx/ with `cargo sqlx prepare`; `prepare --check` only compares
#   tests/dev-db.sh stop      stop it; the data stay in target/dev-db
#
# It lives in target/dev-db and is nobody else's: no TCP, a socket in a 0700 directory, no fsync.
# `start` may be called again at any time: it does only what is missing. When a file of migrations/ has changed,
# the database is made anew from all of them, and the old one stays if one of them fails.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
case $target in /*) ;; *) target=$root/$target ;; esac

die() { echo "dev-db: $*" >&2; exit 1; }

find_binaries() {
    if [ -n "${PLINTH_POSTGRES_BIN:-}" ]; then
        [ -x "$PLINTH_POSTGRES_BIN/postgres" ] || die "PLINTH_POSTGRES_BIN=$PLINTH_POSTGRES_BIN holds no postgres"
        echo "$PLINTH_POSTGRES_BIN"
        return
    fi
    local found
    found=$(find /usr/lib/postgresql -mindepth 3 -maxdepth 3 -path '*/bin/postgres' 2>/dev/null | sort -t/ -k5,5n | tail -n 1)
    [ -n "$found" ] || found=$(command -v postgres || true)
    [ -n "$found" ] || die "no Postgres binaries found: install the Debian package postgresql, or set PLINTH_POSTGRES_BIN"
    dirname "$(readlink -f "$found")"
}

# Postgres refuses to run as root.
if [ "$(id -u)" = 0 ]; then
    if id -u postgres >/dev/null 2>&1; then account=postgres; else account=nobody; fi
    as_owner() { setpriv --reuid "$account" --regid "$(id -g "$account")" --clear-groups -- "$@"; }
else
    account=$(id -un)
    as_owner() { "$@"; }
fi

# The folder: target/dev-db, or a short one elsewhere that target/dev-db points to, when the account cannot get
# there (a 0700 home) or when the path of the socket would be too long.
place() {
    local wanted=$target/dev-db
    mkdir -p "$target"
    if [ -L "$wanted" ]; then
        base=$(readlink "$wanted")
    elif [ ${#wanted} -gt 85 ] || ! (cd / && as_owner test -x "$target"); then
        base=/var/tmp/plinth-dev-$(id -u)-$(printf %s "$wanted" | sha256sum | cut -c1-12)
        ln -sfn "$base" "$wanted"
    else
        base=$wanted
    fi
    data=$base/data
    socket=$base/run
    url="postgres://plinth@localhost/plinth?host=$socket"
}

psql_as() { as_owner "$bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$socket" -U plinth "$@"; }

server() {
    mkdir -p "$base"
    if [ "$(id -u)" = 0 ]; then chown "$account:" "$base"; fi
    chmod 0700 "$base"
    as_owner mkdir -p "$socket"
    if [ ! -e "$data/PG_VERSION" ]; then
        # Made aside and moved, so that an interrupted initdb is not taken for a cluster.
        rm -rf "$data" "$base/data.new"
        as_owner "$bin/initdb" -D "$base/data.new" -U plinth -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
        as_owner tee -a "$base/data.new/postgresql.conf" >/dev/null <<CONF
listen_addresses = ''
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 100
CONF
        mv "$base/data.new" "$data"
    fi
    if ! as_owner "$bin/pg_ctl" -D "$data" status >/dev/null 2>&1; then
        as_owner "$bin/pg_ctl" -D "$data" -l "$base/log" -o "-k '$socket'" -w -t 60 start >/dev/null ||
            { tail -n 20 "$base/log" >&2; die "Postgres does not start; its log is $base/log"; }
    fi
}

migrations() { find "$root/migrations" -maxdepth 1 -name '*.sql' 2>/dev/null | sort; }

fingerprint() { migrations | xargs -r sha256sum | awk '{print $1}' | sha256sum | cut -c1-64; }

schema() {
    local now have
    now=$(fingerprint)
    have=$(psql_as -d postgres -At -c "select shobj_description(oid, 'pg_database') from pg_database where datname = 'plinth'")
    [ "$now" = "$have" ] && return
    psql_as -d postgres -c "drop database if exists plinth_new with (force)" -c "create database plinth_new" 2>/dev/null
    local file
    while read -r file; do
        [ -n "$file" ] || continue
        psql_as -d plinth_new --single-transaction -f - <"$file" >/dev/null ||
            die "$(basename "$file") does not apply; the database is as it was before"
    done < <(migrations)
    psql_as -d postgres 2>/dev/null <<SQL
drop database if exists plinth with (force);
alter database plinth_new rename to plinth;
comment on database plinth is '$now';
SQL
}

start() {
    exec 9>"$target/dev-db.lock"
    flock 9
    # The server must not inherit the lock.
    { server; schema; } 9>&-
    exec 9>&-
}

bin=$(find_binaries)
place
# Where the account of the server may be, too.
command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
start) (cd / && start) && echo "$url" ;;
url) echo "$url" ;;
env) echo "export DATABASE_URL='$url'" ;;
psql) exec "$bin/psql" "$url" "$@" ;;
prepare)
    (cd / && start)
    command -v cargo-sqlx >/dev/null ||
        die "cargo sqlx is missing: cargo install sqlx-cli --version 0.9.0 --no-default-features --features postgres,rustls,sqlx-toml"
    cd "$root"
    # Without --all-targets, queries in tests are skipped.
    DATABASE_URL=$url SQLX_OFFLINE=false cargo sqlx prepare --workspace "$@" -- --all-targets
    ;;
stop)
    if [ -e "$data/postmaster.pid" ]; then
        (cd / && as_owner "$bin/pg_ctl" -D "$data" -m fast -w stop >/dev/null 2>&1) || true
    fi
    ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
