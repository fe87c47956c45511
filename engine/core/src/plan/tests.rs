//! Plans of small and of random deployments.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::{Action, Anew, Plan, render};
use crate::testing::{Fixture, catalog, generate};
use world::World;

fn hello() -> Fixture {
    let string = json!({"type": "string"});
    let roles = [
        json!({"role": "base", "apply": [{"package": ["curl"]}],
               "inputs": {"mirror": {"schema": string, "default": "here"}},
               "outputs": {"url": {"schema": string, "value": "http://{{ mirror }}"}, "found": {"schema": {}}}}),
        json!({"role": "app", "milestone": true, "destroys": ["{{ dir }}"],
               "apply": [{"file": {"path": "/etc/app", "content": "{{ dir }}"}},
                         {"unit": {"name": "app.service", "files": ["/etc/app"], "restart_for": ["url"]}}],
               "inputs": {"url": {"schema": string, "from": "base.url"}, "dir": {"schema": string, "default": "/srv/app"},
                          "token": {"schema": string, "default": "t0", "secret": true}},
               "outputs": {"told": {"schema": string, "value": "{{ dir }}"}}}),
        json!({"role": "ready", "milestone": true, "runs": "deployment", "at": "one app", "apply": [],
               "inputs": {"all": {"schema": {"type": "object"}, "from": "map app.told"},
                          "found": {"schema": {"type": "array"}, "from": "each base.found"}}}),
    ];
    let workload =
        json!({"workload": "hello", "groups": {"web": {}}, "roles": {"web": ["app"], "deployment": ["ready"]}});
    Fixture::new(catalog(roles, [workload]), &[("web", 2)])
}

fn plan(world: &World, fixture: &Fixture) -> (Plan, crate::graph::Graph) {
    let graph = fixture.compile().expect("compiles").graph;
    (world.plan(fixture, &graph), graph)
}

/// The plan of a change to a settled deployment, as text.
fn change(before: &Fixture, after: &Fixture) -> String {
    let mut world = World::default();
    world.settle(before, &before.compile().expect("compiles").graph);
    render::text(&plan(&world, after).0)
}

#[test]
fn a_new_deployment() {
    let (plan, _) = plan(&World::default(), &hello());
    insta::assert_snapshot!(render::text(&plan), @r#"
    Plan for blue: 5 to create, 0 to re-run, 0 to leave, 0 outdated, 0 untouched.

      + create    web-1/base        new
      + create    web-2/base        new
      + create    web-1/app         new
      + create    web-2/app         new
      + create    deployment/ready  new
    "#);
}

#[test]
fn a_changed_value_runs_what_it_feeds_and_nothing_else() {
    let after = hello().with(json!({"set": {"nodes": {"web-2": {"app.dir": "/srv/other", "app.token": "t1"}}}}));
    insta::assert_snapshot!(change(&hello(), &after), @r#"
    Plan for blue: 0 to create, 2 to re-run, 0 to leave, 0 outdated, 3 untouched.

      ~ re-run    web-2/app         input dir: from "/srv/app" to "/srv/other", set by deployment blue
                                    input token changed, set by deployment blue
                                    restarts app.service
      ~ re-run    deployment/ready  input all: from {"web-1":"/srv/app","web-2":"/srv/app"} to {"web-1":"/srv/app","web-2":"/srv/other"}, set by map app.told
    "#);
}

#[test]
fn what_runs_again_is_foretold_as_far_as_it_is_known() {
    let string = json!({"type": "string"});
    let roles = [
        json!({"role": "base", "apply": [{"package": ["curl"]}],
               "inputs": {"mirror": {"schema": string, "default": "here"}, "name": {"schema": string, "from": "node.name"}},
               "outputs": {"url": {"schema": string, "value": "http://{{ mirror }}"}, "found": {"schema": {}}}}),
        json!({"role": "app", "milestone": true, "apply": [{"file": {"path": "/etc/app", "content": "{{ url }}"}}],
               "inputs": {"url": {"schema": string, "from": "base.url"}}}),
        json!({"role": "deep", "milestone": true, "apply": [{"file": {"path": "/etc/deep", "content": "{{ found }}"}}],
               "inputs": {"found": {"schema": {}, "from": "base.found"}}}),
        json!({"role": "still", "milestone": true, "apply": [{"file": {"path": "/etc/still", "content": ""}}]}),
    ];
    let workload = json!({"workload": "hello", "groups": {"web": {}}, "roles": {"web": ["app", "deep", "still"]}});
    let before = Fixture::new(catalog(roles, [workload]), &[("web", 1)]);
    let mut world = World::default();
    world.settle(&before, &before.compile().expect("compiles").graph);
    let after = before.with(json!({"set": {"deployment": {"base.mirror": "there"}}}));
    let graph = after.compile().expect("compiles").graph;
    let told = |one: super::dry_run::Foretold| {
        let inputs = one.inputs.map_or_else(|why| why, |inputs| json!(inputs).to_string());
        format!("{}/{} {:?}: {inputs}", one.node, one.role, one.changed)
    };
    let all: Vec<String> = world.foretold(&after, &graph).into_iter().map(told).collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    web-1/base {"mirror"}: {"mirror":"there","name":"web-1"}
    web-1/app {"url"}: {"url":"http://there"}
    web-1/deep {"found"}: input `found` is known when web-1/base has run
    "#);
}

#[test]
fn what_is_only_known_afterwards_may_be_spared() {
    let after =
        hello().with(json!({"set": {"deployment": {"base.mirror": "there"}}, "policy": {"approve": ["restart"]}}));
    insta::assert_snapshot!(change(&hello(), &after), @r#"
    Plan for blue: 0 to create, 5 to re-run (1 may be spared), 0 to leave, 0 outdated, 0 untouched.

      ~ re-run    web-1/base        input mirror: from "here" to "there", set by deployment blue
      ~ re-run    web-2/base        input mirror: from "here" to "there", set by deployment blue
      ~ re-run    web-1/app         input url: from "http://here" to "http://there", set by web-1/base
                                    restarts app.service
      ~ re-run    web-2/app         input url: from "http://here" to "http://there", set by web-2/base
                                    restarts app.service
      ? re-run    deployment/ready  input found: runs below web-1/base, may be spared

    Waits for an approval: web-1/app, for it is a restart.

    Waits for an approval: web-2/app, for it is a restart.
    "#);
}

#[test]
fn leavers_wipe_and_a_policy_forbids_it() {
    let mut after = hello().with(json!({"policy": {"forbid": ["wipe", "nonsense"]}}));
    after.nodes.remove("web-2");
    insta::assert_snapshot!(change(&hello(), &after), @r#"
    Plan for blue: 0 to create, 1 to re-run, 2 to leave, 0 outdated, 2 untouched.

      ~ re-run    deployment/ready  input all: from {"web-1":"/srv/app","web-2":"/srv/app"} to {"web-1":"/srv/app"}, set by map app.told
                                    input found: from ["base on web-1 of 1","base on web-2 of 1"] to ["base on web-1 of 1"], set by each base.found
      - leave     web-2/app         bound no longer
                                    wipes /srv/app
                                    stops app.service
      - leave     web-2/base        bound no longer

    This plan can not be applied:
      error[unknown-effect]: no effect `nonsense` (at /policy/forbid/1); expected restart, reboot, reinstall, wipe or interrupt
      error[forbidden-effect]: web-2/app wipes /srv/app, which the policy forbids (at /policy/forbid)
    "#);
}

fn redeployed(fixture: &Fixture, anew: &Anew) -> String {
    let graph = fixture.compile().expect("compiles").graph;
    let mut world = World::default();
    world.settle(fixture, &graph);
    render::text(&world.plan_anew(fixture, &graph, anew))
}

#[test]
fn a_node_that_is_made_anew_runs_all_of_its_roles_and_perhaps_their_readers() {
    let one = BTreeSet::from(["web-2".to_owned()]);
    let anew = Anew { nodes: one.clone(), machines: one, whole: false };
    insta::assert_snapshot!(redeployed(&hello(), &anew), @r"
    Plan for blue: 0 to create, 3 to re-run (1 may be spared), 0 to leave, 0 outdated, 2 untouched.

      ~ re-run    web-2/base        is redeployed
                                    installs anew the machine
      ~ re-run    web-2/app         is redeployed
                                    installs anew the machine
                                    wipes /srv/app
                                    stops app.service
      ? re-run    deployment/ready  input found: runs below web-2/base, may be spared
    ");
}

#[test]
fn a_policy_forbids_that_machines_are_made_anew() {
    let all: BTreeSet<_> = ["web-1", "web-2"].map(str::to_owned).into();
    let anew = Anew { nodes: all.clone(), machines: all, whole: true };
    let fixture = hello().with(json!({"policy": {"forbid": ["reinstall"]}}));
    insta::assert_snapshot!(redeployed(&fixture, &anew), @r"
    Plan for blue: 0 to create, 5 to re-run, 0 to leave, 0 outdated, 0 untouched.

      ~ re-run    web-1/base        is redeployed
                                    installs anew the machine
      ~ re-run    web-2/base        is redeployed
                                    installs anew the machine
      ~ re-run    web-1/app         is redeployed
                                    installs anew the machine
                                    wipes /srv/app
                                    stops app.service
      ~ re-run    web-2/app         is redeployed
                                    installs anew the machine
                                    wipes /srv/app
                                    stops app.service
      ~ re-run    deployment/ready  is redeployed

    This plan can not be applied:
      error[forbidden-effect]: web-1/base installs anew the machine, which the policy forbids (at /policy/forbid)
      error[forbidden-effect]: web-2/base installs anew the machine, which the policy forbids (at /policy/forbid)
      error[forbidden-effect]: web-1/app installs anew the machine, which the policy forbids (at /policy/forbid)
      error[forbidden-effect]: web-2/app installs anew the machine, which the policy forbids (at /policy/forbid)
    ");
}

#[test]
fn a_moved_role_is_kept() {
    let before = hello();
    let mut after = hello();
    let mut app = after.catalog.roles.remove("app").expect("app");
    app.doc.role = "web-app".to_owned();
    after.catalog.roles.insert("web-app".to_owned(), app);
    let ready = after.catalog.roles.get_mut("ready").expect("ready");
    ready.doc.at = serde_json::from_value(json!("one web-app")).expect("at");
    ready.doc.inputs.get_mut("all").expect("all").from = Some("map web-app.told".to_owned());
    after.catalog.workloads.get_mut("hello").expect("hello").roles.get_mut("web").expect("web")[0].role =
        "web-app".to_owned();
    let mut world = World::default();
    world.settle(&before, &before.compile().expect("compiles").graph);
    let moved = after.clone().with(json!({"moved": {"app": "web-app"}}));
    let (plan, _) = plan(&world, &moved);
    assert!(plan.is_empty() && plan.problems.is_empty(), "{}", render::text(&plan));
}

#[test]
fn two_roles_do_not_destroy_one_place() {
    let mut fixture = hello();
    fixture.catalog.roles.get_mut("base").expect("base").doc.destroys = vec!["/srv".to_owned()];
    let (plan, _) = plan(&World::default(), &fixture);
    let codes: Vec<&str> = plan.problems.iter().map(|problem| problem.code.as_str()).collect();
    assert_eq!(codes, ["overlapping-destroys", "overlapping-destroys"]);
    assert!(!plan.is_allowed());
}

#[test]
fn providers_that_wait_for_each_other_can_not_be_swapped_at_once() {
    let roles = |chosen: &str| {
        let net = |name: &str, reads: serde_json::Value| json!({"role": name, "provides": ["net"], "apply": [], "inputs": reads, "outputs": {"cidr": {"schema": {}}}});
        let workload =
            json!({"workload": "w", "groups": {"a": {}}, "roles": {"a": ["app"]}, "choose": {"net": chosen}});
        let app = json!({"role": "app", "milestone": true, "apply": [], "inputs": {"net": {"schema": {}, "from": "net.cidr"},
                         "nets": {"schema": {}, "from": "each net.cidr"}}});
        Fixture::new(catalog([net("one", json!({})), net("two", json!({})), app], [workload]), &[("a", 2)])
    };
    let text = change(&roles("one"), &roles("two"));
    assert!(text.contains("change-cycle"), "{text}");
    assert!(text.contains("apply app, apply two, remove one"), "{text}");
}

proptest! {
    #[test]
    fn the_plan_of_an_applied_plan_is_empty(seed in any::<u64>()) {
        let fixture = generate(seed);
        let mut world = World::default();
        let (first, graph) = plan(&world, &fixture);
        let created = first.items.iter().all(|item| item.action == Action::Create);
        prop_assert!(created, "{}", render::text(&first));
        world.settle(&fixture, &graph);
        let (second, _) = plan(&world, &fixture);
        prop_assert!(second.is_empty() && second.is_allowed(), "{}: {}", seed, render::text(&second));
    }

    #[test]
    fn a_plan_names_everything_that_changes_and_is_sure_of_what_it_says(seed in any::<u64>(), role in 0_usize..8, grow in any::<bool>()) {
        let mut fixture = generate(seed);
        let mut world = World::default();
        let graph = fixture.compile().expect("compiles").graph;
        world.settle(&fixture, &graph);
        let role = format!("r{role}");
        if graph.roles.contains_key(&role) {
            fixture.document.set.deployment.insert(format!("{role}.set"), json!(77));
        }
        if grow {
            fixture.nodes.insert("a-9".to_owned(), crate::compile::CompileNode { group: "a".to_owned(), ..Default::default() });
        } else if fixture.nodes.len() > 1 {
            fixture.nodes.remove("a-1");
        }
        let (planned, graph) = plan(&world, &fixture);
        let before = world.clone();
        world.settle(&fixture, &graph);
        let mut named: BTreeMap<(&str, &str), bool> = BTreeMap::new();
        for item in &planned.items {
            if matches!(item.action, Action::Create | Action::ReRun) {
                named.insert((item.role.as_str(), item.node.as_str()), item.may_be_spared);
            }
        }
        let ran: BTreeSet<(&str, &str)> = world.differs_from(&before, &graph);
        for vertex in &ran {
            prop_assert!(named.contains_key(vertex), "{seed}: {vertex:?} ran, {}", render::text(&planned));
        }
        for (vertex, may_be_spared) in &named {
            prop_assert!(*may_be_spared || ran.contains(vertex), "{seed}: {vertex:?} did not run, {}", render::text(&planned));
        }
    }
}
