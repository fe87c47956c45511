#!/usr/bin/env python3
"""What names cost, beside the servers of others on this machine.

    tests/bench/dns.py [--seconds 10] [--names 200] [--rounds 3] [--plinth target/release/plinth]

Needs root, a build (make release) and the Debian packages postgresql, bind9, bind9-dnsutils, knot, dnsperf,
pdns-server, pdns-backend-lmdb, pdns-backend-sqlite3 and sqlite3.

Updates: eight writers, a new name each time, the next one when the last one is said to be done, which means durable. All servers get the same
messages over UDP, signed (RFC 2136, RFC 8945), made before the clock starts; PowerDNS also gets them by its API over kept connections.
Beside that, ours the whole way: a fleet of simulated nodes with the role dns-name, eight jobs and a thousand at once (plinth simulate), each
name judged, claimed, committed, taken in by the server, asked for and reported.

From an update to its answer: one writer sends an update and asks for its name, again and again, until the answer is right; milliseconds.

Answers: questions a second by dnsperf over UDP for --names names, the server on one processor and dnsperf on another one, Knot with one
worker. One after the other, by turns.
"""

import base64, hashlib, hmac, json, os, re, select, shutil, socket, statistics, struct, subprocess, sys, tempfile, threading, time
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


BACKENDS = {
    "LMDB": "launch=lmdb\nlmdb-filename={folder}/zones\nlmdb-sync-mode=sync\n",
    "SQLite": "launch=gsqlite3\ngsqlite3-database={folder}/zones\n",
}


def powerdns(api, backend):
    def prepare(folder, port):
        if backend == "SQLite":
            run("sqlite3", f"{folder}/zones", ".read /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
        write(f"{folder}/pdns.conf", BACKENDS[backend].format(folder=folder) + f"""
dnsupdate=yes
allow-dnsupdate-from=127.0.0.0/8
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
        for words in [["create-zone", ZONE, f"ns.{ZONE}"], ["import-tsig-key", "plinth", "hmac-sha256", SECRET],
                      ["set-meta", ZONE, "TSIG-ALLOW-DNSUPDATE", "plinth"]]:
            run("pdnsutil", f"--config-dir={folder}", *words)
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
    with Server(powerdns(api, "LMDB")) as server:
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


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


class Update:
    """Signed messages that each add one address (RFC 2136, section 2; RFC 8945, section 4)."""

    def __init__(self, key):
        self.key, self.secret, self.zone = wire(key), base64.b64decode(SECRET), wire(ZONE)
        self.algorithm = wire("hmac-sha256")

    def add(self, label, number):
        # The zone is named at byte 12, so what is in it points there.
        name = bytes([len(label)]) + label.encode() + b"\xc0\x0c"
        body = self.zone + struct.pack(">HH", 6, 1) + name + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([192, 0, 2, 1])
        when = struct.pack(">HIH", 0, int(time.time()), 300)
        head = struct.pack(">HHHHH", number, 0x2800, 1, 0, 1)
        signed = head + b"\0\0" + body + self.key + struct.pack(">HI", 255, 0) + self.algorithm + when + b"\0\0\0\0"
        mac = hmac.new(self.secret, signed, hashlib.sha256).digest()
        data = self.algorithm + when + struct.pack(">H", len(mac)) + mac + struct.pack(">HHH", number, 0, 0)
        return head + b"\0\1" + body + self.key + struct.pack(">HHIH", 250, 255, 0, len(data)) + data


def question(label, number):
    return struct.pack(">HHHHHH", number, 0, 1, 0, 0, 0) + bytes([len(label)]) + label.encode() + wire(ZONE) + struct.pack(">HH", 1, 1)


def done(answer, number):
    code = answer[3] & 15
    if answer[:2] != struct.pack(">H", number) or code:
        sys.exit(f"an update was answered with {code}")


MESSAGES = 12_000


def updates_by_message(port, key, seconds):
    """A second, by eight writers of which each waits for its answer."""
    update = Update(key)
    ready = [[update.add(f"n{writer}-{number}", number) for number in range(MESSAGES)] for writer in range(WRITERS)]
    sockets, numbers, poll = [], [0] * WRITERS, select.epoll()
    for writer in range(WRITERS):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.connect(("127.0.0.1", port))
        sockets.append(one)
        poll.register(one, select.EPOLLIN)
    by_file = {one.fileno(): writer for writer, one in enumerate(sockets)}
    began = time.monotonic()
    [one.send(ready[writer][0]) for writer, one in enumerate(sockets)]
    while (took := time.monotonic() - began) < seconds and max(numbers) < MESSAGES - 1:
        heard = poll.poll(5)
        if not heard:
            sys.exit("an update got no answer")
        for file, _ in heard:
            writer = by_file[file]
            done(sockets[writer].recv(4096), numbers[writer])
            numbers[writer] += 1
            sockets[writer].send(ready[writer][numbers[writer]])
    [one.close() for one in sockets]
    last = f"n7-{numbers[7] - 1}.{ZONE}"
    if dig(port, last) != ["192.0.2.1"]:
        sys.exit(f"{last} is said to be there and is not")
    return sum(numbers) / took


def from_update_to_answer(port, key, count):
    """Milliseconds, sorted."""
    update, took = Update(key), []
    writer, asker = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for one in (writer, asker):
        one.connect(("127.0.0.1", port))
        one.settimeout(5)
    for number in range(count):
        label = f"late-{number}"
        packet, ask = update.add(label, number), question(label, number)
        began = time.perf_counter()
        writer.send(packet)
        while True:
            asker.send(ask)
            answer = asker.recv(4096)
            if answer[3] & 15 == 0 and answer[7] == 1:
                break
        took.append((time.perf_counter() - began) * 1000)
        done(writer.recv(4096), number)
    return sorted(took)


def by_message(prepare, seconds):
    """Updates in a second, and milliseconds to the answer."""
    with Server(prepare) as server:
        return updates_by_message(server.port, "plinth", seconds), from_update_to_answer(server.port, "plinth", 500)


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
    """An engine that answers for the zone: a deployment called bench, with a service for each name, and a key for others."""

    key = f"key.{ZONE}"

    def __init__(self, plinth, names):
        bundle = tempfile.mkdtemp(prefix="plinth-bench-", dir="/var/tmp")
        write(f"{bundle}/bundle.yaml", "bundle: bench\nversion: 1.0.0\n")
        for name, address in names:
            write(f"{bundle}/roles/{name}/role.yaml", json.dumps({
                "role": name, "version": "1.0.0", "about": "A name.", "milestone": True, "is": "dns-service",
                "with": {"name": name, "addresses": {"a": address}}}))
        write(f"{bundle}/workloads/names/workload.yaml", json.dumps({
            "workload": "names", "version": "1.0.0", "about": "Names.", "groups": {"none": {"count": {"default": 0}}},
            "parameters": {"type": "object", "properties": {"secret": {"type": "string", "writeOnly": True}}},
            "roles": {"deployment": ["dns-zone", {"dns-key": {"with": {"name": "key", "secret": "{{ parameters.secret }}"}}},
                                     *(name for name, _ in names)]}}))
        self.bundle, self.port = bundle, free_port()
        self.engine = Engine(plinth, bundle, ["--dns", f"127.0.0.1:{self.port}"])
        self.engine.start()
        document = write(f"{self.engine.folder}/names.yaml", f"deployment: bench\nworkload: names\nparameters: {{secret: '{SECRET}'}}\nnodes: {{}}\n")
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
        print(f"  {value:10.{1 if value < 100 else 0}f}  {what}", flush=True)

    def latency(what, took):
        for part, at in [("median", 0.5), ("99 of 100", 0.99)]:
            figure(f"{what}, {part}", took[int(len(took) * at)])

    names = [(f"n{number:04}", f"192.0.2.{number % 250 + 1}") for number in range(asked_for.names)]
    for number in range(asked_for.rounds):
        print(f"updates in a second, and milliseconds from an update to its answer, round {number + 1}")
        for what, prepare in [("BIND", bind), ("PowerDNS, LMDB", powerdns(free_port(), "LMDB")),
                              ("PowerDNS, SQLite", powerdns(free_port(), "SQLite"))]:
            updates, took = by_message(prepare, asked_for.seconds)
            figure(what, updates)
            latency(f"ms, {what}", took)
        with Names(plinth, []) as ours:
            figure("ours", updates_by_message(ours.port, ours.key, asked_for.seconds))
            latency("ms, ours", from_update_to_answer(ours.port, ours.key, 500))
        figure("PowerDNS, LMDB, by its API", updates_of_powerdns(asked_for.seconds))
        figure("ours, eight jobs at once", updates_of_ours(plinth, 2000, WRITERS))
        figure("ours, a thousand jobs at once", updates_of_ours(plinth, 5000, 1000))
    with Names(plinth, names) as ours, Server(knot(names), processor=0) as other:
        run("taskset", "-a", "-p", "-c", "0", str(ours.engine.process.pid))
        for number in range(asked_for.rounds):
            print(f"questions answered in a second, round {number + 1}")
            figure("answers of Knot, one worker", asked(other.port, other.folder, names, asked_for.seconds))
            figure("answers of ours", asked(ours.port, other.folder, names, asked_for.seconds))
    print()
    for what, values in figures.items():
        print(f"{what}: {spread(values)}")
    median = {what: statistics.median(values) for what, values in figures.items()}
    others = max(median["PowerDNS, LMDB"], median["PowerDNS, SQLite"], median["PowerDNS, LMDB, by its API"])
    print(f"updates beside PowerDNS: {median['ours'] / others:.2f}, goal 3; beside BIND: {median['ours'] / median['BIND']:.2f}, goal 4; "
          f"to the answer: {median['ms, ours, median']:.1f} and {median['ms, ours, 99 of 100']:.1f} ms, goals 10 and 50; "
          f"answers beside Knot: {median['answers of ours'] / median['answers of Knot, one worker']:.2f}, goal 0.8")


if __name__ == "__main__":
    main()
