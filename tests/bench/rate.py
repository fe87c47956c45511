#!/usr/bin/env python3
"""How many node roles an engine moves in a second, beside the jobs of graphile-worker on the same Postgres.

    tests/bench/rate.py [--nodes 1000] [--layers 20] [--rounds 5] [--old-transaction 0] [--plinth target/release/plinth]

Needs root, node and npm, Postgres, and a build (make release). Makes a Postgres of its own with the settings of the
embedded one (fsync and synchronous_commit on); graphile-worker is installed by npm into a cache in /var/tmp. Each round
runs a fleet of no-op node roles (plinth simulate: three transitions a node role, each with its event row, its job row
and the release of what waited in the same commit), then as many jobs of graphile-worker as there were transitions
(local queue of 500, completion in batches; adding them is not counted), each in a fresh database.

Then an engine is killed with -9 in the middle of a fleet, another one goes on, and every node role must have run exactly
once. With --rounds 0 neither is done. With --old-transaction fleets go on beside a transaction that was held open for so
many seconds; the last five are compared with as many in a second database without one. Takes everything away at the end.
"""

import glob, json, os, pwd, shutil, signal, statistics, subprocess, sys, tempfile, time
from harness import Engine, options, spread

WORKER = "graphile-worker@0.17.3"
CACHE = "/var/tmp/plinth-bench-npm"

# As engine/store/src/embedded/cluster.rs has it, with room for both.
SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{run}'
max_connections = 100
shared_buffers = 128MB
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = minimal
max_wal_senders = 0
wal_compression = on
max_wal_size = 1GB
min_wal_size = 80MB
checkpoint_timeout = 15min
autovacuum_naptime = 5s
autovacuum_vacuum_cost_delay = 0
autovacuum_vacuum_scale_factor = 0.05
autovacuum_analyze_scale_factor = 0.05
jit = off
max_parallel_workers_per_gather = 0
random_page_cost = 1.1
"""


class Postgres:
    """A server in a folder that goes with it."""

    def __init__(self):
        self.bin = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        self.folder = tempfile.mkdtemp(prefix="plinth-bench-", dir="/var/tmp")
        owner = pwd.getpwnam("postgres")
        os.chmod(self.folder, 0o755)
        os.mkdir(self.folder + "/run")
        for path in (self.folder, self.folder + "/run"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        self.program("initdb", "-D", self.folder + "/data", "-U", "plinth", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8")
        with open(self.folder + "/data/postgresql.conf", "a") as file:
            file.write(SETTINGS.format(run=self.folder + "/run"))
        self.program("pg_ctl", "-D", self.folder + "/data", "-l", self.folder + "/log", "-w", "start")

    def program(self, name, *words):
        command = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", f"{self.bin}/{name}", *words]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name}: {done.stdout}{done.stderr}")

    def url(self, database):
        return f"postgres://plinth@localhost/{database}?host={self.folder}/run"

    def psql(self, database):
        return [f"{self.bin}/psql", "-XqAt", "-v", "ON_ERROR_STOP=1", self.url(database)]

    def ask(self, database, *statements):
        words = [word for statement in statements for word in ("-c", statement)]
        done = subprocess.run([*self.psql(database), *words], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"psql: {done.stderr}")
        return done.stdout.strip()

    def fresh(self, database):
        self.ask("postgres", f"drop database if exists {database} with (force)", f"create database {database}")
        return self.url(database)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.program("pg_ctl", "-D", self.folder + "/data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder)


def worker():
    """The script for graphile-worker, beside an installation of it."""
    if not os.path.exists(f"{CACHE}/node_modules/graphile-worker"):
        os.makedirs(CACHE, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--prefix", CACHE, WORKER], check=True)
    return shutil.copy(os.path.dirname(os.path.abspath(__file__)) + "/graphile.mjs", CACHE)


def simulation(given, url, name="fleet"):
    return [given.plinth, "simulate", "--nodes", str(given.nodes), "--layers", str(given.layers), "--name", name,
            "--database", url, "-o", "json"]


def said(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr}")
    return json.loads(done.stdout)


def compare(given, postgres, script):
    ratios, flushes = [], []
    for number in range(1, given.rounds + 1):
        ours = said(simulation(given, postgres.fresh("ours")))
        # What moved before everything was held back is not counted.
        assert 0.99 <= ours["transitions"] / (3 * given.nodes * given.layers) <= 1, ours
        theirs = said(["node", script, postgres.fresh("theirs"), str(ours["transitions"])])
        assert theirs["ran"] == ours["transitions"], theirs
        rate, jobs = ours["transitions_per_second"], theirs["ran"] / theirs["seconds"]
        ratios.append(rate / jobs)
        flushes.append(ours["flushes_per_transition"])
        print(f"round {number}: {rate:.0f} transitions/s ({ours['converge']:.2f} s, {ours['flushes_per_transition']:.4f} flushes each, "
              f"ready to claimed {ours['claimed_after'][0]:.1f} ms), {jobs:.0f} jobs/s, ratio {ratios[-1]:.2f}", flush=True)
    print(f"ratio {spread(ratios)} (goal: median 1.0); flushes a transition at most {max(flushes):.4f} (goal 0.02)", flush=True)


def killed(given, postgres):
    """Kills an engine when half is done, and lets another one end it."""
    count = given.nodes * given.layers
    url = postgres.fresh("killed")
    process = subprocess.Popen([*simulation(given, url), "--below", postgres.folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    jobs = "select count(*) from job where outcome = 'succeeded'"
    while postgres.ask("killed", "select to_regclass('job') is not null") != "t" or int(postgres.ask("killed", jobs)) < count // 2:
        if process.poll() is not None:
            sys.exit("the simulation was over before it could be killed")
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done, open_jobs = postgres.ask("killed", jobs), postgres.ask("killed", "select count(*) from job where outcome is null")
    with Engine(given.plinth) as engine:
        engine.environment["DATABASE_URL"] = url
        began = time.monotonic()
        engine.start()
        while postgres.ask("killed", "select count(*) from vertex where state <> 'active'") != "0":
            if time.monotonic() - began > 300:
                sys.exit("what was left did not converge: " + engine.log()[-3000:])
            time.sleep(0.1)
        took = time.monotonic() - began
    wrong = postgres.ask("killed", f"""
        select 'jobs', count(*), count(distinct vertex_id) from job
        having count(*) <> {count} or count(distinct vertex_id) <> {count} or bool_or(outcome is distinct from 'succeeded')
        union all
        select kind, count(*), count(distinct vertex_id) from event where kind in ('node-role.go', 'node-role.claim', 'node-role.done')
        group by kind having count(*) <> {count} or count(distinct vertex_id) <> {count}""")
    if wrong:
        sys.exit(f"not each node role ran once: {wrong}")
    print(f"killed -9 with {done} of {count} jobs over and {open_jobs} running; the next engine was through {took:.1f} s after its "
          "start: each has one job, succeeded, and is ready, running and active once", flush=True)


def old_transaction(given, postgres):
    """Fleets in turn in two databases that grow alike, one of them with a transaction held open: what it costs, and not what size does.

    What a transaction may still see is kept for it in its own database only."""
    names, number = ("free", "held"), 0
    urls = {name: postgres.fresh(name) for name in names}
    rates = {name: [] for name in names}

    def fleets():
        nonlocal number
        number += 1
        for name in names[:: 1 if number % 2 else -1]:
            rates[name].append(said(simulation(given, urls[name], f"fleet-{number}"))["transitions_per_second"])

    fleets()
    holder = subprocess.Popen(postgres.psql("held"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holder.stdin.write("begin isolation level repeatable read;\nselect count(*) from vertex;\n")
    holder.stdin.flush()
    holder.stdout.readline()
    began = time.monotonic()
    while time.monotonic() - began < given.old_transaction or number < 4:
        fleets()
        print(f"{time.monotonic() - began:.0f} s: {rates['held'][-1]:.0f} beside it, {rates['free'][-1]:.0f} without, "
              f"ratio {rates['held'][-1] / rates['free'][-1]:.2f}", flush=True)
    held = time.monotonic() - began
    holder.stdin.close()
    holder.wait()
    ratio = statistics.median(ours / free for ours, free in zip(rates["held"][-5:], rates["free"][-5:]))
    print(f"with one transaction held open for {held:.0f} s, over {number} fleets in each of two databases: {spread(rates['held'][-5:])} "
          f"transitions/s beside it, {spread(rates['free'][-5:])} without: {ratio:.2f} (goal 0.9)", flush=True)


def main():
    given = options(nodes=1000, layers=20, rounds=5, old_transaction=0)
    given.plinth = os.path.abspath(given.plinth)
    with Postgres() as postgres:
        if given.rounds:
            compare(given, postgres, worker())
            killed(given, postgres)
        if given.old_transaction:
            old_transaction(given, postgres)


if __name__ == "__main__":
    main()
