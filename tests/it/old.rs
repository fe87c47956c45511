//! Beside a transaction that somebody holds open, so that nothing that died since can be cleared away.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use engine_daemon::simulate::{self, Fleet};
use engine_store::connect::{self, Target};
use engine_store::embedded::{Embedded, EmbeddedConfig};
use engine_store::testing;

/// How long it is held open.
const HELD: Duration = Duration::from_mins(2);

/// A fleet of its own; how many pages Postgres looked at for each transition.
async fn fleet(target: &Target, folder: &std::path::Path, number: u32) -> f64 {
    let fleet = Fleet {
        name: format!("fleet-{number}"),
        deployments: 1,
        nodes: 100,
        layers: 20,
        seed: 1,
        fail: 0,
        latency: Duration::ZERO,
        jobs: 1000,
        grow: 0,
        dns: None,
        workload: None,
    };
    let below = folder.join(&fleet.name);
    std::fs::create_dir(&below).expect("a folder");
    simulate::run(target, &below, &fleet, |_| {}).await.expect("simulated").pages_per_transition
}

/// The second of three.
fn median(mut of: [f64; 3]) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of[1]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_held_open_for_two_minutes_is_not_paid_for_by_every_look() {
    let folder = tempfile::Builder::new().prefix("plinth-old-").tempdir_in("/var/tmp").expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("our folder");
    // A server of its own: in the one of all tests nobody could read events meanwhile.
    let server = Embedded::start(EmbeddedConfig::new(folder.path().join("postgres"))).await.expect("started");
    let target = server.target();
    let mut number = 0;
    let mut next = async || {
        number += 1;
        fleet(&target, folder.path(), number).await
    };
    // The first finds empty tables.
    next().await;
    let before = median([next().await, next().await, next().await]);
    let pool = connect::connect(&target, 1).await.expect("connected");
    let held = testing::snapshot(&pool).await;
    let began = Instant::now();
    let mut after = [f64::INFINITY; 3];
    for turn in 0.. {
        if began.elapsed() > HELD && turn > 3 {
            break;
        }
        after[turn % 3] = next().await;
    }
    held.rollback().await.expect("it was held to the end");
    pool.close().await;
    server.stop().await.expect("stopped");
    let after = median(after);
    println!("pages for each transition: {before:.1} before, {after:.1} after two minutes, {number} fleets");
    // Half as much again is what autovacuum looks at in vain and versions that can not be cleared from their pages. A look for work that goes
    // through what is dead was seven times as much. What it costs in time, tests/bench/rate.py tells.
    assert!(before > 1.0 && after <= 2.0 * before, "{before:.1} pages for each transition before, {after:.1} after");
}
