#!/usr/bin/env python3
"""Certificates over the API, a request in and a certificate out with its record durable, beside `cfssl serve`; and what a revocation costs.

    tests/bench/certificates.py [--rounds 5] [--requests 4000] [--clients 16] [--many 1000000] [--plinth target/release/plinth]

Needs root, Postgres, openssl, and a build (make release). cfssl is Debian's golang-cfssl, unpacked into a cache in /var/tmp and installed nowhere. Both
sign with ECDSA P-256, for the same requests (64 of them, P-256, one DNS name and one address each), sent by the same clients over kept connections,
and both keep what they signed in a Postgres of their own with the settings of the embedded one (fsync and synchronous_commit on): the engine with an event row
for each certificate; cfssl in the table that its own migrations make. Each round alternates the two. Counted are CPU seconds of the server and of
its Postgres; the clients are not counted. Afterwards both must have as many rows as there were requests, and openssl must take a
certificate of each.

Then, with --many, an authority gets so many certificates (rows like those it signed itself, a tenth of them revoked) and a thousand, and of each 200 are
revoked over the API one after the other, and a part of its list is asked for: wall time of each, and CPU of engine and Postgres.
With --rounds 0 or --many 0 the one or the other is left out. Takes everything away at the end, but for the cache.
"""

import concurrent.futures, glob, http.client, json, os, subprocess, sys, tempfile, time
from harness import Engine, cpu, options, spread, write
from rate import Postgres

CACHE = "/var/tmp/plinth-bench-cfssl"
KINDS = 64
ROLE = """role: office-ca
version: 1.0.0
about: An authority.
is: certificate-authority
milestone: true
with: {common_name: office, permitted: {dns: [office.example], subnets: [10.0.0.0/8]}}
"""
WORKLOAD = "workload: office\nversion: 1.0.0\nabout: An authority.\ngroups: {none: {}}\nroles: {deployment: [office-ca]}\n"
TABLE = """create table certificates (
    serial_number bytea not null, authority_key_identifier bytea not null, ca_label bytea, status bytea not null, reason int,
    expiry timestamptz, revoked_at timestamptz, pem bytea not null, primary key (serial_number, authority_key_identifier))"""


def run(*words, **more):
    done = subprocess.run(words, capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def cfssl():
    """The program, unpacked."""
    if not os.path.exists(CACHE + "/usr/bin/cfssl"):
        os.makedirs(CACHE, exist_ok=True)
        run("apt-get", "download", "golang-cfssl", cwd=CACHE)
        run("dpkg", "-x", glob.glob(CACHE + "/*.deb")[0], CACHE)
    return CACHE + "/usr/bin/cfssl"


def requests(folder):
    """Subject, names and request of each kind."""
    made = []
    for number in range(KINDS):
        subject, names = f"desk-{number}", [f"desk-{number}.office.example", f"10.0.0.{number}"]
        file = f"{folder}/{number}"
        run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file + ".key",
            "-subj", f"/CN={subject}", "-addext", f"subjectAltName=DNS:{names[0]},IP:{names[1]}", "-out", file + ".csr")
        with open(file + ".csr") as text:
            made.append((subject, names, text.read()))
    return made


def send(address, path, headers, bodies, count, clients):
    """Sends so many requests over so many connections; seconds, and one answer."""
    host, port = address

    def work(first):
        connection, last = http.client.HTTPConnection(host, port), None
        for number in range(first, count, clients):
            connection.request("POST", path, bodies[number % len(bodies)], headers)
            answer = connection.getresponse()
            last = answer.read()
            if answer.status not in (200, 201, 204):
                sys.exit(f"{path}: {answer.status} {last}")
        return last

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(work, range(clients)))
    return time.monotonic() - began, answers[0]


def postmaster(folder):
    with open(folder + "/postmaster.pid") as file:
        return int(file.readline())


class Ours:
    """An engine with an authority."""

    def __init__(self, given, kinds, folder):
        files = folder + "/bundle"
        write(files + "/bundle.yaml", "bundle: bench\nversion: 1.0.0\n")
        write(files + "/roles/office-ca/role.yaml", ROLE)
        write(files + "/workloads/office/workload.yaml", WORKLOAD)
        self.postgres = Postgres()
        self.engine = Engine(given.plinth, files, ["--database", self.postgres.fresh("plinth")])
        self.engine.start()
        document = write(self.engine.folder + "/office.yaml", "deployment: bench\nworkload: office\nnodes: {}\n")
        self.engine.run("apply", document, "--yes", "--wait")
        with open(self.engine.folder + "/data/endpoint.json") as file:
            endpoint = json.load(file)
        host, port = endpoint["endpoint"].removeprefix("http://").split(":")
        self.address = (host, int(port))
        self.headers = {"Authorization": "Bearer " + endpoint["token"], "Content-Type": "application/json"}
        self.path = "/api/v1/deployments/bench/authorities/office-ca/certificates"
        self.bodies = [json.dumps({"csr": csr, "subject": subject, "names": names, "usages": ["client"]}) for subject, names, csr in kinds]

    def used(self):
        return cpu(self.engine.process.pid) + cpu(postmaster(self.postgres.folder + "/data"))

    def sign(self, count, clients):
        before = self.used()
        seconds, answer = send(self.address, self.path, self.headers, self.bodies, count, clients)
        return seconds, self.used() - before, json.loads(answer)["certificate"]

    def authority(self):
        return json.loads(self.engine.run("ca", "show", "bench", "office-ca", "-o", "json").stdout)[0]

    def sql(self, text):
        return self.postgres.ask("plinth", text)

    def end(self):
        self.engine.end()
        self.postgres.__exit__()


class Theirs:
    """`cfssl serve` with its records in Postgres."""

    def __init__(self, kinds):
        self.postgres = Postgres()
        self.postgres.fresh("cfssl")
        self.postgres.ask("cfssl", TABLE)
        self.folder = self.postgres.folder
        key = {"CN": "office", "key": {"algo": "ecdsa", "size": 256}}
        made = run(cfssl(), "gencert", "-initca", write(self.folder + "/ca.json", json.dumps(key)))
        made = json.loads(made)
        write(self.folder + "/ca.pem", made["cert"])
        write(self.folder + "/ca-key.pem", made["key"])
        signing = {"signing": {"default": {"expiry": "720h", "usages": ["digital signature", "client auth"]}}}
        write(self.folder + "/config.json", json.dumps(signing))
        source = f"user=plinth dbname=cfssl host={self.folder}/run sslmode=disable"
        write(self.folder + "/db.json", json.dumps({"driver": "postgres", "data_source": source}))
        self.address = ("127.0.0.1", 18888)
        with open(self.folder + "/cfssl.log", "w") as log:
            self.process = subprocess.Popen([cfssl(), "serve", "-address", "127.0.0.1", "-port", "18888", "-loglevel", "4",
                "-ca", self.folder + "/ca.pem", "-ca-key", self.folder + "/ca-key.pem", "-config", self.folder + "/config.json",
                "-db-config", self.folder + "/db.json"], stdout=log, stderr=log, cwd=self.folder)
        self.bodies = [json.dumps({"certificate_request": csr, "hosts": names}) for _, names, csr in kinds]
        for _ in range(100):
            try:
                http.client.HTTPConnection(*self.address).request("GET", "/")
                break
            except ConnectionRefusedError:
                time.sleep(0.05)

    def used(self):
        return cpu(self.process.pid) + cpu(postmaster(self.folder + "/data"))

    def sign(self, count, clients):
        before = self.used()
        headers = {"Content-Type": "application/json"}
        seconds, answer = send(self.address, "/api/v1/cfssl/sign", headers, self.bodies, count, clients)
        return seconds, self.used() - before, json.loads(answer)["result"]["certificate"]

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.postgres.__exit__()


def verified(ca, certificate, folder):
    own = write(folder + "/own.pem", certificate)
    if "OK" not in run("openssl", "verify", "-purpose", "sslclient", "-CAfile", write(folder + "/root.pem", ca), own):
        sys.exit("openssl does not take it")


def compare(given, ours, theirs):
    costs, walls, ratios = {"ours": [], "theirs": []}, {"ours": [], "theirs": []}, []
    for side in (ours, theirs):
        side.sign(500, given.clients)
    for _ in range(given.rounds):
        for name, side in (("ours", ours), ("theirs", theirs)):
            seconds, used, certificate = side.sign(given.requests, given.clients)
            costs[name].append(used)
            walls[name].append(seconds)
        ratios.append(costs["theirs"][-1] / costs["ours"][-1])
    wanted = 500 + given.rounds * given.requests
    kept = int(ours.sql("select count(*) from certificate"))
    theirs_kept = int(theirs.postgres.ask("cfssl", "select count(*) from certificates"))
    if (kept, theirs_kept) != (wanted, wanted):
        sys.exit(f"{wanted} were asked for; kept are {kept} of ours and {theirs_kept} of theirs")
    verified(ours.authority()["certificate"], ours.sign(1, 1)[2], ours.engine.folder)
    with open(theirs.folder + "/ca.pem") as file:
        verified(file.read(), theirs.sign(1, 1)[2], ours.engine.folder)
    for name in costs:
        rate = [given.requests / one for one in costs[name]]
        wall = [given.requests / one for one in walls[name]]
        print(f"{name}: {spread(rate)} certificates for a CPU second of the server, {spread(wall)} a second by the clock")
    print(f"by CPU: {spread(ratios)} times cfssl")


def revoke(ours, serials):
    """Milliseconds of each revocation, and CPU milliseconds of the server for one."""
    before, times = ours.used(), []
    for serial in serials:
        path = f"/api/v1/certificates/{serial}/revocations"
        times.append(send(ours.address, path, ours.headers, ["{}"], 1, 1)[0] * 1000)
    return times, (ours.used() - before) / len(serials) * 1000


def fill(ours, many):
    """Rows like one that was signed, in the parts that they would have; a tenth of them revoked."""
    id = ours.authority()["id"]
    ours.sql(f"""insert into certificate (serial, authority_id, node, names, usages, body, not_before, not_after, renew_at, issued_at,
                                          part, revoked_at, reason, listed_at)
        select 'f' || lpad(to_hex(n), 31, '0'), authority_id, node, names, usages, body, not_before, not_after, renew_at, issued_at, n / 16384,
               case when n % 10 = 0 then now() end, case when n % 10 = 0 then 'superseded' end, case when n % 10 = 0 then now() end
        from generate_series(1, {many}) n, (select * from certificate where authority_id = '{id}' limit 1) one""")
    ours.sql(f"update authority set issued = {many} where authority_id = '{id}'")
    ours.sql("vacuum analyze certificate")
    return id


def revocations(given, kinds, folder):
    for many in (1000, given.many):
        ours = Ours(given, kinds, folder)
        try:
            ours.sign(1, 1)
            id = fill(ours, many)
            serials = [f"f{n:031x}" for n in range(1, min(many, 10 ** 6), max(many // 200, 1)) if n % 10][:200]
            times, used = revoke(ours, serials)
            connection = http.client.HTTPConnection(*ours.address)
            began = time.monotonic()
            connection.request("GET", f"/crl/{id}/0.crl")
            size = len(connection.getresponse().read())
            anew = (time.monotonic() - began) * 1000
            print(f"{many} signed, {many // 10} revoked: a revocation takes {spread(times)} ms and {used:.2f} ms of CPU;"
                  f" part 0 has {size} bytes and is signed in {anew:.0f} ms")
        finally:
            ours.end()


def main():
    given = options(rounds=5, requests=4000, clients=16, many=1_000_000)
    with tempfile.TemporaryDirectory(prefix="plinth-bench-", dir="/var/tmp") as folder:
        kinds = requests(folder)
        if given.rounds:
            ours = theirs = None
            try:
                ours, theirs = Ours(given, kinds, folder), Theirs(kinds)
                compare(given, ours, theirs)
            finally:
                for side in (ours, theirs):
                    if side:
                        side.end()
        if given.many:
            revocations(given, kinds, folder)


main()
