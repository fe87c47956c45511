#!/usr/bin/env python3
"""What names cost, beside the servers of others on this machine.

    tests/bench/dns.py [--seconds 10] [--names 2000] [--rounds 3] [--plinth target/release/plinth]

Needs root, a build (make release) and the Debian packages postgresql, bind9, bind9-dnsutils, knot, dnsperf,
pdns-server and pdns-backend-lmdb.

Updates: eight writers, a new name each time, durable. Ours is the whole way: a fleet of simulated nodes with the role dns-name, eight jobs
at once (plinth simulate), each name judged, claimed, committed, taken in by the server, asked for and reported. PowerDNS gets them by its
API over kept connections into LMDB, synchronous, BIND as signed updates from eight nsupdate, each waiting for the answer.

Answers: questions a second by dnsperf over UDP for --names names, the server on one processor and dnsperf on another one, Knot with one
worker. One after the other, by turns.
"""

import json, os, re, shutil, socket, statistics, subprocess, sys, tempfile, threading, time
from http.client import HTTPConnection
from harness import Engine, options, spread, write

SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
ZONE = "bench.plinth.internal"
WRITERS = 8
HEAD = "$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 604800 5\n@ IN NS ns\nns IN A 127.0.0.1\n"


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def run(*words, **more):
    done = subprocess.run(words, capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}{done.stdout}")
    return done.stdout


def dig(port, name, kind="A"):
    words = ["dig", "@127.0.0.1", "-p", str(port), "+short", "+tries=1", "+time=1", name, kind]
    return subprocess.run(words, capture_output=True, text=True).stdout.split()


class Server:
    """A program in a folder that goes with it, up when it answers for the zone."""

    def __init__(self, prepare, processor=None):
        self.folder = tempfile.mkdtemp(prefix="plinth-bench-", dir="/var/tmp")
        os.chmod(self.folder, 0o755)
        self.port = free_port()
        words = prepare(self.folder, self.port)
        pin = [] if processor is None else ["taskset", "-c", str(processor)]
        self.process = subprocess.Popen([*pin, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while not dig(self.port, ZONE, "SOA"):
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit(f"{words[0]} does not answer")
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)


def bind(folder, port):
    write(f"{folder}/zone", HEAD)
    write(f"{folder}/key", f'key "plinth" {{ algorithm hmac-sha256; secret "{SECRET}"; }};\n')
    write(f"{folder}/named.conf", f"""
options {{ directory "{folder}"; pid-file "{folder}/pid"; session-keyfile "{folder}/session"; listen-on port {port} {{ 127.0.0.1; }};
listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; managed-keys-directory "{folder}"; }};
controls {{ }}; include "{folder}/key";
zone "{ZONE}" {{ type primary; file "{folder}/zone"; allow-update {{ key "plinth"; }}; }};
""")
    return ["/usr/sbin/named", "-f", "-c", f"{folder}/named.conf"]


def powerdns(api):
    def prepare(folder, port):
        write(f"{folder}/pdns.conf", f"""launch=lmdb
lmdb-filename={folder}/zones
lmdb-sync-mode=sync
socket-dir={folder}
local-address=127.0.0.1
local-port={port}
webserver=yes
webserver-address=127.0.0.1
webserver-port={api}
api=yes
api-key=key
security-poll-suffix=
guardian=no
daemon=no
""")
        run("pdnsutil", f"--config-dir={folder}", "create-zone", ZONE, f"ns.{ZONE}")
        return ["/usr/sbin/pdns_server", f"--config-dir={folder}"]

    return prepare


def knot(names):
    def prepare(folder, port):
        write(f"{folder}/{ZONE}.zone", HEAD + "".join(f"{name} IN A {address}\n" for name, address in names))
        write(f"{folder}/knot.conf", f"""
server:
  rundir: "{folder}"
  listen: 127.0.0.1@{port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: "{folder}"
zone:
  - domain: {ZONE}
    storage: "{folder}"
    zonefile-sync: -1
    journal-content: none
    zonefile-load: whole
""")
        return ["/usr/sbin/knotd", "-c", f"{folder}/knot.conf"]

    return prepare


def writers(work):
    """Runs eight of them; what they say, and the seconds it took."""
    said = [None] * WRITERS

    def one(number):
        said[number] = work(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(WRITERS)]
    began = time.monotonic()
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    took = time.monotonic() - began
    for one in said:
        if not isinstance(one, int):
            sys.exit(one or "a writer died")
    return said, took


def updates_of_powerdns(seconds):
    api = free_port()
    with Server(powerdns(api)) as server:
        # It answers questions before it takes changes.
        while socket.socket().connect_ex(("127.0.0.1", api)):
            time.sleep(0.1)
        end = time.monotonic() + seconds

        def work(number):
            connection = HTTPConnection("127.0.0.1", api)
            count = 0
            while time.monotonic() < end:
                name = f"n{number}-{count}.{ZONE}."
                record = {"name": name, "type": "A", "ttl": 60, "changetype": "REPLACE",
                          "records": [{"content": "192.0.2.1", "disabled": False}]}
                connection.request("PATCH", f"/api/v1/servers/localhost/zones/{ZONE}.", json.dumps({"rrsets": [record]}),
                                   {"X-API-Key": "key", "Content-Type": "application/json"})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 204:
                    return f"PowerDNS says {answer.status}: {body[:200]}"
                count += 1
            return count

        counts, took = writers(work)
        assert dig(server.port, f"n7-{counts[7] - 1}.{ZONE}") == ["192.0.2.1"]
        return sum(counts) / took


def updates_of_bind(seconds):
    with Server(bind) as server:
        def work(number):
            nsupdate = subprocess.Popen(["nsupdate", "-k", f"{server.folder}/key"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, bufsize=1)
            nsupdate.stdin.write(f"server 127.0.0.1 {server.port}\nzone {ZONE}\n")
            count = 0
            while time.monotonic() < end:
                # What is told after an update is told when its answer was there.
                nsupdate.stdin.write(f"update add n{number}-{count}.{ZONE} 60 A 192.0.2.1\nsend\nshow\n")
                nsupdate.stdin.flush()
                line = nsupdate.stdout.readline()
                while not line.startswith(";; flags"):
                    if not line or "failed" in line:
                        return f"nsupdate: {line}"
                    line = nsupdate.stdout.readline()
                count += 1
            nsupdate.stdin.close()
            nsupdate.wait()
            return count

        end = time.monotonic() + seconds
        counts, took = writers(work)
        assert dig(server.port, f"n7-{counts[7] - 1}.{ZONE}") == ["192.0.2.1"]
        return sum(counts) / took


def updates_of_ours(plinth, nodes, jobs):
    said = run(plinth, "simulate", "--nodes", str(nodes), "--layers", "1", "--jobs", str(jobs), "--dns", f"127.0.0.1:{free_port()}",
               "-o", "json")
    return nodes / json.loads(said)["converge"]


def asked(port, folder, names, seconds):
    questions = write(f"{folder}/questions", "".join(f"{name}.{ZONE} A\n" for name, _ in names))
    said = run("taskset", "-c", "1", "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", questions, "-l", str(seconds), "-T", "1", "-c", "4")
    lost = float(re.search(r"Queries lost: +\d+ \(([\d.]+)%", said)[1])
    codes = re.search(r"Response codes: +(.*)", said)[1]
    if lost > 0.1 or not codes.startswith("NOERROR"):
        sys.exit(f"{lost} % lost, {codes}")
    return float(re.search(r"Queries per second: +([\d.]+)", said)[1])


class Names:
    """An engine that answers for the zone: a deployment called bench, with a service for each name."""

    def __init__(self, plinth, names):
        bundle = tempfile.mkdtemp(prefix="plinth-bench-", dir="/var/tmp")
        write(f"{bundle}/bundle.yaml", "bundle: bench\nversion: 1.0.0\n")
        for name, address in names:
            write(f"{bundle}/roles/{name}/role.yaml", json.dumps({
                "role": name, "version": "1.0.0", "about": "A name.", "milestone": True, "is": "dns-service",
                "with": {"name": name, "addresses": {"a": address}}}))
        write(f"{bundle}/workloads/names/workload.yaml", json.dumps({
            "workload": "names", "version": "1.0.0", "about": "Names.", "groups": {"none": {"count": {"default": 0}}},
            "roles": {"deployment": ["dns-zone", *(name for name, _ in names)]}}))
        self.bundle, self.port = bundle, free_port()
        self.engine = Engine(plinth, bundle, ["--dns", f"127.0.0.1:{self.port}"])
        self.engine.start()
        document = write(f"{self.engine.folder}/names.yaml", "deployment: bench\nworkload: names\nnodes: {}\n")
        self.engine.run("apply", document, "--yes", "--wait")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.engine.end()
        shutil.rmtree(self.bundle)


def main():
    asked_for = options(seconds=10, names=200, rounds=3)
    plinth = os.path.abspath(asked_for.plinth)
    figures = {}

    def figure(what, value):
        figures.setdefault(what, []).append(value)
        print(f"  {value:10.0f}  {what}", flush=True)

    for number in range(asked_for.rounds):
        print(f"updates in a second, round {number + 1}")
        figure("PowerDNS, LMDB, by its API", updates_of_powerdns(asked_for.seconds))
        figure("BIND, signed updates", updates_of_bind(asked_for.seconds))
        figure("ours, eight jobs at once", updates_of_ours(plinth, 2000, WRITERS))
        figure("ours, a thousand jobs at once", updates_of_ours(plinth, 5000, 1000))
    names = [(f"n{number:04}", f"192.0.2.{number % 250 + 1}") for number in range(asked_for.names)]
    with Names(plinth, names) as ours, Server(knot(names), processor=0) as other:
        run("taskset", "-a", "-p", "-c", "0", str(ours.engine.process.pid))
        for number in range(asked_for.rounds):
            print(f"questions answered in a second, round {number + 1}")
            figure("Knot, one worker", asked(other.port, other.folder, names, asked_for.seconds))
            figure("ours", asked(ours.port, other.folder, names, asked_for.seconds))
    print()
    for what, values in figures.items():
        print(f"{what}: {spread(values)}")
    median = {what: statistics.median(values) for what, values in figures.items()}
    eight = median["ours, eight jobs at once"]
    print(f"updates beside PowerDNS: {eight / median['PowerDNS, LMDB, by its API']:.2f}, goal 3; "
          f"beside BIND: {eight / median['BIND, signed updates']:.2f}, goal 4; "
          f"answers beside Knot: {median['ours'] / median['Knot, one worker']:.2f}, goal 0.8")


if __name__ == "__main__":
    main()
