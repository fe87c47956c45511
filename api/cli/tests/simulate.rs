//! `plinth simulate`: a real engine and a real Postgres of its own, and nothing left.

use std::process::Command;

/// What the simulator says; it leaves nothing.
fn simulate(args: &str) -> serde_json::Value {
    let below = tempfile::Builder::new().prefix("plinth-test-").tempdir_in("/var/tmp").expect("a folder");
    let folder = below.path().to_str().expect("text");
    // Postgres runs as somebody else when we are root.
    std::fs::set_permissions(below.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("our folder");
    let mut plinth = Command::new(env!("CARGO_BIN_EXE_plinth"));
    plinth.arg("simulate").args(args.split(' ')).args(["--below", folder, "-o", "json"]);
    let output = plinth.output().expect("plinth runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(std::fs::read_dir(below.path()).expect("our folder").count(), 0, "it leaves nothing");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_small_fleet_converges_through_its_failures_and_leaves_nothing() {
    let report = simulate("--nodes 20 --layers 6 --fail 40 --latency 2 --seed 3");
    assert_eq!((&report["nodes"], &report["node_roles"]), (&20.into(), &120.into()));
    let number = |name: &str| report[name].as_i64().unwrap_or_default();
    // Each layer that fails does so once on every node.
    assert!(number("failed") > 0 && number("failed") % 20 == 0, "{report:#}");
    // Ready, running and active; a failure is two more before them, and a retry.
    assert!(number("transitions") >= 3 * 120 + 2 * number("failed"), "{report:#}");
    assert!(report["flushes_per_transition"].as_f64().is_some_and(|flushes| flushes > 0.0), "{report:#}");
}

#[test]
fn of_many_deployments_at_once_none_takes_much_longer_than_the_others() {
    // Fewer places for jobs than there are deployments.
    let report = simulate("--deployments 30 --nodes 3 --layers 3 --latency 20 --jobs 12");
    assert_eq!((&report["deployments"], &report["node_roles"]), (&30.into(), &270.into()));
    let [fewest, median, .., most] = [0, 1, 2, 3].map(|n| report["commit_to_active"][n].as_f64().expect("seconds"));
    // Three layers of twenty milliseconds.
    assert!(fewest >= 0.06 && most <= 3.0 * median, "{report:#}");
}

#[test]
fn a_node_more_costs_what_it_costs_however_large_the_fleet_is() {
    let [small, large] = ["100", "400"].map(|nodes| {
        let report = simulate(&format!("--nodes {nodes} --layers 6 --grow 1"));
        assert_eq!(report["growth"]["created"], 6, "{report:#}");
        let rows = |name: &str| report["growth"][name].as_f64().expect("rows");
        println!("{nodes} nodes: {}", report["growth"]);
        [rows("rows_read"), rows("rows_written")]
    });
    // Of each of its vertices a few moves with their events, its job, the node: in the larger fleet no more.
    let ([read, written], [large_read, large_written]) = (small, large);
    assert!(
        written > 30.0 && large_written <= 1.5 * written,
        "{written} written in the small fleet, {large_written} in the large"
    );
    // As for what is read; the few rows that a poll more or less reads are noise.
    assert!(
        read > 100.0 && large_read <= 1.5 * read,
        "{read} rows read in the small fleet, {large_read} in the large one"
    );
}

#[test]
fn a_workload_of_the_catalog_converges_with_what_is_made_up_for_it() {
    let report = simulate("--workload etcd-cluster --group members --nodes 5 --latency 2 --fail 20");
    assert_eq!(report["nodes"], 5);
    let number = |name: &str| report[name].as_i64().unwrap_or_default();
    assert!(number("node_roles") > 5 * 10 && number("failed") > 0, "{report:#}");
}

#[test]
fn what_can_not_be_simulated_is_refused() {
    let refused = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_plinth")).arg("simulate").args(args).output().expect("runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(refused(&["--nodes", "0"]).0, Some(2));
    assert_eq!(refused(&["--fail", "101"]).0, Some(2));
    assert_eq!(refused(&["--group", "members"]).0, Some(2), "of no workload");
    let (code, said) = refused(&["--workload", "nobody"]);
    assert!(code == Some(1) && said.contains("[simulation-group]"), "{said}");
    let (code, said) = refused(&["--workload", "etcd-cluster", "--group", "members", "--nodes", "4"]);
    assert!(code == Some(1) && said.contains("[even-count]"), "{said}");
    let (code, said) = refused(&["--below", "/no/such/folder"]);
    assert!(code == Some(1) && said.contains("[data-folder]"), "{said}");
}
