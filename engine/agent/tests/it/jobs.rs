//! Jobs: exactly once, whatever dies; fences; limits; what people see.

use std::fs;

use engine_agent::protocol::{Event, Limits, Mode, OLDEST, PROTOCOL, Reply, Request, Status};
use insta::assert_snapshot;
use serde_json::json;

use crate::support::{Agent, counting, said, told, until};

#[test]
fn a_job_runs_and_its_events_are_numbered_without_gaps() {
    let agent = Agent::new();
    let mut job = agent.job(
        Mode::Apply,
        json!([
            {"file": {"path": "DIR/hello", "content": "{{ greeting }}\n", "mode": "0600"}},
            {"run": {"text": "echo out; echo err >&2; echo '{\"n\": 3}' > $PLINTH_OUTPUT", "as": "made"}},
            {"output": {"number": "{{ made.n }}"}},
        ]),
    );
    job.inputs = json!({"greeting": "hello"}).as_object().unwrap().clone();
    job.outputs = vec!["number".to_owned()];
    let heard = agent.run(&job);
    assert_eq!(heard.outcome.status, Status::Succeeded, "{}", said(&heard.outcome));
    assert_eq!(heard.outcome.outputs["number"], 3);
    assert_eq!(agent.text("hello"), "hello\n");
    let numbers: Vec<u64> = heard.events.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert!(heard.log().contains("out") && heard.log().contains("err"));
    // What is left of it on disk is its journal; the inputs are gone.
    assert!(!agent.job_dir(&job).join("spec").exists() && !agent.job_dir(&job).join("work").exists());
}

#[test]
fn the_same_run_again_attaches() {
    let agent = Agent::new();
    let job = agent.job(Mode::Apply, json!([{"run": {"text": "echo once >> DIR/count"}}]));
    let first = agent.run(&job);
    let second = agent.run(&job);
    assert_eq!(first.events, second.events);
    assert_eq!(first.outcome, second.outcome);
    assert_eq!(agent.text("count"), "once\n");
}

#[test]
fn a_job_outlives_the_connection() {
    let agent = Agent::new();
    let job = agent.job(Mode::Apply, json!([counting("one"), {"run": {"text": "echo two >> DIR/count"}}]));
    let mut talk = agent.talk();
    talk.send(&Request::Run { job: Box::new(job.clone()) });
    let seen = talk.hear_line("at one");
    talk.hang_up();
    fs::write(agent.path("go"), "").unwrap();
    let heard = agent.talk().attach(&job, seen);
    assert_eq!(said(&heard.outcome), "succeeded");
    assert!(heard.events.iter().all(|(seq, _)| *seq > seen), "events that were seen come again");
    assert_eq!(agent.text("count"), "one\ntwo\n");
}

#[test]
fn many_may_follow_one_job() {
    let agent = Agent::new();
    let job = agent.job(Mode::Apply, json!([counting("one")]));
    let mut first = agent.talk();
    first.send(&Request::Run { job: Box::new(job.clone()) });
    first.hear_line("at one");
    let mut second = agent.talk();
    second.send(&Request::Attach { job: job.job, fence: 1, seen: 0 });
    second.hear_line("at one");
    fs::write(agent.path("go"), "").unwrap();
    assert_eq!(first.hear().outcome, second.hear().outcome);
    assert_eq!(agent.text("count"), "one\n");
}

#[test]
fn a_killed_job_goes_on_after_the_steps_that_ended() {
    let agent = Agent::new();
    let wait = "echo waiting; while [ ! -e DIR/go ]; do read -t 0.01 <> <(:) || true; done; echo w >> DIR/waited";
    let job = agent.job(
        Mode::Apply,
        json!([
            {"run": {"text": "echo one >> DIR/count; echo '{\"value\": 7}' > $PLINTH_OUTPUT", "as": "first"}},
            {"file": {"path": "DIR/file", "content": "{{ first.value }}"}},
            {"run": {"text": wait, "creates": "DIR/waited"}},
            {"run": {"text": "echo {{ first.value }} >> DIR/count"}},
        ]),
    );
    let mut talk = agent.talk();
    talk.send(&Request::Run { job: Box::new(job.clone()) });
    let seen = talk.hear_line("waiting");
    // The conversation is cut first, or it would start the job again itself.
    talk.hang_up();
    agent.kill_job(&job);
    let mut talk = agent.talk();
    talk.send(&Request::Attach { job: job.job, fence: 2, seen });
    talk.hear_line("waiting");
    fs::write(agent.path("go"), "").unwrap();
    let heard = talk.hear();
    assert_eq!(said(&heard.outcome), "succeeded");
    assert_eq!(agent.text("count"), "one\n7\n");
    assert_eq!(agent.text("waited"), "w\n", "what was left of the killed step ran on beside its successor");
    assert_eq!(heard.outcome.steps.len(), 4);
}

#[test]
fn a_follower_starts_a_killed_job_again_by_itself() {
    let agent = Agent::new();
    let wait = "echo waiting; while [ ! -e DIR/go ]; do read -t 0.01 <> <(:) || true; done; touch DIR/done";
    let job = agent.job(Mode::Apply, json!([{"run": {"text": wait, "creates": "DIR/done"}}]));
    let mut talk = agent.talk();
    talk.send(&Request::Run { job: Box::new(job.clone()) });
    talk.hear_line("waiting");
    agent.kill_job(&job);
    talk.hear_line("waiting");
    fs::write(agent.path("go"), "").unwrap();
    assert_eq!(said(&talk.hear().outcome), "succeeded");
}

#[test]
fn a_plain_run_that_was_cut_off_is_unknown_and_not_repeated() {
    let agent = Agent::new();
    let job = agent.job(Mode::Apply, json!([counting("one"), {"run": {"text": "echo two >> DIR/count"}}]));
    let mut talk = agent.talk();
    talk.send(&Request::Run { job: Box::new(job.clone()) });
    talk.hear_line("at one");
    talk.hang_up();
    agent.kill_job(&job);
    let heard = agent.talk().attach(&job, 0);
    assert_eq!(heard.outcome.status, Status::Unknown);
    assert_eq!(heard.outcome.code.as_deref(), Some("outcome-unknown"));
    assert_eq!(heard.outcome.step, Some(0));
    assert_eq!(agent.text("count"), "one\n");
    // It stays so: the verdict is in the journal.
    assert_eq!(agent.talk().attach(&job, 0).outcome, heard.outcome);
}

#[test]
fn a_job_that_nobody_knows_is_not_started() {
    let agent = Agent::new();
    let job = agent.job(Mode::Apply, json!([]));
    let reply = agent.talk().ask(&Request::Attach { job: job.job, fence: 1, seen: 0 });
    assert!(matches!(reply, Reply::UnknownJob { job: unknown } if unknown == job.job), "{reply:?}");
}

#[test]
fn an_older_fence_is_refused_and_a_newer_one_counts() {
    let agent = Agent::new();
    let mut job = agent.job(Mode::Apply, json!([{"run": {"text": "true"}}]));
    job.fence = 5;
    agent.run(&job);
    let attach = |fence| agent.talk().ask(&Request::Attach { job: job.job, fence, seen: 1000 });
    let refused = |reply: Reply| matches!(reply, Reply::Refused { code, .. } if code == "fence-too-old");
    assert!(refused(attach(4)));
    assert!(matches!(attach(7), Reply::Done { .. }));
    assert!(refused(attach(5)), "the engine that was taken over still gets in");
    let mut again = job.clone();
    again.fence = 6;
    assert!(refused(agent.talk().ask(&Request::Run { job: Box::new(again) })));
    assert!(refused(agent.talk().ask(&Request::Cancel { job: job.job, fence: 6 })));
}

#[test]
fn cancel_stops_what_runs_and_what_it_started() {
    let agent = Agent::new();
    let text = "trap '' TERM; (trap '' TERM; echo $BASHPID > DIR/pid; exec sleep 100) & echo running; wait";
    let job = agent.job(Mode::Apply, json!([{"run": {"text": text}}, {"run": {"text": "touch DIR/never"}}]));
    let mut talk = agent.talk();
    talk.send(&Request::Run { job: Box::new(job.clone()) });
    talk.hear_line("running");
    until("the child is there", || agent.path("pid").exists() && !agent.text("pid").is_empty());
    let Reply::Done { outcome } = agent.talk().ask(&Request::Cancel { job: job.job, fence: 1 }) else {
        panic!("not done");
    };
    assert_eq!(outcome.status, Status::Cancelled);
    assert_eq!(talk.hear().outcome, outcome);
    assert!(!agent.path("never").exists());
    let pid = agent.text("pid").trim().to_owned();
    until("the child is gone", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn cancel_reaches_a_job_whose_process_died() {
    let agent = Agent::new();
    let job = agent.job(Mode::Apply, json!([{"run": {"text": "echo running; sleep 100", "unless": "false"}}]));
    let mut talk = agent.talk();
    talk.send(&Request::Run { job: Box::new(job.clone()) });
    talk.hear_line("running");
    talk.hang_up();
    agent.kill_job(&job);
    let Reply::Done { outcome } = agent.talk().ask(&Request::Cancel { job: job.job, fence: 1 }) else {
        panic!("not done");
    };
    assert_eq!(outcome.status, Status::Cancelled);
}

#[test]
fn time_is_limited() {
    let agent = Agent::new();
    let mut job = agent.job(Mode::Apply, json!([{"run": {"text": "echo $$ > DIR/pid; sleep 100"}}]));
    job.limits = Limits { seconds: 1, ..Limits::default() };
    let heard = agent.run(&job);
    assert_snapshot!(said(&heard.outcome), @"failed timeout: the job took longer than 1 s");
    assert!(!fs::exists(format!("/proc/{}", agent.text("pid").trim())).unwrap());
}

#[test]
fn logs_and_outputs_are_limited() {
    let agent = Agent::new();
    let mut job = agent.job(Mode::Apply, json!([{"run": {"text": "for i in {1..100}; do echo line $i; done"}}]));
    job.limits.log_bytes = 30;
    let heard = agent.run(&job);
    assert_snapshot!(heard.log(), @r"
    line 1
    line 2
    line 3
    line 4
    log cut: more than 30 bytes
    ");
    assert_eq!(said(&heard.outcome), "succeeded");

    let text = "head -c 5000 /dev/zero | tr '\\0' x | sed 's/.*/{\"big\": \"&\"}/' > $PLINTH_OUTPUT";
    let mut job = agent.job(Mode::Apply, json!([{"run": {"text": text}}]));
    job.outputs = vec!["big".to_owned()];
    job.limits.output_bytes = 100;
    assert_snapshot!(said(&agent.run(&job).outcome), @"failed output-too-large: outputs are 5011 bytes, 100 are allowed");
}

#[test]
fn outputs_must_be_declared_and_declared_ones_must_come() {
    let agent = Agent::new();
    let job = agent.job(Mode::Apply, json!([{"output": {"surprise": 1}}]));
    assert_snapshot!(said(&agent.run(&job).outcome), @"failed output-undeclared: output `surprise` is not declared by the role");
    let mut job = agent.job(Mode::Apply, json!([{"run": {"text": "true"}}]));
    job.outputs = vec!["url".to_owned()];
    assert_snapshot!(said(&agent.run(&job).outcome), @"failed output-missing: no step gave the declared output `url`");
}

#[test]
fn secrets_are_seen_nowhere() {
    let agent = Agent::new();
    let mut job = agent.job(
        Mode::Apply,
        json!([
            {"file": {"path": "DIR/secret", "content": "password={{ password }}\n", "mode": "0600"}},
            {"run": {"text": "echo \"it is $password\"; cat $PLINTH_INPUTS; tr '\\0' ' ' < /proc/self/cmdline"}},
            {"run": {"text": "echo \"$password is wrong\" >&2; exit 3"}},
        ]),
    );
    job.inputs = json!({"password": "correct horse", "user": "battery"}).as_object().unwrap().clone();
    job.secret = vec!["password".to_owned()];
    let heard = agent.run(&job);
    assert_eq!(agent.text("secret"), "password=correct horse\n");
    let seen = format!("{:?}{:?}", heard.events, heard.outcome);
    assert!(!seen.contains("correct horse"), "{seen}");
    assert!(
        seen.contains("it is [secret]")
            && seen.contains("content differs, and holds a secret")
            && seen.contains("battery")
    );
    assert_snapshot!(said(&heard.outcome), @"failed step-failed: the script ended with 3: [secret] is wrong");
    let journal = fs::read_to_string(agent.job_dir(&job).join("journal")).unwrap();
    assert!(!journal.contains("correct horse"));
}

#[test]
fn a_torn_last_line_is_cut_off_and_a_damaged_journal_is_refused() {
    let agent = Agent::new();
    let wait = "echo waiting; while [ ! -e DIR/go ]; do read -t 0.01 <> <(:) || true; done";
    let job = agent.job(Mode::Apply, json!([{"run": {"text": wait, "unless": "false"}}]));
    let mut talk = agent.talk();
    talk.send(&Request::Run { job: Box::new(job.clone()) });
    let seen = talk.hear_line("waiting");
    talk.hang_up();
    agent.kill_job(&job);
    let journal = agent.job_dir(&job).join("journal");
    let whole = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, format!("{whole}{{\"record\":\"eve")).unwrap();
    fs::write(agent.path("go"), "").unwrap();
    let heard = agent.talk().attach(&job, seen);
    assert_eq!(said(&heard.outcome), "succeeded");
    assert_eq!(heard.events[0].0, seen + 1);

    fs::write(&journal, format!("nonsense\n{whole}")).unwrap();
    let reply = agent.talk().ask(&Request::Attach { job: job.job, fence: 1, seen: 0 });
    assert!(matches!(&reply, Reply::Refused { code, .. } if code == "journal-damaged"), "{reply:?}");
}

#[test]
fn forgotten_jobs_are_unknown_and_running_ones_are_kept() {
    let agent = Agent::new();
    let job = agent.job(Mode::Apply, json!([counting("one")]));
    let mut talk = agent.talk();
    talk.send(&Request::Run { job: Box::new(job.clone()) });
    talk.hear_line("at one");
    let running = |reply: Reply| matches!(reply, Reply::Refused { code, .. } if code == "job-running");
    assert!(running(agent.talk().ask(&Request::Forget { job: job.job })));
    assert!(running(agent.talk().ask(&Request::Uninstall)));
    fs::write(agent.path("go"), "").unwrap();
    talk.hear();
    until("it can be forgotten", || matches!(agent.talk().ask(&Request::Forget { job: job.job }), Reply::Ok));
    let reply = agent.talk().ask(&Request::Attach { job: job.job, fence: 1, seen: 0 });
    assert!(matches!(reply, Reply::UnknownJob { .. }));
    assert!(matches!(agent.talk().ask(&Request::Uninstall), Reply::Ok));
    assert!(!agent.state().exists());
}

#[test]
fn the_incarnation_lives_and_dies_with_the_journals() {
    let agent = Agent::new();
    let name = |agent: &Agent| match &agent.talk().hello {
        Reply::Hello { incarnation, .. } => incarnation.clone(),
        other => panic!("{other:?}"),
    };
    let first = name(&agent);
    assert_eq!(first, name(&agent));
    fs::remove_dir_all(agent.state().join("jobs")).unwrap();
    assert_ne!(first, name(&agent));
}

#[test]
fn exec_streams_and_tells_the_exit_status() {
    let agent = Agent::new();
    let mut talk = agent.talk();
    let command = ["sh", "-c", "echo hello; exit 3"].map(str::to_owned).to_vec();
    talk.send(&Request::Exec { command, timeout: 10 });
    let heard = talk.hear();
    assert_eq!(heard.log(), "hello");
    assert_eq!((heard.outcome.status, heard.outcome.exit), (Status::Succeeded, Some(3)));

    let mut talk = agent.talk();
    talk.send(&Request::Exec { command: vec!["no-such-program".to_owned()], timeout: 10 });
    assert_snapshot!(said(&talk.hear().outcome), @"failed program-missing: no-such-program is not on this machine");
}

#[test]
fn a_full_disk_is_named() {
    let agent = Agent::new();
    let job = agent.job(Mode::Apply, json!([{"run": {"text": "echo 'x: No space left on device' >&2; exit 1"}}]));
    assert_eq!(agent.run(&job).outcome.code.as_deref(), Some("disk-full"));
}

#[test]
fn a_reboot_is_over_when_the_boot_id_is_another() {
    let agent = Agent::new();
    let bin = agent.path("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("systemctl"), format!("#!/bin/sh\necho \"$@\" >> {}/calls\n", agent.path("").display()))
        .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bin.join("systemctl"), mode).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let job =
        agent.job(Mode::Apply, json!([{"reboot": {"within": "60s"}}, {"run": {"text": "echo after >> DIR/count"}}]));
    let mut talk = agent.talk_with_path(&path);
    talk.send(&Request::Run { job: Box::new(job.clone()) });
    let boot_id = loop {
        match talk.reply() {
            Reply::Rebooting { boot_id, within: 60 } => break boot_id,
            Reply::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    until("the reboot is asked for", || agent.path("calls").exists());
    talk.hang_up();
    agent.kill_job(&job);
    // As if the machine had come back: the journal names the boot before.
    let journal = agent.job_dir(&job).join("journal");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.replace(&boot_id, "00000000-0000-0000-0000-000000000000")).unwrap();
    let heard = agent.talk_with_path(&path).attach(&job, 0);
    assert_snapshot!(told(&heard.outcome, &agent), @r"
    succeeded
    changed reboot
      reboot: rebooted
    changed run echo after >> DIR/count
      run: ran
    ");
    assert_eq!(heard.outcome.steps[0].effects, ["reboot"]);
    assert_eq!(agent.text("count"), "after\n");
    assert_eq!(agent.text("calls"), "reboot\n");
}

#[test]
fn a_reboot_that_does_not_happen_is_an_error() {
    let agent = Agent::new();
    let bin = agent.path("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink("/bin/true", bin.join("systemctl")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let job = agent.job(Mode::Apply, json!([{"reboot": {"within": "1s"}}]));
    let heard = agent.talk_with_path(&path).run(&job);
    assert_snapshot!(said(&heard.outcome), @"failed reboot-did-not-happen: the node did not reboot within 1 s");
}

#[test]
fn the_first_frame_is_hello_and_its_version_counts() {
    let agent = Agent::new();
    let reply = agent.talk().ask(&Request::Hello { protocol: 1 });
    assert!(matches!(&reply, Reply::Refused { code, .. } if code == "protocol-unknown"), "{reply:?}");
    let facts = agent.talk().ask(&Request::Facts);
    assert!(matches!(&facts, Reply::Facts { facts } if facts.cpus > 0), "{facts:?}");
}

#[test]
fn engines_of_other_versions_are_answered_as_far_as_they_can_be() {
    let agent = Agent::new();
    let version = |hello: &Reply| match hello {
        Reply::Hello { protocol, .. } => Some(*protocol),
        _ => None,
    };
    // A newer one says what it could speak, sends what an older agent understands, and more that it passes over.
    let talk = agent.talk_in(PROTOCOL + 1);
    assert_eq!(version(&talk.hello), Some(PROTOCOL));
    let facts = talk.ask(&json!({"request": "facts", "later": {"some": "thing"}}));
    assert!(matches!(&facts, Reply::Facts { facts } if facts.cpus > 0), "{facts:?}");
    let mut job =
        serde_json::to_value(agent.job(Mode::Apply, json!([{"file": {"path": "DIR/f", "content": "x"}}]))).unwrap();
    job["later"] = json!(true);
    job["limits"]["later"] = json!(1);
    let mut talk = agent.talk_in(PROTOCOL + 1);
    talk.send(&json!({"request": "run", "job": job}));
    assert_eq!(talk.hear().outcome.status, Status::Succeeded);
    let refused = &agent.talk_in(OLDEST - 1).hello;
    assert!(matches!(refused, Reply::Refused { code, .. } if code == "protocol-unknown"), "{refused:?}");
}

#[test]
fn a_job_costs_a_few_milliseconds() {
    let agent = Agent::new();
    agent.apply(json!([]));
    let mut spans: Vec<u128> = (0..9)
        .map(|_| {
            let began = std::time::Instant::now();
            let heard = agent.run(&agent.job(Mode::Apply, json!([{"file": {"path": "DIR/f", "content": "x"}}])));
            assert!(matches!(heard.events[0].1, Event::Started { .. }));
            began.elapsed().as_millis()
        })
        .collect();
    spans.sort_unstable();
    // Two processes are started; the limit is wide, for the machine may be busy and the binary is not optimised.
    assert!(spans[4] < 250, "median of {spans:?} ms");
}
