//! Jobs by the real agent over the real server.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use engine_agent::protocol::{Event, JobSpec, Outcome, Status};
use engine_remote::{AgentBinary, Ended, Followed, Following, Note, Pool, Target};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::follow::job;
use crate::sshd::Sshd;

#[tokio::test]
async fn a_job_runs_once_and_its_events_come_in_order() {
    let (sshd, pool, target) = node();
    let counter = sshd.dir.path().join("count");
    let job = job(&format!("echo once >> {}; echo hello; echo oops", counter.display()));
    let (ended, notes) = run(&pool, &target, &job).await;
    let outcome = finished(ended);
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert!(matches!(notes[0], Note::Greeting { .. }));
    let numbers: Vec<u64> = notes.iter().filter_map(seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(lines(&notes), ["hello", "oops"]);
    // The same job again is the same job, told from its beginning.
    let (again, retold) = run(&pool, &target, &job).await;
    assert_eq!(finished(again), outcome);
    assert_eq!(lines(&retold), ["hello", "oops"]);
    assert_eq!(fs::read_to_string(&counter).unwrap(), "once\n");
    // And from the middle.
    let (sink, mut rest) = mpsc::channel(1000);
    finished(pool.attach(&target, job.job, 1, numbers.len() as u64 - 1, &sink).await);
    drop(sink);
    let mut count = 0;
    while let Some(note) = rest.recv().await {
        count += u32::from(seq(&note).is_some());
    }
    assert_eq!(count, 1);
    pool.forget(&target, job.job).await.unwrap();
    let ended = pool.attach(&target, job.job, 1, 0, &mpsc::channel(1).0).await;
    assert!(matches!(ended, Ended::UnknownJob { .. }), "{ended:?}");
}

#[tokio::test]
async fn a_job_outlives_its_connection_and_runs_once() {
    let (sshd, pool, target) = node();
    let dir = sshd.dir.path().display();
    let job =
        job(&format!("echo begun >> {dir}/count; echo half; while [ ! -e {dir}/go ]; do sleep 0.02; done; echo whole"));
    let (sink, mut notes) = mpsc::channel(1000);
    let cut = async {
        let mut heard = Vec::new();
        loop {
            let note = notes.recv().await.unwrap();
            let half = matches!(&note, Note::Event { event: Event::Log { line, .. }, .. } if line == "half");
            heard.push(note);
            if half {
                assert!(sshd.cut() > 0);
                fs::write(sshd.dir.path().join("go"), "").unwrap();
                break;
            }
        }
        while let Some(note) = notes.recv().await {
            heard.push(note);
        }
        heard
    };
    let follow = async {
        let sink = sink;
        pool.follow(&target, following(&job), &sink).await
    };
    let (followed, heard) = tokio::join!(follow, cut);
    let Followed::Done(outcome) = followed else { panic!("{followed:?}") };
    assert_eq!(outcome.status, Status::Succeeded, "{outcome:?}");
    assert_eq!(lines(&heard), ["half", "whole"], "nothing twice, nothing lost");
    assert_eq!(fs::read_to_string(sshd.dir.path().join("count")).unwrap(), "begun\n");
    assert_eq!(sshd.log().matches("Accepted publickey").count(), 2);
}

#[tokio::test]
async fn a_job_is_followed_through_an_sshd_that_is_down_for_a_while() {
    let (mut sshd, pool, target) = node();
    let dir = sshd.dir.path().display().to_string();
    let job = job(&format!("echo half; while [ ! -e {dir}/go ]; do sleep 0.02; done; echo whole"));
    let (sink, mut notes) = mpsc::channel(1000);
    let outage = async {
        while !matches!(notes.recv().await, Some(Note::Event { event: Event::Log { .. }, .. })) {}
        sshd.stop();
        fs::write(format!("{dir}/go"), "").unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        sshd.start_again();
    };
    let (followed, ()) = tokio::join!(pool.follow(&target, following(&job), &sink), outage);
    assert!(matches!(followed, Followed::Done(Outcome { status: Status::Succeeded, .. })), "{followed:?}");
}

#[tokio::test]
async fn an_older_fence_is_refused_and_a_cancelled_job_says_so() {
    let (_sshd, pool, target) = node();
    let job = job("echo begun; sleep 1000");
    let (sink, mut notes) = mpsc::channel(1000);
    let meanwhile = async {
        while !matches!(notes.recv().await, Some(Note::Event { event: Event::Log { .. }, .. })) {}
        let ended = pool.attach(&target, job.job, 0, 0, &mpsc::channel(1).0).await;
        let Ended::Lost(error) = ended else { panic!("{ended:?}") };
        assert_eq!(error.code(), "agent-declined");
        assert!(error.to_string().contains("fence-too-old"), "{error}");
        finished(pool.cancel(&target, job.job, 1).await)
    };
    let (ended, cancelled) = tokio::join!(pool.run(&target, job.clone(), &sink), meanwhile);
    assert_eq!(cancelled.status, Status::Cancelled);
    assert_eq!(finished(ended).status, Status::Cancelled);
}

#[tokio::test]
async fn fourteen_jobs_at_once_on_one_node() {
    let (_sshd, pool, target) = node();
    let jobs: Vec<_> = (0..14).map(|_| job("sleep 0.1; echo done")).collect();
    for (ended, notes) in futures::future::join_all(jobs.iter().map(|job| run(&pool, &target, job))).await {
        assert_eq!(finished(ended).status, Status::Succeeded);
        assert_eq!(lines(&notes), ["done"]);
    }
    assert_eq!(pool.connections(), 1);
}

#[tokio::test]
async fn a_command_gives_its_lines_and_its_status() {
    let (_sshd, pool, target) = node();
    let (sink, mut notes) = mpsc::channel(1000);
    let command = ["sh", "-c", "echo out; echo err >&2; exit 7"].map(str::to_owned).to_vec();
    let outcome = finished(pool.exec(&target, command, Duration::from_secs(30), &sink).await);
    assert_eq!(outcome.exit, Some(7));
    drop(sink);
    let mut heard = Vec::new();
    while let Some(note) = notes.recv().await {
        heard.push(note);
    }
    let mut said = lines(&heard);
    said.sort();
    assert_eq!(said, ["err", "out"]);
}

#[tokio::test]
async fn uninstalling_leaves_nothing_and_spares_the_neighbour() {
    let (sshd, pool, one) = node();
    let two = sshd.target("two", "127.0.0.2");
    pool.facts(&one).await.unwrap();
    pool.facts(&two).await.unwrap();
    pool.uninstall(&one).await.unwrap();
    assert!(!sshd.root().join("nodes").join(one.node.to_string()).exists());
    pool.facts(&two).await.unwrap();
    pool.uninstall(&two).await.unwrap();
    assert!(!sshd.root().exists(), "{:?}", fs::read_dir(sshd.root()).map(Iterator::count));
}

#[tokio::test]
async fn our_key_comes_and_goes_and_all_other_lines_stay_as_they_are() {
    let (sshd, pool, target) = node();
    let file = sshd.dir.path().join(".ssh/authorized_keys");
    let ours = sshd.key.public_line() + "\n";
    // Where there is no file, one is made, and is left empty.
    pool.admit(&target, true).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), ours);
    pool.admit(&target, false).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "");
    // Backslashes, empty lines, bytes that are no text, and no end of the last line.
    let theirs = b"ssh-rsa AAAA a\\nb\n\n\xff\ncommand=\"echo \\1\" ssh-ed25519 BBBB last";
    fs::write(&file, theirs).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    for _ in 0..2 {
        pool.admit(&target, true).await.unwrap();
    }
    assert_eq!(fs::read(&file).unwrap(), [theirs, b"\n".as_slice(), ours.as_bytes()].concat());
    for _ in 0..2 {
        pool.admit(&target, false).await.unwrap();
    }
    assert_eq!(fs::read(&file).unwrap(), [theirs, b"\n".as_slice()].concat());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no file of ours is left beside it");
    // What can not be written is said, and not taken for sudo.
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(pool.admit(&target, true).await.unwrap_err().code(), "agent-install-failed");
}

#[tokio::test]
async fn the_machine_tells_its_facts() {
    let (_sshd, pool, target) = node();
    let facts = pool.facts(&target).await.unwrap().facts;
    assert_eq!(facts.boot_id.trim(), fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    assert!(facts.cpus > 0 && facts.memory > 0);
}

fn node() -> (Sshd, Pool, Target) {
    let sshd = Sshd::start();
    let pool = sshd.pool(agent());
    let target = sshd.target("a", "127.0.0.1");
    (sshd, pool, target)
}

/// The real agent; `PLINTH_AGENT` names another than the one that was built with this test.
fn agent() -> AgentBinary {
    static AGENT: OnceLock<AgentBinary> = OnceLock::new();
    let load = || {
        let path = std::env::var_os("PLINTH_AGENT").map_or_else(beside_us, PathBuf::from);
        let binary = fs::read(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; `cargo test --workspace` builds it", path.display());
        });
        AgentBinary::new(std::env::consts::ARCH, binary)
    };
    AGENT.get_or_init(load).clone()
}

/// Where cargo puts the programs of the workspace: tests are in `deps` beside them. Nothing is built here: a cargo
/// inside of a test waits for the lock of the one that runs it, and builds with other features.
fn beside_us() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    deps.parent().and_then(Path::parent).unwrap().join("plinth-agent")
}

fn following(job: &JobSpec) -> Following<'_> {
    let deadline = Instant::now() + Duration::from_mins(1);
    Following { job, begun: false, incarnation: None, seen: 0, repeatable: false, deadline }
}

async fn run(pool: &Pool, target: &Target, job: &JobSpec) -> (Ended, Vec<Note>) {
    let (sink, mut notes) = mpsc::channel(1000);
    let ended = pool.run(target, job.clone(), &sink).await;
    drop(sink);
    let mut heard = Vec::new();
    while let Some(note) = notes.recv().await {
        heard.push(note);
    }
    (ended, heard)
}

fn finished(ended: Ended) -> Outcome {
    match ended {
        Ended::Done(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

fn seq(note: &Note) -> Option<u64> {
    match note {
        Note::Event { seq, .. } => Some(*seq),
        Note::Greeting { .. } => None,
    }
}

/// What the job itself printed.
fn lines(notes: &[Note]) -> Vec<String> {
    let line = |note: &Note| match note {
        Note::Event { event: Event::Log { stream, line }, .. } if stream != "agent" => Some(line.clone()),
        _ => None,
    };
    notes.iter().filter_map(line).collect()
}
