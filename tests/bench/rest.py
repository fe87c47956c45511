#!/usr/bin/env python3
"""What an engine costs that has nothing to do: etcd on three lab nodes is up, and nobody asks for anything.

    tests/bench/rest.py [--seconds 60] [--plinth target/release/plinth]

Needs root, and a build (make release). Prints CPU and memory of the engine without its Postgres (and with it), how long it takes to start on data
that it has, and how long `plinth apply` of what is committed already takes from its start to its end. Takes everything away at the end.
"""

import json, time
from harness import ETCD, Engine, cpu, options, resident, spread, write


def main():
    given = options(seconds=60)
    with Engine(given.plinth) as engine:
        document = write(engine.folder + "/bench.yaml", ETCD)
        print(f"start on nothing: {engine.start():.2f} s")
        began = time.monotonic()
        engine.run("apply", document, "--yes", "--wait")
        print(f"apply, with making the nodes: {time.monotonic() - began:.2f} s", flush=True)
        took = []
        for _ in range(10):
            began = time.monotonic()
            said = engine.run("apply", document, "--yes", "-o", "json").stdout
            took.append(time.monotonic() - began)
            assert not any(item["changed"] for item in json.loads(said)), said
        print(f"apply again, ten times: {spread(took)} s (goal: median 0.3)", flush=True)
        pid = engine.process.pid
        own, all_ = cpu(pid, children=False), cpu(pid)
        time.sleep(given.seconds)
        own, all_ = cpu(pid, children=False) - own, cpu(pid) - all_
        print(f"at rest over {given.seconds} s: {100 * own / given.seconds:.2f} % of a core (goal 1), with Postgres "
              f"{100 * all_ / given.seconds:.2f} %; {resident(pid) / 1e6:.0f} MB without Postgres (goal 100)", flush=True)
        took = []
        for _ in range(5):
            engine.stop()
            took.append(engine.start())
        print(f"start on data that it has, five times: {spread(took)} s (goal 1.5)")
        engine.run("destroy", "bench", "--yes", "--wait")


main()
