//! `wait` for a name, with a resolver of the test's own: the agent sees another `/etc/hosts` and another `/etc/resolv.conf`.

use std::fs;
use std::process::Command;

use engine_agent::protocol::{JobSpec, Mode, NOT_YET, Outcome, Reply, Request, Status};
use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Agent, Talk, said, told};

/// A conversation with an agent for which names are what the test's file says.
fn talk(agent: &Agent) -> Talk {
    let mut command = Command::new("unshare");
    let over = |name: &str| format!("mount --bind {} /etc/{name}", agent.path(name).display());
    let script = format!("set -e; {}; {}; exec \"$0\" \"$@\"", over("hosts"), over("resolv.conf"));
    command.args(["--mount", "--", "bash", "-c", &script, env!("CARGO_BIN_EXE_plinth-agent")]);
    agent.talk_by(command)
}

fn run(agent: &Agent, job: &JobSpec) -> Outcome {
    talk(agent).run(job).outcome
}

/// In place, for the file is mounted.
fn names(agent: &Agent, text: &str) {
    fs::write(agent.path("hosts"), text).expect("a file");
}

fn wait(addresses: &[&str]) -> Value {
    json!([{"wait": {"name": "web.example.test", "addresses": addresses}}])
}

#[test]
fn a_name_is_waited_for_as_programs_find_it() {
    let agent = Agent::new();
    // Whoever asks there is told at once that nobody listens.
    fs::write(agent.path("resolv.conf"), "nameserver 127.0.0.99\noptions timeout:1 attempts:1\n").expect("a file");
    names(&agent, "192.0.2.1 web.example.test\n");

    let mut job = agent.job(Mode::Apply, wait(&["192.0.2.3", "192.0.2.2"]));
    let outcome = run(&agent, &job);
    assert_eq!(outcome.code.as_deref(), Some(NOT_YET));
    assert_snapshot!(said(&outcome), @"failed not-yet: web.example.test leads to 192.0.2.1 here, and should lead to 192.0.2.2, 192.0.2.3");
    let check = agent.job(Mode::Check, wait(&["192.0.2.2"]));
    assert_snapshot!(told(&run(&agent, &check), &agent), @"
    drifted
    changed wait web.example.test
      wait: web.example.test leads to 192.0.2.1 here, and should lead to 192.0.2.2
    ");
    let mut probe = agent.job(Mode::Check, json!([]));
    probe.then = agent.steps(wait(&["192.0.2.2"]));
    assert_snapshot!(said(&run(&agent, &probe)), @"failed wait-timeout: name web.example.test did not come about within 1 s: web.example.test leads to 192.0.2.1 here, and should lead to 192.0.2.2");
    let plan = agent.job(Mode::Plan, wait(&["192.0.2.2"]));
    assert_snapshot!(told(&run(&agent, &plan), &agent), @"
    succeeded
    skipped wait web.example.test
    ");

    // Half of it is not enough, and all of it is.
    names(&agent, "192.0.2.2 web.example.test\n");
    let mut again = |agent: &Agent| {
        assert!(matches!(talk(agent).ask(&Request::Forget { job: job.job }), Reply::Ok));
        job.fence += 1;
        run(agent, &job)
    };
    assert_snapshot!(said(&again(&agent)), @"failed not-yet: web.example.test leads to 192.0.2.2 here, and should lead to 192.0.2.2, 192.0.2.3");
    names(&agent, "192.0.2.2 web.example.test\n192.0.2.3 web.example.test\n");
    let done = again(&agent);
    assert_eq!((done.status, done.changed), (Status::Succeeded, false), "{}", told(&done, &agent));

    // A name that must not be there, and one that is not.
    let gone = agent.job(Mode::Apply, wait(&[]));
    assert_snapshot!(said(&run(&agent, &gone)), @"failed not-yet: web.example.test leads to 192.0.2.2, 192.0.2.3 here, and should lead nowhere");
    names(&agent, "");
    let mut gone = agent.job(Mode::Apply, wait(&[]));
    gone.then = agent.steps(wait(&["2001:db8::1"]));
    assert_snapshot!(said(&run(&agent, &gone)), @"failed not-yet: web.example.test leads nowhere here, and should lead to 2001:db8::1");
}
