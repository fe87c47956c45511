//! Bundles that come while engines run: all engines have them at once, deployments stay with what they have.

use std::io::Write as _;

use engine_catalog::Folder;
use engine_core::catalog::diff::{CatalogChange, Difference};
use engine_core::plan::{Action, Cause};
use engine_core::view::{BundleFiles, RefusalKind};
use engine_daemon::Engine;

use crate::support::{CHAIN, World, chain};

/// The bundle of [`CHAIN`] with some files changed, on its way.
fn bundle(changed: &[(&str, &str)]) -> BundleFiles {
    files("./chain", "bundle: test\nversion: 1.1.0\n", CHAIN.iter().chain(changed))
}

fn files<'a>(path: &str, manifest: &str, all: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> BundleFiles {
    let mut folder = Folder { name: path.to_owned(), files: std::collections::BTreeMap::new() };
    folder.files.insert("bundle.yaml".to_owned(), manifest.as_bytes().to_vec().into());
    for (path, text) in all {
        folder.files.insert((*path).to_owned(), text.as_bytes().to_vec().into());
    }
    BundleFiles { path: path.to_owned(), files: folder.packed() }
}

fn said(changes: &[CatalogChange]) -> Vec<(&str, Difference, bool)> {
    changes.iter().map(|one| (one.name.as_str(), one.change, one.runs_again)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_to_one_engine_is_in_the_plans_of_all_and_moves_nothing_before_it_is_applied() {
    let world = World::new(&CHAIN).await;
    let (engine, other) = (world.engine().await, world.engine().await);
    let (control, elsewhere) = (engine.control(), other.control());
    let document = chain("blue", 2, "{}", "{}");
    control.apply(&document, "f", &[], "test").await.expect("applied");
    let before = world.until_active("blue").await;
    let (path, text) = CHAIN[1];
    let newer = text.replace("version: 1.0.0", "version: 1.1.0").replace("http://", "https://");
    let prose = CHAIN[0].1.replace("A base.", "What all stand on.");
    let pushed = [bundle(&[(path, &newer), (CHAIN[0].0, &prose)])];

    let diff = control.diff_bundles(&pushed).await.expect("a difference");
    let wanted = [("base", Difference::Changed, false), ("member", Difference::Changed, true)];
    assert_eq!(said(&diff.changes), wanted, "{diff:#?}");
    assert_eq!((diff.behind.len(), diff.up_to_date), (1, 0), "{diff:#?}");
    assert_eq!(control.diff_bundles(&[]).await.expect("now").up_to_date, 1, "nothing was pushed by that");

    let done = control.push_bundles(&pushed, "ann").await.expect("pushed");
    assert_eq!((done.bundles, said(&done.changes).len()), (vec!["test".to_owned()], 2));
    let again = control.push_bundles(&pushed, "ann").await.expect("the same");
    assert_eq!((again.bundles.len(), again.changes.len()), (0, 0));
    let listed = elsewhere.bundles().await.expect("bundles");
    let names: Vec<_> = listed.iter().map(|one| (one.name.as_str(), one.version.as_str(), one.built_in)).collect();
    assert_eq!(names, [("core", "1.0.0", true), ("test", "1.1.0", false)]);
    assert_eq!((listed[1].pushed_by.as_deref(), listed[1].roles, listed[1].workloads), (Some("ann"), 3, 1));

    let planned = elsewhere.plan(&document, "f").await.expect("a plan").remove(0);
    let upgrades: Vec<_> =
        planned.plan.upgrades.iter().map(|one| (one.role.as_str(), one.to.as_deref(), one.runs_again)).collect();
    assert_eq!(upgrades, [("base", Some("1.0.0"), false), ("member", Some("1.1.0"), true)], "{planned:#?}");
    let again = planned.plan.items.iter().filter(|item| item.causes.contains(&Cause::Content));
    assert_eq!(again.map(|item| item.role.as_str()).collect::<Vec<_>>(), ["member", "member"]);
    assert!(planned.plan.items.iter().all(|item| item.role != "base" || item.action == Action::Untouched));
    let behind = elsewhere.diff_bundles(&[]).await.expect("a difference").behind;
    assert_eq!(behind.iter().map(|one| one.deployment.as_str()).collect::<Vec<_>>(), ["blue"]);
    control.ask(engine_core::request::Ask::Retry, "blue", None, "test").await.expect("asked");
    let still = world.until_active("blue").await;
    assert_eq!(world.applies(&still).await, world.applies(&before).await, "it stays with what it has");

    elsewhere.apply(&document, "f", &[], "test").await.expect("applied");
    let after =
        world.until("blue", |status| status.deployment.revision == 2 && status.deployment.counts.active > 0).await;
    assert_eq!(after.deployment.revision, 2);
    let after = world.until_active("blue").await;
    let applies = world.applies(&after).await;
    for (node_role, count) in &applies {
        let wanted = if node_role.ends_with("/base") { 1 } else { 2 };
        assert_eq!(*count, wanted, "{applies:?}");
    }
    assert_eq!(control.diff_bundles(&[]).await.expect("a difference").behind, []);
    engine.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_errors_is_refused_as_a_whole_with_its_places() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let generation = engine_store::bundles::generation(world.database.pool()).await.expect("a number");
    let bad = CHAIN[1].1.replace("requires: [base]", "requires: [nobody]");
    let good = files("./good", "bundle: good\nversion: 1.0.0\n", &[]);
    let refused = control.push_bundles(&[good.clone(), bundle(&[(CHAIN[1].0, &bad)])], "ann").await;
    let refused = refused.expect_err("an error in one of them");
    let first = refused.diagnostics.iter().find(|one| one.is_error()).expect("an error");
    assert_eq!(refused.kind, RefusalKind::Invalid);
    assert_eq!(first.file.as_deref(), Some("./chain/roles/member/role.yaml"), "{refused:#?}");
    assert!(first.line.is_some(), "{first:?}");

    // Others that need what is not there any more hold it as well.
    let needs = files("./needs", "bundle: needs\nversion: 1.0.0\nneeds: {good: '^1'}\n", &[]);
    let alone = control.push_bundles(std::slice::from_ref(&needs), "ann").await.expect_err("it needs another one");
    assert_eq!(alone.code, "missing-bundle");
    // In any order.
    control.push_bundles(&[needs, good.clone()], "ann").await.expect("both");
    assert_eq!(control.remove_bundle("good", "ann").await.expect_err("it is needed").code, "missing-bundle");
    assert_eq!(control.remove_bundle("nobody", "ann").await.expect_err("unknown").code, "unknown-bundle");
    let twice = control.push_bundles(&[good.clone(), good], "ann").await.expect_err("twice");
    assert_eq!(twice.code, "duplicate-bundle");
    let strange = BundleFiles { path: "x".to_owned(), files: [("../etc/x".to_owned(), String::new())].into() };
    assert_eq!(control.push_bundles(&[strange], "ann").await.expect_err("no part").code, "unreadable-file");
    let now = engine_store::bundles::generation(world.database.pool()).await.expect("a number");
    assert_eq!(now, generation + 1, "only what was taken counts");
    control.remove_bundle("needs", "ann").await.expect("nobody needs it");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_bundle_of_ones_own_replaces_the_built_in_one_and_engines_start_with_what_was_pushed() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let mut core = engine_catalog::core_bundle();
    let about = String::from_utf8_lossy(core.bytes("bundle.yaml").expect("a file")).replace("1.0.0", "1.9.0");
    core.files.insert("bundle.yaml".to_owned(), about.into_bytes().into());
    // The same from an archive, in a folder of its own.
    let archive = tempfile::NamedTempFile::new().expect("a file");
    let packed = flate2::write::GzEncoder::new(archive.as_file(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(packed);
    for (path, bytes) in &core.files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("core-1.9.0/{path}"), bytes.as_ref()).expect("a file");
    }
    tar.into_inner().expect("an archive").finish().expect("an archive").flush().expect("written");
    let read = Folder::read(archive.path()).expect("an archive");
    assert_eq!(read.files, core.files);
    control
        .push_bundles(&[BundleFiles { path: "core".to_owned(), files: read.packed() }], "ann")
        .await
        .expect("pushed");
    let listed = control.bundles().await.expect("bundles");
    assert_eq!((listed[0].version.as_str(), listed[0].built_in), ("1.9.0", false));
    engine.stop().await;

    // One that is told of no bundle has those that others pushed.
    let mut config = world.config();
    config.bundles.clear();
    let engine = Engine::start(config).await.expect("an engine");
    let control = engine.control();
    control.apply(&chain("blue", 1, "{}", "{}"), "f", &[], "test").await.expect("its workload is there");
    world.until_active("blue").await;
    let done = control.remove_bundle("core", "ann").await.expect("removed");
    assert_eq!(done.bundles, ["core"]);
    assert!(control.bundles().await.expect("bundles")[0].built_in);
    engine.stop().await;
    let mut config = world.config();
    config.bundles = vec![Folder { name: "none".to_owned(), files: std::collections::BTreeMap::new() }];
    let refused = Engine::start(config).await.err().expect("no bundle");
    assert_eq!(refused.code(), "bundles-invalid");
}
