//! A database that goes away under load and comes back: nothing is lost, nothing is done twice.

use std::process::Command;

use engine_store::embedded::{self, Embedded, EmbeddedConfig};
use serde_json::Value;

use crate::site::Site;
use crate::support::{CHAIN, chain};

const NODES: u32 = 20;

/// Jobs take long enough for the database to go in their middle.
fn begin(site: &Site) {
    let with = "{script: {base: {delay_ms: 1500}, member: {delay_ms: 1500}}}";
    site.apply(&chain("blue", NODES, "{}", with));
    site.until("blue", "in the middle", |status| {
        let count = |state: &str| status["deployment"]["counts"][state].as_u64().unwrap_or_default();
        count("running") > 0 && count("active") < u64::from(NODES)
    });
}

fn assert_converged_once(site: &Site) {
    let status = site.until_active("blue");
    let rows = status["node_roles"].as_array().expect("node roles");
    assert_eq!(rows.len(), NODES as usize * 2 + 1);
    let text = |value: &Value| value.as_str().expect("a word").to_owned();
    for row in rows {
        let place = format!("{}/{}", text(&row["node"]), text(&row["role"]));
        let why = site.json(&["why", "blue", &place]);
        assert_eq!(why["jobs"].as_array().map(Vec::len), Some(1), "{place}: {why:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_stopped_and_started_again() {
    let mut site = Site::new(&CHAIN);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let config = EmbeddedConfig::new(elsewhere.path().join("postgres"));
    let postgres = Embedded::start(config.clone()).await.expect("a Postgres");
    let url = postgres.url();
    site.start_with(&["--database", &url]);
    begin(&site);
    postgres.stop().await.expect("stopped");
    let said = site.fails(&["status", "blue"]);
    assert!(said.contains("[database-"), "{said}");
    site.until_so("said so", || match site.log() {
        log if log.contains("database") && log.contains("WARN") => Ok(()),
        log => Err(log),
    });
    let postgres = Embedded::start(config).await.expect("a Postgres");
    assert_converged_once(&site);
    drop(site);
    postgres.stop().await.expect("stopped");
}

#[test]
fn what_keeps_an_engine_from_starting_is_said_at_once() {
    let site = Site::new(&CHAIN);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let said = site.fails(&["serve", "--listen", &address]);
    assert!(said.contains("[port-taken]") && said.contains(&address), "{said}");
    let said =
        site.fails(&["serve", "--listen", "127.0.0.1:0", "--database", "postgres://me@localhost/db?host=/nowhere"]);
    assert!(said.contains("[database-unreachable]"), "{said}");
    let file = site.write("file", "");
    let said = site.fails(&["serve", "--listen", "127.0.0.1:0", "--data", &file]);
    assert!(said.contains("[data-folder]") && said.contains(&file), "{said}");
    // Nobody may make machines but root; all else works.
    let lab = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let said = site.fails_as(&lab, &["lab", "up"]);
    assert!(said.contains("[provider-needs]") && said.contains("root"), "{said}");
}

#[test]
fn the_private_database_is_started_again_when_it_is_killed() {
    let mut site = Site::new(&CHAIN);
    site.start();
    begin(&site);
    let status = embedded::status(&EmbeddedConfig::new(site.data().join("postgres"))).expect("a status");
    let pid = status.pid.expect("it runs").to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().expect("kill").success());
    assert_converged_once(&site);
    assert!(site.log().contains("the embedded Postgres is up again"), "{}", site.log());
}
