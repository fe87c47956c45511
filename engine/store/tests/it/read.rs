//! What is read: views of rows as an engine leaves them.

use std::collections::BTreeMap;

use engine_core::graph::Graph;
use engine_core::testing::{Fixture, catalog};
use engine_core::view::{Health, StatusView};
use engine_store::read;
use engine_store::testing::Database;
use serde_json::json;
use sqlx::{Executor, Row};

/// `base` feeds `app` through a gather; `ready` stands on the virtual node.
fn graph() -> Graph {
    let text = json!({"type": "string"});
    let roles = [
        json!({"role": "base", "apply": [], "inputs": {"name": {"schema": text, "from": "node.name"}},
               "outputs": {"url": {"schema": text}, "key": {"schema": text, "secret": true}}}),
        json!({"role": "app", "milestone": true, "apply": [], "requires": ["base"],
               "inputs": {"all": {"schema": {}, "from": "map base.url"},
                          "size": {"schema": {"type": "integer"}, "default": 3},
                          "key": {"schema": text, "from": "base.key", "secret": true}}}),
        json!({"role": "ready", "milestone": true, "runs": "deployment", "apply": [], "requires": ["app"],
               "outputs": {"endpoint": {"schema": text}}}),
    ];
    let workload = json!({"workload": "w", "groups": {"g": {}}, "roles": {"g": ["app"], "deployment": ["ready"]},
                          "exports": {"endpoint": "ready.endpoint"}});
    Fixture::new(catalog(roles, [workload]), &[("g", 2)]).compile().expect("compiles").graph
}

async fn database() -> Database {
    let database = Database::fresh().await;
    database.deployment(&graph()).await;
    database
}

fn table(status: &StatusView) -> String {
    let mut text = format!("{:?}", status.deployment.health).to_lowercase();
    for row in &status.node_roles {
        let cause = row.cause.as_ref().map(|cause| format!(": {}", cause.says)).unwrap_or_default();
        let code = row.code.as_ref().map(|code| format!(": {code}")).unwrap_or_default();
        text += &format!("\n{}/{} {}{code}{cause}", row.node, row.role, row.state);
    }
    text
}

async fn status(database: &Database) -> StatusView {
    read::status(database.pool(), "blue").await.unwrap().expect("blue is there")
}

#[tokio::test]
async fn a_status_names_what_everything_waits_for() {
    let database = database().await;
    insta::assert_snapshot!(table(&status(&database).await), @r"
    active
    g-1/base active
    g-2/base active
    g-1/app active
    g-2/app active
    deployment/ready active
    ");
    let gather = database.place("deployment/map base.url").await;
    database.set("g-1/base", "state = 'failed', since = 1, code = 'step-failed'").await;
    database.set("deployment/map base.url", "state = 'blocked', since = 1, cause = 'r:base'").await;
    database.set("g-2/app", &format!("state = 'blocked', since = 1, cause = 'v:{gather}'")).await;
    database.set("deployment/ready", "state = 'blocked', since = 1, cause = 'r:app'").await;
    let blocked = status(&database).await;
    insta::assert_snapshot!(table(&blocked), @r"
    failed
    g-1/base failed: step-failed
    g-2/base active
    g-1/app active
    g-2/app blocked: held back by g-1/base failed: step-failed
    deployment/ready blocked: held back by g-1/base failed: step-failed
    ");
    let listed = read::deployments(database.pool(), None, 10).await.unwrap();
    assert_eq!(listed, [blocked.deployment], "a list counts like a status, without looking at every node role");
}

#[tokio::test]
async fn what_runs_and_what_leaves_is_counted() {
    let database = database().await;
    let job = database.job("g-1/base", 1, None).await;
    database.set("g-1/base", &format!("state = 'running', since = 1, job_id = '{job}'")).await;
    database
        .run(&format!(
            r#"update job set progress = '{{"step": 2, "of": 5, "title": "package x"}}' where job_id = '{job}'"#
        ))
        .await;
    database.set("g-2/base", "state = 'ready', since = 1").await;
    database.set("g-1/app", "state = 'blocked', since = 1, goal = 'absent'").await;
    let seen = status(&database).await;
    let counts = seen.deployment.counts;
    assert_eq!((counts.running, counts.ready, counts.leaving, counts.active, counts.blocked), (1, 1, 1, 2, 0));
    assert_eq!(
        seen.node_roles[0].progress.as_ref().map(|p| (p.step, p.of, p.title.as_str())),
        Some((2, 5, "package x"))
    );
    let listed = read::deployments(database.pool(), None, 10).await.unwrap();
    assert_eq!((listed[0].counts, listed[0].health, listed[0].nodes), (counts, Health::Converging, 2));
    assert_eq!(read::deployments(database.pool(), Some("blue"), 10).await.unwrap(), []);

    database.set("g-1/app", "state = 'failed', code = 'step-failed'").await;
    let listed = read::deployments(database.pool(), None, 10).await.unwrap();
    assert_eq!(listed[0].health, Health::Failed, "a leaver that failed is told");
    database.run("update deployment set state = 'gone'").await;
    assert_eq!(read::deployments(database.pool(), None, 10).await.unwrap(), []);
    let gone = read::deployment(database.pool(), "blue").await.unwrap().expect("kept for its history");
    assert_eq!(gone.deployment.health, Health::Gone);
}

#[tokio::test]
async fn why_follows_one_chain_and_shows_what_was_read() {
    let database = database().await;
    database.run("insert into value values ('sha256:v', '{\"g-1\": \"one\"}')").await;
    let job = database.job("g-2/app", 1, Some("failed")).await;
    database
        .run(&format!(
            r#"update job set inputs = '{{"all": {{"$digest": "sha256:v"}}, "size": 3, "key": "hush"}}',
                      code = 'step-failed', message = 'no' where job_id = '{job}'"#
        ))
        .await;
    let base = database.place("g-2/base").await;
    database.run("update node set state = 'unreachable', code = 'ssh-unreachable' where name = 'g-2'").await;
    database.run("update vertex set outputs = '{\"url\": \"u\", \"key\": \"hush\"}' where role = 'base'").await;
    database.set("g-2/base", "state = 'blocked', since = 1, cause = 'n:' || node_id").await;
    database.set("g-2/app", &format!("state = 'blocked', since = 1, cause = 'v:{base}'")).await;
    database.event("g-2/app", "node-role.hold").await;

    let why = read::why(database.pool(), "blue", "g-2", "app", None).await.unwrap().expect("it is there");
    let chain: Vec<String> = why.chain.iter().map(|link| format!("{}: {}", link.what, link.says)).collect();
    insta::assert_snapshot!(chain.join("\n"), @r"
    g-2/app: blocked, needs g-2/base at rest
    g-2/base: blocked, needs its node
    node g-2: node g-2 does not answer: ssh-unreachable
    ");
    let cause = why.node_role.cause.expect("it is blocked");
    assert_eq!(cause.says, "node g-2 does not answer: ssh-unreachable");
    let inputs: Vec<String> = why
        .inputs
        .iter()
        .map(|input| format!("{} = {:?} from {} by {}", input.name, input.value, input.source, input.by))
        .collect();
    insta::assert_snapshot!(inputs.join("\n"), @r#"
    all = Some(Object {"g-1": String("one")}) from map base.url by map base.url
    key = None from base.key by base
    size = Some(Number(3)) from role default by roles/app/role.yaml
    "#);
    assert_eq!(why.because, "bound by the workload on g");
    assert_eq!(why.jobs.len(), 1);
    assert_eq!(why.events.len(), 1);
    let base = read::why(database.pool(), "blue", "g-2", "base", None).await.unwrap().expect("it is there");
    assert_eq!(base.outputs, json!({"url": "u"}), "secret outputs are not shown");
    assert!(read::why(database.pool(), "blue", "g-3", "app", None).await.unwrap().is_none());
    assert!(read::why(database.pool(), "blue", "blue", "ready", None).await.unwrap().is_none());
    assert!(read::why(database.pool(), "blue", "deployment", "ready", None).await.unwrap().is_some());
    let on_node = read::node_roles(database.pool(), "g-2").await.unwrap();
    let says: Vec<_> = on_node.iter().map(|row| row.cause.as_ref().map(|cause| cause.says.as_str())).collect();
    assert_eq!(says, [Some("node g-2 does not answer: ssh-unreachable"); 2]);
}

/// The order of numbers is not the order in which transactions end.
#[tokio::test]
async fn no_event_is_passed_over() {
    let database = database().await;
    let insert = "insert into event (at, kind, principal, detail) values (now(), $1, 'engine', '{}') returning seq";
    let seq = |row: sqlx::postgres::PgRow| row.get::<i64, _>(0);
    let mut late = database.pool().begin().await.unwrap();
    // The older transaction of the two; it takes its number first, too.
    late.execute("select pg_current_xact_id()").await.unwrap();
    let first = seq(sqlx::query(insert).bind("late").fetch_one(&mut *late).await.unwrap());
    let second = seq(sqlx::query(insert).bind("early").fetch_one(database.pool()).await.unwrap());
    assert!(first < second);
    let kinds = async |after| -> Vec<String> {
        let events = read::events(database.pool(), after, None, 10).await.unwrap();
        events.into_iter().map(|event| event.kind).collect()
    };
    assert_eq!(kinds(0).await, [""; 0], "an older transaction still runs");
    assert_eq!(read::head(database.pool()).await.unwrap(), 0);
    late.commit().await.unwrap();
    database.settled(second).await;
    assert_eq!(kinds(0).await, ["late", "early"]);

    // Now the older transaction takes the higher number, and ends first.
    let mut older = database.pool().begin().await.unwrap();
    older.execute("select pg_current_xact_id()").await.unwrap();
    let mut younger = database.pool().begin().await.unwrap();
    let low = seq(sqlx::query(insert).bind("younger").fetch_one(&mut *younger).await.unwrap());
    let high = seq(sqlx::query(insert).bind("older").fetch_one(&mut *older).await.unwrap());
    assert!(low < high);
    older.commit().await.unwrap();
    database.settled(high).await;
    assert_eq!(kinds(second).await, ["older"]);
    younger.commit().await.unwrap();
    database.settled(low).await;
    assert_eq!(kinds(high).await, ["younger"], "its number is lower, yet it is not passed over");
    assert_eq!(read::head(database.pool()).await.unwrap(), low);
}

#[tokio::test]
async fn events_have_names_and_can_be_those_of_one_deployment() {
    let database = database().await;
    database.event("g-1/app", "node-role.claim").await;
    database.event("deployment/map base.url", "node-role.same").await;
    database.event("deployment/ready", "node-role.hold").await;
    database.run("insert into event (at, kind, principal, detail) values (now(), 'engine.up', 'engine', '{}')").await;
    database.all_settled().await;
    let told = |events: Vec<engine_core::view::EventView>| -> Vec<String> {
        let place = |event: &engine_core::view::EventView| {
            [&event.deployment, &event.node, &event.role].map(|part| part.clone().unwrap_or_default()).join("/")
        };
        events.iter().map(|event| format!("{} {}", event.kind, place(event))).collect()
    };
    let all = ["node-role.claim blue/g-1/app", "node-role.hold blue/deployment/ready", "engine.up //"];
    assert_eq!(told(read::events(database.pool(), 0, None, 10).await.unwrap()), all);
    assert_eq!(told(read::latest_events(database.pool(), None, 1).await.unwrap()), all[2..]);
    assert_eq!(told(read::events(database.pool(), 0, Some("blue"), 10).await.unwrap()), all[..2]);
    assert_eq!(told(read::latest_events(database.pool(), Some("blue"), 1).await.unwrap()), all[1..2]);
    assert_eq!(told(read::events(database.pool(), 0, Some("red"), 10).await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn jobs_and_logs_come_in_pages() {
    let database = database().await;
    let old = database.job("g-1/app", 1, Some("failed")).await;
    let new = database.job("g-1/app", 2, None).await;
    database
        .run(&format!(
            "insert into job_log select '{new}', n, now(), 'stdout', 'line ' || n from generate_series(1, 5) n;
             update job set steps = '[1]' where job_id = '{old}'"
        ))
        .await;
    let vertex = read::vertex(database.pool(), "blue", "g-1", "app").await.unwrap().expect("it is there");
    let jobs = read::jobs(database.pool(), vertex, 10).await.unwrap();
    assert_eq!(jobs.iter().map(|job| job.id.0).collect::<Vec<_>>(), [new, old]);
    assert!(jobs[1].steps.is_null());
    let one = read::job(database.pool(), jobs[1].id).await.unwrap().expect("it is there");
    assert_eq!((one.steps, one.node.as_str(), one.role.as_str()), (json!([1]), "g-1", "app"));
    let (latest, open) = read::latest_job(database.pool(), vertex).await.unwrap().expect("there are jobs");
    assert_eq!((latest.0, open), (new, true));
    let lines = read::log(database.pool(), latest, 2, 2).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.line.as_str()).collect::<Vec<_>>(), ["line 3", "line 4"]);
}

#[tokio::test]
async fn the_rest_is_read_too() {
    let database = database().await;
    database.run("update vertex set outputs = '{\"endpoint\": \"http://x\"}' where role = 'ready'").await;
    let detail = read::deployment(database.pool(), "blue").await.unwrap().expect("it is there");
    assert_eq!(detail.exports, json!({"endpoint": "http://x"}));
    assert_eq!(detail.document["workload"], "w");
    let (graph, states) = read::graph(database.pool(), "blue").await.unwrap().expect("it is there");
    assert_eq!(states.values().map(BTreeMap::len).sum::<usize>(), graph.vertex_count());
    let nodes = read::nodes(database.pool(), None, 1).await.unwrap();
    assert_eq!((nodes.len(), nodes[0].name.as_str(), nodes[0].deployment.as_deref()), (1, "g-1", Some("blue")));
    assert_eq!(read::nodes(database.pool(), Some("g-1"), 9).await.unwrap()[0].name, "g-2");
    assert!(read::node(database.pool(), "blue").await.unwrap().is_none(), "virtual nodes are not nodes to people");
    assert_eq!(read::node(database.pool(), "g-2").await.unwrap().expect("it is there").group.as_deref(), Some("g"));
    database
        .run(
            "insert into engine values
             ('00000000-0000-7000-8000-000000000001', '0.1.0', 1, 'a', 1, now(), now() - interval '1 s'),
             ('00000000-0000-7000-8000-000000000002', '0.1.0', 1, 'b', 2, now(), now() + interval '1 h')",
        )
        .await;
    let engines = read::engines(database.pool()).await.unwrap();
    assert_eq!(
        engines.iter().map(|engine| (engine.host.as_str(), engine.alive)).collect::<Vec<_>>(),
        [("b", true), ("a", false)]
    );
    assert!(read::status(database.pool(), "red").await.unwrap().is_none());
}
