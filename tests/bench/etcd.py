#!/usr/bin/env python3
"""How long an etcd deployment takes on lab nodes, and how much of that is the engine's own.

    tests/bench/etcd.py [--rounds 5] [--plinth target/release/plinth]

Needs root, and a build (make release). Starts an engine of its own in a folder of its own and takes everything away at the end. The first round
fills the lab's package cache and is not counted. From the moment the last node is up to the moment the deployment is active is the wall
time; the longest path through the graph by job time on the agent's clock is taken from it: what is left is the engine's own share.
"""

import json, statistics
from datetime import datetime
from harness import ETCD, Engine, options, write


def when(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00").split("+")[0][:26])


def main():
    given = options(rounds=5)
    with Engine(given.plinth) as engine:
        document = write(engine.folder + "/bench.yaml", ETCD)
        engine.start()
        rows = []
        for number in range(given.rounds + 1):
            engine.run("apply", document, "--yes", "--wait")
            row = measure(engine)
            print(f"round {number}: wall {row[0]:.2f} s, longest path {row[1]:.2f} s, own share {row[0] - row[1]:.2f} s", flush=True)
            if number:
                rows.append(row)
            engine.run("destroy", "bench", "--yes", "--wait")
        wall = statistics.median(row[0] for row in rows)
        share = statistics.median(row[0] - row[1] for row in rows)
        print(f"median of {len(rows)}: wall {wall:.2f} s (goal 10), engine's own share {share:.2f} s (goal 1)")


def measure(engine):
    status = json.loads(engine.run("status", "bench", "-o", "json").stdout)
    graph = json.loads(engine.run("graph", "bench", "-o", "json").stdout)
    up = max(when(node["changed_at"]) for node in status["nodes"])
    done = max(when(row["changed_at"]) for row in status["node_roles"])
    millis = {}
    for row in status["node_roles"]:
        why = json.loads(engine.run("why", "bench", f"{row['node']}/{row['role']}", "-o", "json").stdout)
        took = sum(job.get("millis") or 0 for job in why["jobs"][:1])
        millis[row["role"]] = max(millis.get(row["role"], 0), took)
    for role, took in sorted(millis.items(), key=lambda item: -item[1]):
        print(f"    {took / 1000:7.2f} s  {role}")
    return (done - up).total_seconds(), longest(graph, millis) / 1000


def longest(graph, millis):
    """Longest path over roles; a role counts as its slowest instance."""
    parents = {}
    for role in graph["roles"]:
        parents[role["name"]] = {edge["parent"] for edge in role["parents"]}
    known = {}

    def until(role):
        if role not in known:
            known[role] = millis.get(role, 0) + max([until(parent) for parent in parents.get(role, ())], default=0)
        return known[role]

    return max((until(role) for role in millis), default=0)


main()
