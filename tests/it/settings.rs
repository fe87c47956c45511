//! What holds for all deployments: profiles, policies, rules; and the labels of nodes.

use engine_core::document::setting::SettingKind;
use engine_core::plan::{Action, Cause};
use engine_core::request::{Document, RedeployRequest};
use engine_core::view::{LabelRequest, RefusalKind};
use serde_json::{Value, json};

use crate::support::{CHAIN, World, chain};

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_changes_shows_in_the_plans_of_those_that_list_it_and_changes_nothing_before() {
    let world = World::new(&CHAIN).await;
    let engine = world.engine().await;
    let control = engine.control();
    let listed = |name: &str| chain(name, 1, "{}", "{}") + "profiles: [large]\n";
    let unknown = control.plan(&listed("blue"), "f").await.expect_err("nobody has set it");
    assert_eq!(unknown.code, "unknown-profile");
    // The workload fixes `level` and `size`: profiles are weaker, so one of its own reads `step`.
    let set = |step: u32| format!("profile: large\nvalues: {{head.step: {step}}}\n");
    let roles = CHAIN[2].1.replace("outputs:", "  step: {schema: {type: integer}, default: 1}\noutputs:");
    let engine_with = world.upgraded(&[(CHAIN[2].0, &roles)]);
    engine.stop().await;
    let engine = engine_daemon::Engine::start(engine_with).await.expect("an engine");
    let control = engine.control();
    assert_eq!(control.set(&set(2), "p", "ann").await.expect("set").concerns.len(), 0, "nobody lists it");
    control.apply(&listed("blue"), "f", &[], "test").await.expect("applied");
    control.apply(&chain("green", 1, "{}", "{}"), "f", &[], "test").await.expect("applied");
    let blue = world.until_active("blue").await;
    world.until_active("green").await;
    let step = async |name: &str| {
        let why = engine_store::read::why(world.database.pool(), name, "deployment", "head", None).await;
        let why = why.expect("a why").expect("a head");
        let input = why.inputs.iter().find(|input| input.name == "step").expect("an input").clone();
        (input.value, json!(input.by))
    };
    assert_eq!(step("blue").await.0, Some(json!(2)));
    assert_eq!(step("green").await.0, Some(json!(1)));

    let settled = control.set(&set(3), "p", "ann").await.expect("set");
    assert_eq!((settled.changed, settled.concerns), (vec!["profile large".to_owned()], vec!["blue".to_owned()]));
    let same = control.set(&set(3), "p", "ann").await.expect("set");
    assert_eq!((same.changed.len(), same.concerns.len()), (0, 0));
    let plan = control.plan(&listed("blue"), "f").await.expect("a plan").remove(0).plan;
    let run: Vec<_> = plan.items.iter().filter(|item| item.action == Action::ReRun).collect();
    assert_eq!(run.iter().map(|item| item.role.as_str()).collect::<Vec<_>>(), ["head"]);
    let cause = Cause::Input {
        input: "step".to_owned(),
        from: Some(json!(2)),
        to: Some(json!(3)),
        by: "profile large".to_owned(),
    };
    assert_eq!(run[0].causes, [cause]);
    let still = world.until_active("blue").await;
    assert_eq!(world.applies(&still).await, world.applies(&blue).await);
    assert!(!control.plan(&chain("green", 1, "{}", "{}"), "f").await.expect("a plan").remove(0).changed);
    control.apply(&listed("blue"), "f", &[], "bob").await.expect("applied");
    world.until_active("blue").await;
    assert_eq!(step("blue").await.0, Some(json!(3)));
    // Who committed a value is known as long as nobody sets another one.
    let since = async |revision| {
        let why = engine_store::read::why(world.database.pool(), "blue", "deployment", "head", revision).await;
        let why = why.expect("a why").expect("a head");
        let set = why.inputs.into_iter().find(|input| input.name == "step").expect("an input").since.expect("a layer");
        (set.revision, set.by)
    };
    assert_eq!(since(None).await, (2, "bob".to_owned()));
    control.apply(&(listed("blue") + "set: {deployment: {base.level: 7}}\n"), "f", &[], "carl").await.expect("applied");
    assert_eq!(since(None).await, (2, "bob".to_owned()), "something else is another's");
    assert_eq!(since(Some(1)).await, (1, "test".to_owned()));
    control.apply(&listed("blue"), "f", &[], "test").await.expect("applied");
    world.until_active("blue").await;
    assert_eq!(since(Some(1)).await, (1, "test".to_owned()));

    // A global one is weaker than one that is listed, whatever its order; of two the one of the greater order is stronger.
    let global = |name: &str, order: i32, step: u32| {
        format!("profile: {name}\nglobal: true\norder: {order}\nvalues: {{head.step: {step}, nobody.has: 1}}\n")
    };
    let both = global("a-strong", 5, 8) + "---\n" + &global("b-weak", 1, 7);
    assert_eq!(control.set(&both, "p", "ann").await.expect("set").concerns, ["blue", "green"]);
    assert!(control.plan(&listed("blue"), "f").await.expect("a plan").remove(0).plan.is_empty());
    control.apply(&chain("green", 1, "{}", "{}"), "f", &[], "test").await.expect("applied");
    world.until_active("green").await;
    assert_eq!(step("green").await, (Some(json!(8)), json!("global profile a-strong")));

    let used = control.remove_setting(SettingKind::Profile, "large", "ann").await.expect_err("blue lists it");
    assert_eq!((used.kind, used.code.as_str()), (RefusalKind::Conflict, "profile-in-use"));
    let removed = control.remove_setting(SettingKind::Profile, "a-strong", "ann").await.expect("removed");
    assert_eq!(removed.concerns, ["blue", "green"]);
    let gone = control.remove_setting(SettingKind::Profile, "a-strong", "ann").await.expect_err("gone");
    assert_eq!(gone.code, "unknown-setting");
    let bad = control.set("profile: x\nvalues: {head: 1}\n---\npolicy: y\nforbid: [fire]\n", "p", "ann").await;
    assert_eq!(bad.expect_err("both").diagnostics.len(), 2);
    assert!(control.settings(SettingKind::Policy).await.expect("a list").is_empty(), "all or none");
    engine.stop().await;
}

const KEEPER: [(&str, &str); 2] = [
    (
        "roles/keeper/role.yaml",
        "role: keeper\nversion: 1.0.0\nabout: Keeps.\nruns: node\nmilestone: true\ninputs:\n  size: {schema: {type: integer}, default: 1}\n\
         destroys: [/srv/keeper]\napply:\n  - file: {path: /etc/keeper, content: '{{ size }}'}\n  \
         - unit: {name: keeper.service, running: true, restart_for: [size]}\n",
    ),
    (
        "workloads/keeper/workload.yaml",
        "workload: keeper\nversion: 1.0.0\nabout: Keepers.\nparameters: {type: object, additionalProperties: false, properties: {size: {type: integer, default: 1}}}\n\
         groups: {all: {count: {default: 1}}}\nroles:\n  all: [{keeper: {with: {size: '{{ parameters.size }}'}}}]\n",
    ),
];

fn keeper(count: u32, size: u32) -> String {
    format!(
        "deployment: blue\nworkload: keeper\nnodes: {{all: {{provider: simulated, count: {count}}}}}\nparameters: {{size: {size}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_of_all_forbids_is_refused_in_its_name_and_what_it_wants_approved_waits() {
    let world = World::new(&KEEPER).await;
    let engine = world.engine().await;
    let control = engine.control();
    control.apply(&keeper(2, 1), "f", &[], "test").await.expect("applied");
    let before = world.until_active("blue").await;
    let set = control.set("policy: machines\nforbid: [wipe, reinstall]\napprove: [restart]\n", "p", "ann").await;
    assert_eq!(set.expect("set").concerns, ["blue"]);

    let refused = control.apply(&keeper(1, 1), "f", &[], "test").await.expect_err("one would be wiped");
    assert_eq!(refused.code, "forbidden-effect");
    assert!(refused.diagnostics[0].message.contains("policy `machines` (set by ann)"), "{refused:#?}");
    let anew = control.redeploy("blue", &RedeployRequest::default(), "test").await.expect_err("it is made anew");
    assert!(anew.diagnostics.iter().any(|one| one.message.contains("policy `machines` (set by ann)")), "{anew:#?}");
    // The deployment can not say less than that.
    let lax = keeper(1, 1) + "policy: {forbid: [], approve: []}\n";
    assert_eq!(control.apply(&lax, "f", &[], "test").await.expect_err("all the same").code, "forbidden-effect");

    let applied = control.apply(&keeper(2, 2), "f", &[], "test").await.expect("applied").remove(0);
    let approval = applied.plan.approvals.first().expect("an approval");
    assert_eq!(approval.by.as_deref(), Some("policy `machines` (set by ann)"));
    let waits = |status: &engine_core::view::StatusView| {
        status.node_roles.iter().all(|role| role.cause.as_ref().is_some_and(|cause| cause.says.contains("approval")))
    };
    let held = world.until("blue", waits).await;
    assert_eq!(world.applies(&held).await, world.applies(&before).await, "nothing ran");
    control.ask(engine_core::request::Ask::Approve, "blue", None, "test").await.expect("approved");
    world.until_active("blue").await;

    control.remove_setting(SettingKind::Policy, "machines", "ann").await.expect("removed");
    control.apply(&keeper(1, 2), "f", &[], "test").await.expect("nobody forbids it");
    engine.stop().await;
}

const SHELF: [(&str, &str); 2] = [
    (
        "roles/shelf/role.yaml",
        "role: shelf\nversion: 1.0.0\nabout: Knows its rack.\nruns: node\nmilestone: true\n\
         inputs:\n  rack: {schema: {type: integer}, from: node.rack}\noutputs: {rack: {schema: {type: integer}, value: '{{ rack }}'}}\n\
         apply:\n  - run: {text: 'true', unless: 'false'}\n",
    ),
    (
        "workloads/shelves/workload.yaml",
        "workload: shelves\nversion: 1.0.0\nabout: Shelves.\nparameters: {type: object, additionalProperties: false}\n\
         groups: {all: {count: {default: 2}}}\nroles:\n  all: [shelf]\n",
    ),
];

const RULES: &str = "rule: racks\nabout: Racks by name.\norder: 10\nwhen: name is defined\nset: {rack: \"{{ name | last | int }}\"}\n\
                     ---\nrule: pools\norder: 20\nwhen: rack >= 2\nset: {pool: storage}\n";

#[tokio::test(flavor = "multi_thread")]
async fn rules_label_nodes_and_who_reads_a_label_runs_again_when_it_is_another_one() {
    let world = World::new(&SHELF).await;
    let (engine, other) = (world.engine().await, world.engine().await);
    let control = engine.control();
    assert_eq!(control.set(RULES, "r", "ann").await.expect("set").changed, ["rule racks", "rule pools"]);
    let document = "deployment: blue\nworkload: shelves\nnodes: {all: {provider: simulated, count: 2}}\n";
    control.apply(document, "f", &[], "test").await.expect("applied");
    let shown = async |node: &str| {
        let view = engine_store::read::node(world.database.pool(), node).await.expect("a node").expect("there");
        let label = |one: &engine_core::view::LabelView| (one.name.clone(), one.value.clone(), one.rule.clone());
        (view.labels.iter().map(label).collect::<Vec<_>>(), view.facts)
    };
    let of = |name: &str, value: Value, rule: &str| (name.to_owned(), value, Some(rule.to_owned()));
    let before = world.until_active("blue").await;
    assert_eq!(shown("blue-all-1").await.0, [of("rack", json!(1), "racks")]);
    assert_eq!(shown("blue-all-2").await.0, [of("pool", json!("storage"), "pools"), of("rack", json!(2), "racks")]);
    let rack = async |node: &str| {
        let why = engine_store::read::why(world.database.pool(), "blue", node, "shelf", None).await;
        why.expect("a why").expect("a shelf").outputs["rack"].clone()
    };
    assert_eq!((rack("blue-all-1").await, rack("blue-all-2").await), (json!(1), json!(2)));

    // A look at what other rules would do changes nothing.
    let tried = "rule: racks\norder: 10\nwhen: name is endingwith('-1')\nset: {rack: 9}\n";
    let document = Document { text: tried.to_owned(), file: "r".to_owned() };
    let tests = control.test_rules(Some(&document)).await.expect("tested");
    let changes: Vec<_> = tests.iter().map(|one| (one.node.as_str(), one.changes.clone())).collect();
    let wanted = [
        ("blue-all-1", vec!["pool".to_owned(), "rack".to_owned()]),
        ("blue-all-2", vec!["pool".to_owned(), "rack".to_owned()]),
    ];
    assert_eq!(changes, wanted, "the first gets one of the pool, the second loses both");
    assert!(control.test_rules(None).await.expect("tested").iter().all(|one| one.changes.is_empty()));
    assert_eq!(world.applies(&world.until_active("blue").await).await, world.applies(&before).await);

    // A person is stronger; only who reads it runs again, and it is told why.
    let label = |set: &[(&str, Value)], remove: &[&str]| LabelRequest {
        set: set.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
    };
    control
        .label_node("blue-all-1", &label(&[("rack", json!(7)), ("ssd", json!(true))], &[]), "ann")
        .await
        .expect("set");
    world
        .until_so("the person's rack", async || {
            let told = rack("blue-all-1").await;
            (told == json!(7)).then_some(()).ok_or(told.to_string())
        })
        .await;
    let after = world.until_active("blue").await;
    let counts: Vec<usize> = world.applies(&after).await.into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [2, 1]);
    let why = engine_store::read::why(world.database.pool(), "blue", "blue-all-1", "shelf", None).await;
    let said = serde_json::to_string(&why.expect("a why").expect("a shelf").events).expect("text");
    assert!(said.contains("\"facts\":[\"rack\"") && said.contains("ann"), "{said}");
    world
        .until_so("the pool follows", async || {
            let labels = shown("blue-all-1").await.0;
            labels
                .iter()
                .any(|one| *one == of("pool", json!("storage"), "pools"))
                .then_some(())
                .ok_or(format!("{labels:?}"))
        })
        .await;

    // Taken away, the rule's is in force again; without the rule there is none, and nothing is left of it.
    control.label_node("blue-all-1", &label(&[], &["rack"]), "ann").await.expect("taken away");
    world
        .until_so("the rule's again", async || {
            let told = rack("blue-all-1").await;
            (told == json!(1)).then_some(()).ok_or(told.to_string())
        })
        .await;
    control.remove_setting(SettingKind::Rule, "pools", "ann").await.expect("removed");
    world
        .until_so("no pool any more", async || {
            let labels = shown("blue-all-2").await.0;
            (labels == [of("rack", json!(2), "racks")]).then_some(()).ok_or(format!("{labels:?}"))
        })
        .await;
    assert!(shown("blue-all-1").await.1["ssd"] == json!(true), "select sees it");

    let reserved = control.label_node("blue-all-1", &label(&[("os", json!("x"))], &[]), "ann").await;
    assert_eq!(reserved.expect_err("a fact").code, "label-reserved");
    let odd = control.label_node("blue-all-1", &label(&[("Rack", json!(1))], &[]), "ann").await;
    assert_eq!(odd.expect_err("a name").code, "bad-label");
    assert_eq!(
        control.label_node("nobody", &label(&[], &["x"]), "ann").await.expect_err("no node").code,
        "unknown-node"
    );
    let bad = control.set("rule: x\nwhen: rack >\nset: {os: 1}\n", "r", "ann").await.expect_err("both");
    let codes: Vec<_> = bad.diagnostics.iter().map(|one| one.code.as_str()).collect();
    assert_eq!(codes, ["bad-select", "label-reserved"]);
    engine.stop().await;
    other.stop().await;
}
