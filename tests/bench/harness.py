"""What benches share: an engine of their own in a folder of its own, and what processes cost."""

import argparse, os, shutil, signal, statistics, subprocess, sys, tempfile, time

# What was started is ended also when somebody ends us.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
TICKS = os.sysconf("SC_CLK_TCK")

# Three members on lab nodes.
ETCD = "deployment: bench\nworkload: etcd-cluster\nnodes: {members: {provider: lab, count: 3}}\n"


def options(**numbers):
    """What the command line says; `numbers` are options with their defaults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plinth", default="target/release/plinth")
    for name, default in numbers.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    return parser.parse_args()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return path


class Engine:
    """`plinth serve` as a process, with its data below a folder that goes with it."""

    def __init__(self, plinth, bundle=None, more=()):
        self.folder = tempfile.mkdtemp(prefix="plinth-bench-", dir="/var/tmp")
        os.chmod(self.folder, 0o755)
        self.plinth, self.bundle, self.more, self.process = os.path.abspath(plinth), bundle, more, None
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("PLINTH_") and k != "DATABASE_URL"}
        self.environment["PLINTH_DATA"] = self.folder + "/data"

    def run(self, *words, check=True):
        done = subprocess.run([self.plinth, *words], env=self.environment, capture_output=True, text=True)
        if check and done.returncode:
            sys.exit(f"plinth {' '.join(words)}: {done.stderr}\n{self.log()[-3000:]}")
        return done

    def log(self):
        with open(self.folder + "/serve.log") as file:
            return file.read()

    def start(self):
        """Seconds until it serves."""
        endpoint = self.folder + "/data/endpoint.json"
        if os.path.exists(endpoint):
            os.remove(endpoint)
        words = [self.plinth, "serve", "--listen", "127.0.0.1:0"] + (["--bundle", self.bundle] if self.bundle else []) + [*self.more]
        began = time.monotonic()
        with open(self.folder + "/serve.log", "a") as log:
            self.process = subprocess.Popen(words, env=self.environment, stderr=log)
        while not os.path.exists(endpoint) or self.run("deployment", "list", check=False).returncode:
            if self.process.poll() is not None:
                sys.exit("the engine ended: " + self.log())
            time.sleep(0.01)
        return time.monotonic() - began

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.process = None

    def end(self):
        self.stop()
        if os.path.exists(self.folder + "/data/lab"):
            self.run("lab", "down", check=False)
        shutil.rmtree(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def cpu(pid, children=True):
    """CPU seconds of a process, and of all below it that live or were waited for."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    if not children:
        return (int(fields[11]) + int(fields[12])) / TICKS
    used = sum(map(int, fields[11:15])) / TICKS
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        below = file.read().split()
    for child in below:
        try:
            used += cpu(child)
        except FileNotFoundError:
            pass
    return used


def resident(pid):
    """Bytes of memory that a process has for itself and shares."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:"))


def spread(values):
    return f"{min(values):.2f}/{statistics.median(values):.2f}/{max(values):.2f}"
