#!/usr/bin/env python3
"""Ten steps on fifty SSH hosts, side by side with pyinfra and ansible; `true` on fifty hosts with pyinfra.

    tests/bench/ssh.py [--hosts 50] [--rounds 3] [--ansible-rounds 1] [--plinth target/release/plinth]

Needs root, openssh-server, and a build (make release). The hosts are one sshd of its own on addresses of loopback. Peers come from PyPI into a
virtual environment that is kept (~/.cache/plinth/bench). All do the same steps and must leave the same files, which is compared. The first run
finds nothing there; before the second run nothing is changed, and all steps are looked at again (Plinth is given another value of an input that
no step shows, or it would do nothing at all). No connection is open before a run. Controller CPU is everything but sshd and what runs below it: of
Plinth the command, the engine and its Postgres; of ansible not what its ssh masters use after they have left it. Times are min/median/max.
"""

import filecmp, json, os, resource, shutil, socket, statistics, subprocess, sys, time
from harness import Engine, cpu, options, spread, write

HOME = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "plinth", "bench")
VERSIONS = ["pyinfra==3.10.0", "ansible-core==2.19.14"]

ROLE = """role: ten
version: 1.0.0
about: Ten steps.
runs: node
milestone: true
inputs:
  base: {schema: {type: string}}
  host: {schema: {type: string}, from: node.address}
  round: {schema: {type: integer}}
apply:
  - directory: {path: '{{ base }}/{{ host }}/app', mode: '0755'}
  - directory: {path: '{{ base }}/{{ host }}/conf', mode: '0755'}
  - file: {path: '{{ base }}/{{ host }}/conf/one', content: "one of {{ host }}\\n", mode: '0644'}
  - file: {path: '{{ base }}/{{ host }}/conf/two', content: "two of {{ host }}\\n", mode: '0644'}
  - file: {path: '{{ base }}/{{ host }}/conf/three', content: "three of {{ host }}\\n", mode: '0644'}
  - file: {path: '{{ base }}/{{ host }}/conf/secret', content: "secret of {{ host }}\\n", mode: '0600'}
  - file: {path: '{{ base }}/{{ host }}/app/main', content: "main of {{ host }}\\n", mode: '0755'}
  - link: {path: '{{ base }}/{{ host }}/current', to: '{{ base }}/{{ host }}/app'}
  - run: {text: 'echo installed >{{ base }}/{{ host }}/installed', creates: '{{ base }}/{{ host }}/installed'}
  - absent: {path: '{{ base }}/{{ host }}/old'}
"""
WORKLOAD = """workload: ten
version: 1.0.0
about: Ten steps.
parameters: {type: object, additionalProperties: false, required: [base, round], properties: {base: {type: string}, round: {type: integer}}}
groups: {all: {count: {default: 1, minimum: 1}}}
roles: {all: [{ten: {with: {base: '{{ parameters.base }}', round: '{{ parameters.round }}'}}}]}
"""
PYINFRA = """from io import StringIO
from pyinfra import host
from pyinfra.operations import files, server
top = "BASE/" + host.name
files.directory(path=top + "/app", mode="755")
files.directory(path=top + "/conf", mode="755")
files.put(src=StringIO(f"one of {host.name}\\n"), dest=top + "/conf/one", mode="644")
files.put(src=StringIO(f"two of {host.name}\\n"), dest=top + "/conf/two", mode="644")
files.put(src=StringIO(f"three of {host.name}\\n"), dest=top + "/conf/three", mode="644")
files.put(src=StringIO(f"secret of {host.name}\\n"), dest=top + "/conf/secret", mode="600")
files.put(src=StringIO(f"main of {host.name}\\n"), dest=top + "/app/main", mode="755")
files.link(path=top + "/current", target=top + "/app")
server.shell(commands=[f"[ -e {top}/installed ] || echo installed >{top}/installed"])
files.file(path=top + "/old", present=False)
"""
ANSIBLE = """- hosts: all
  gather_facts: false
  vars: {top: "BASE/{{ inventory_hostname }}"}
  tasks:
    - file: {path: "{{ top }}/app", state: directory, mode: "0755"}
    - file: {path: "{{ top }}/conf", state: directory, mode: "0755"}
    - copy: {dest: "{{ top }}/conf/one", content: "one of {{ inventory_hostname }}\\n", mode: "0644"}
    - copy: {dest: "{{ top }}/conf/two", content: "two of {{ inventory_hostname }}\\n", mode: "0644"}
    - copy: {dest: "{{ top }}/conf/three", content: "three of {{ inventory_hostname }}\\n", mode: "0644"}
    - copy: {dest: "{{ top }}/conf/secret", content: "secret of {{ inventory_hostname }}\\n", mode: "0600"}
    - copy: {dest: "{{ top }}/app/main", content: "main of {{ inventory_hostname }}\\n", mode: "0755"}
    - file: {path: "{{ top }}/current", src: "{{ top }}/app", state: link}
    - shell: {cmd: "echo installed >{{ top }}/installed", creates: "{{ top }}/installed"}
    - file: {path: "{{ top }}/old", state: absent}
"""


class Hosts:
    """One sshd on many addresses."""

    def __init__(self, folder, count):
        self.folder, self.names = folder, [f"127.0.{1 + n // 200}.{1 + n % 200}" for n in range(count)]
        self.key = folder + "/person"
        os.makedirs(folder)
        for name in ("person", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{name}"], check=True)
        shutil.copy(folder + "/person.pub", folder + "/authorized_keys")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        os.makedirs("/run/sshd", exist_ok=True)
        config = write(folder + "/config", f"""Port {self.port}
ListenAddress 0.0.0.0
AllowUsers *@127.0.0.0/8
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/authorized_keys {folder}/.ssh/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
MaxStartups 1000
MaxSessions 100
UseDNS no
SetEnv HOME={folder}
Subsystem sftp internal-sftp
""")
        with open(folder + "/log", "w") as log:
            self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", config], stderr=log)

    def end(self):
        self.process.terminate()
        self.process.wait()


def timed(words, environment=None, engine=None):
    """Wall and controller CPU seconds of a command, with an engine that works for it."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    used = cpu(engine.process.pid) if engine else 0
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(words[:4])}: {done.stdout[-3000:]}")
    own = cpu(engine.process.pid) - used if engine else 0
    return wall, own + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Plinth:
    def __init__(self, hosts, engine):
        self.hosts, self.engine, self.round = hosts, engine, 0
        engine.start()
        nodes = "".join(
            f"---\nnode: h{n}\naddress: {name}\nport: {hosts.port}\nuser: root\nkey: {hosts.key}\n" for n, name in enumerate(hosts.names))
        began = time.monotonic()
        engine.run("node", "add", write(engine.folder + "/nodes.yaml", nodes))
        while not all(node["state"] == "up" for node in json.loads(engine.run("node", "list", "-o", "json").stdout)):
            assert time.monotonic() < began + 120, engine.run("node", "list").stdout
            time.sleep(0.1)
        print(f"plinth: {len(hosts.names)} hosts adopted, agent installed: {time.monotonic() - began:.2f} s, once", flush=True)

    def fresh(self):
        """No connection is open."""
        self.engine.stop()
        self.engine.start()

    def play(self, base):
        self.round += 1
        self.fresh()
        names = ", ".join(f"h{n}" for n in range(len(self.hosts.names)))
        document = write(self.engine.folder + "/ten.yaml",
                         f"deployment: ten\nworkload: ten\nnodes: {{all: [{names}]}}\nparameters: {{base: {base}, round: {self.round}}}\n")
        return timed([self.engine.plinth, "apply", document, "--yes", "--wait"], self.engine.environment, self.engine)

    def true(self):
        self.fresh()
        names = [f"h{n}" for n in range(len(self.hosts.names))]
        return timed([self.engine.plinth, "exec", *names, "--", "true"], self.engine.environment, self.engine)

    def end(self):
        self.engine.run("destroy", "ten", "--yes", "--wait", check=False)
        for n in range(len(self.hosts.names)):
            self.engine.run("node", "remove", f"h{n}", check=False)
        while self.engine.run("node", "list", "-o", "name").stdout:
            time.sleep(0.1)


class Pyinfra:
    def __init__(self, hosts, engine):
        self.folder, self.hosts = engine.folder + "/pyinfra", hosts
        rows = [(name, {"ssh_port": hosts.port, "ssh_user": "root", "ssh_key": hosts.key, "ssh_strict_host_key_checking": "off",
                        "ssh_known_hosts_file": self.folder + "/known"}) for name in hosts.names]
        write(self.folder + "/inventory.py", f"hosts = {rows!r}\n")
        self.words = [HOME + "/bin/pyinfra", "-y", "--parallel", str(len(rows)), self.folder + "/inventory.py"]

    def play(self, base):
        return timed([*self.words, write(self.folder + "/deploy.py", PYINFRA.replace("BASE", base))])

    def true(self):
        return timed([*self.words, "exec", "--", "true"])

    def end(self):
        pass


class Ansible:
    def __init__(self, hosts, engine):
        self.folder = engine.folder + "/ansible"
        lines = [f"{name} ansible_port={hosts.port} ansible_user=root ansible_ssh_private_key_file={hosts.key} "
                 f"ansible_python_interpreter={sys.executable}" for name in hosts.names]
        write(self.folder + "/inventory", "\n".join(lines) + "\n")
        write(self.folder + "/ansible.cfg", f"""[defaults]
host_key_checking = False
forks = 10
[ssh_connection]
pipelining = True
control_path_dir = {self.folder}/cp
ssh_args = -F none -o ControlMaster=auto -o ControlPersist=30s -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no
""")
        self.environment = dict(os.environ, ANSIBLE_CONFIG=self.folder + "/ansible.cfg", HOME=self.folder, LC_ALL="C.UTF-8")

    def play(self, base):
        playbook = write(self.folder + "/play.yaml", ANSIBLE.replace("BASE", base))
        took = timed([HOME + "/bin/ansible-playbook", "-i", self.folder + "/inventory", playbook], self.environment)
        self.end()
        return took

    def end(self):
        cp = self.folder + "/cp"
        for name in os.listdir(cp) if os.path.isdir(cp) else []:
            subprocess.run(["ssh", "-F", "none", "-o", f"ControlPath={cp}/{name}", "-O", "exit", "x"], capture_output=True)


def same(left, right):
    """Both trees hold the same files, links and modes."""
    for (at, folders, files), (other, others, more) in zip(sorted(os.walk(left)), sorted(os.walk(right))):
        assert sorted(folders) == sorted(others) and sorted(files) == sorted(more), (at, other)
        for name in files:
            one, two = os.path.join(at, name), os.path.join(other, name)
            assert filecmp.cmp(one, two, shallow=False) and os.stat(one).st_mode == os.stat(two).st_mode, (one, two)


def main():
    given = options(hosts=50, rounds=3, ansible_rounds=1)
    if not os.path.exists(HOME + "/bin/pyinfra") or not os.path.exists(HOME + "/bin/ansible-playbook"):
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
        subprocess.run([HOME + "/bin/pip", "install", "-q", *VERSIONS], check=True)
    with Engine(given.plinth) as engine:
        write(engine.folder + "/bundle/bundle.yaml", "bundle: bench\nversion: 1.0.0\n")
        write(engine.folder + "/bundle/roles/ten/role.yaml", ROLE)
        write(engine.folder + "/bundle/workloads/ten/workload.yaml", WORKLOAD)
        engine.bundle = engine.folder + "/bundle"
        hosts = Hosts(engine.folder + "/hosts", given.hosts)
        try:
            compare(given, hosts, engine)
        finally:
            hosts.end()


def compare(given, hosts, engine):
    tools = {"plinth": Plinth(hosts, engine), "pyinfra": Pyinfra(hosts, engine), "ansible": Ansible(hosts, engine)}
    rows = {}

    def note(name, what, took):
        rows.setdefault((name, what), []).append(took)
        print(f"{name:8} {what:7} wall {took[0]:7.2f} s   controller CPU {took[1]:6.2f} s", flush=True)

    for number in range(given.rounds):
        trees = {}
        for name, tool in tools.items():
            if name == "ansible" and number >= given.ansible_rounds:
                continue
            trees[name] = f"{engine.folder}/left-{name}-{number}"
            os.mkdir(trees[name])
            note(name, "first", tool.play(trees[name]))
            note(name, "second", tool.play(trees[name]))
            if name != "ansible":
                note(name, "true", tool.true())
        for name in trees:
            assert len(os.listdir(trees[name])) == len(hosts.names), f"{name} did not do its work"
            same(trees["plinth"], trees[name])
    for tool in tools.values():
        tool.end()
    print(f"\n{len(hosts.names)} hosts; min/median/max of {given.rounds}, all left the same files")
    for (name, what), took in rows.items():
        print(f"{name:8} {what:7} wall {spread([t[0] for t in took])} s   controller CPU {spread([t[1] for t in took])} s")

    def ratio(what, peer, column):
        pairs = zip(rows["plinth", what], rows[peer, what])
        return statistics.median(ours[column] / theirs[column] for ours, theirs in pairs)

    for peer, goal in (("pyinfra", 0.4), ("ansible", 0.1)):
        if (peer, "first") in rows:
            print(f"wall, of {peer}: first {ratio('first', peer, 0):.3f}, second {ratio('second', peer, 0):.3f} (goal {goal})")
    print(f"controller CPU, of pyinfra: first {ratio('first', 'pyinfra', 1):.3f}, second {ratio('second', 'pyinfra', 1):.3f} (goal 0.2)")
    print(f"true, of pyinfra: wall {ratio('true', 'pyinfra', 0):.3f} (goal 0.5), controller CPU {ratio('true', 'pyinfra', 1):.3f}")


main()
