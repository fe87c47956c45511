//! Layers: which values are set for which input, by whom, and whether they fit.

use std::collections::{BTreeMap, BTreeSet};

use super::closure::{Closure, Instance};
use super::feeds::{Feed, Fixed};
use super::{CompileInput, Findings, Site, one_of, values};
use crate::document::{Object, WorkloadDoc};
use crate::graph::{NodeName, Source, VIRTUAL};
use crate::value::{Layer, Layered, strongest};

/// The layers of one input.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layers {
    pub base: Option<Layered>,
    pub groups: BTreeMap<String, Layered>,
    pub nodes: BTreeMap<NodeName, Layered>,
}

impl Layers {
    pub(super) fn into_source(self) -> Source {
        Source::Layers { base: self.base, groups: self.groups, nodes: self.nodes }
    }
}

fn put(into: Option<Layered>, value: Layered) -> Option<Layered> {
    match into {
        Some(before) => strongest([&before, &value]).cloned(),
        None => Some(value),
    }
}

fn put_at(map: &mut BTreeMap<String, Layered>, key: &str, value: Layered) {
    let before = map.remove(key);
    map.insert(key.to_owned(), put(before, value).expect("one was put"));
}

/// Everything that a layer says about an input, and where each value stands.
struct Said {
    layers: Layers,
    /// Values with their places, to be validated.
    values: Vec<(Layered, Site)>,
}

impl Said {
    fn everywhere(&mut self, value: Layered, site: Site) {
        self.layers.base = put(self.layers.base.take(), value.clone());
        self.values.push((value, site));
    }

    fn in_group(&mut self, group: &str, value: Layered, site: Site) {
        put_at(&mut self.layers.groups, group, value.clone());
        self.values.push((value, site));
    }

    fn on_node(&mut self, node: &str, value: Layered, site: Site) {
        put_at(&mut self.layers.nodes, node, value.clone());
        self.values.push((value, site));
    }
}

fn say(values: &Object, key: &str, layer: Layer, by: &str) -> Option<Layered> {
    values.get(key).map(|value| Layered { value: value.clone(), layer, by: by.to_owned(), of: Vec::new() })
}

/// The layers that feed an input, following what it forwards. `None` if a wire feeds it in the end.
pub(super) fn of(
    input: &CompileInput,
    closure: &Closure,
    instance: &Instance,
    name: &str,
    findings: &mut Findings,
) -> Option<Layers> {
    let mut said = Said { layers: Layers::default(), values: Vec::new() };
    match &instance.feeds[name] {
        Feed::Wire(_) => return None,
        Feed::Forward { user, input: forwarded } => {
            let above = closure.instances.get(user)?;
            said.layers = of(input, closure, above, forwarded, findings)?;
            if above.role.doc.inputs[*forwarded].secret && !instance.role.doc.inputs[name].secret {
                let message = format!(
                    "`{}.{name}` is given `{user}.{forwarded}`, which is secret, and is not itself",
                    instance.name
                );
                let site = Site::of_role(&instance.role.source, &["inputs", name]);
                findings.push(site.error("secret-exposed", message).expected("`secret: true`"));
            }
        }
        Feed::Layers(fixed) => {
            if let Some(default) = &instance.role.doc.inputs[name].default {
                let by = instance.role.source.clone();
                let value = Layered { value: default.clone(), layer: Layer::RoleDefault, by, of: Vec::new() };
                let site = Site::of_role(&instance.role.source, &["inputs", name, "default"]);
                said.everywhere(value, site);
            }
            with(instance, fixed, &mut said);
        }
    }
    set(input, instance, name, &mut said);
    kept_in_clear(instance, name, &said.values, findings);
    validate(instance, name, &said.values, findings);
    Some(said.layers)
}

/// Values of `with`: of all groups, if all say the same.
fn with(instance: &Instance, fixed: &[Fixed], said: &mut Said) {
    let by_place: BTreeMap<&str, &Fixed> =
        fixed.iter().filter_map(|fixed| fixed.place.map(|place| (place, fixed))).collect();
    for one in fixed.iter().filter(|fixed| fixed.place.is_none()) {
        said.everywhere(one.value.clone(), one.site.clone());
    }
    let Some((_, first)) = by_place.first_key_value() else { return };
    let everywhere = instance.places.iter().all(|place| by_place.contains_key(place))
        && by_place.values().all(|fixed| fixed.value.value == first.value.value);
    if everywhere {
        return said.everywhere(first.value.clone(), first.site.clone());
    }
    for (group, fixed) in by_place {
        said.in_group(group, fixed.value.clone(), fixed.site.clone());
    }
}

/// Profiles are kept as they are written, for all deployments: nothing secret may stand there.
fn kept_in_clear(instance: &Instance, name: &str, values: &[(Layered, Site)], findings: &mut Findings) {
    let of_profile = |value: &Layered| matches!(value.layer, Layer::GlobalProfile | Layer::Profile);
    for (value, site) in values.iter().filter(|(value, _)| instance.role.doc.inputs[name].secret && of_profile(value)) {
        let message = format!("`{}.{name}` is secret, and {} is kept as it is written", instance.name, value.by);
        findings.push(site.error("secret-exposed", message).expected("a value in the deployment"));
    }
}

/// Profiles, facts, providers and the layers of the deployment document.
fn set(input: &CompileInput, instance: &Instance, name: &str, said: &mut Said) {
    let key = format!("{}.{name}", instance.name);
    let document = input.document;
    for profile in input.global_profiles {
        let by = format!("global profile {}", profile.name);
        if let Some(value) = say(&profile.values, &key, Layer::GlobalProfile, &by) {
            said.everywhere(value, Site::default());
        }
    }
    for (index, profile) in document.profiles.iter().enumerate() {
        let values = input.profiles.get(profile);
        let by = format!("profile {profile}");
        if let Some(value) = values.and_then(|values| say(values, &key, Layer::Profile, &by)) {
            said.everywhere(value, Site::of_deployment(&["profiles", &index.to_string()]));
        }
    }
    let by = format!("deployment {}", document.deployment);
    if let Some(value) = say(&document.set.deployment, &key, Layer::Deployment, &by) {
        said.everywhere(value, Site::of_deployment(&["set", "deployment", &key]));
    }
    if instance.on_virtual() {
        let by = "override of this node role";
        if let Some(value) = input.overrides.get(VIRTUAL).and_then(|all| say(all, &key, Layer::NodeRole, by)) {
            said.on_node(VIRTUAL, value, Site::default());
        }
        return;
    }
    for group in &instance.places {
        let values = document.set.groups.get(*group);
        if let Some(value) = values.and_then(|values| say(values, &key, Layer::Group, &by)) {
            said.in_group(group, value, Site::of_deployment(&["set", group, &key]));
        }
    }
    if input.nodes.values().any(|node| !node.discovered.is_empty() || !node.provided.is_empty())
        || !document.set.nodes.is_empty()
        || !input.overrides.is_empty()
    {
        set_nodes(input, instance, &key, said);
    }
}

fn set_nodes(input: &CompileInput, instance: &Instance, key: &str, said: &mut Said) {
    let by = format!("deployment {}", input.document.deployment);
    for (node, facts) in input.nodes.iter().filter(|(_, facts)| instance.places.contains(facts.group.as_str())) {
        let own = input.document.set.nodes.get(node);
        let overridden = input.overrides.get(node);
        if facts.discovered.is_empty() && facts.provided.is_empty() && own.is_none() && overridden.is_none() {
            continue;
        }
        let all = [
            say(&facts.discovered, key, Layer::Discovered, &format!("discovered on {node}")),
            say(&facts.provided, key, Layer::Provider, &format!("provider {}", facts.provider)),
            own.and_then(|values| say(values, key, Layer::Node, &by)),
            overridden.and_then(|all| say(all, key, Layer::NodeRole, "override of this node role")),
        ];
        for value in all.into_iter().flatten() {
            let site = match value.layer {
                Layer::Node => Site::of_deployment(&["set", "nodes", node, key]),
                _ => Site::default(),
            };
            said.on_node(node, value, site);
        }
    }
}

/// Overrides of single node roles, for an input that has a wire.
pub(super) fn overrides(
    input: &CompileInput,
    instance: &Instance,
    name: &str,
    findings: &mut Findings,
) -> BTreeMap<NodeName, Layered> {
    let key = format!("{}.{name}", instance.name);
    let mut found = BTreeMap::new();
    for (node, values) in input.overrides {
        let here = if instance.on_virtual() {
            node == VIRTUAL
        } else {
            input.nodes.get(node).is_some_and(|node| instance.places.contains(node.group.as_str()))
        };
        if let Some(value) = say(values, &key, Layer::NodeRole, "override of this node role").filter(|_| here) {
            validate(instance, name, &[(value.clone(), Site::default())], findings);
            found.insert(node.clone(), value);
        }
    }
    found
}

fn validate(instance: &Instance, name: &str, values: &[(Layered, Site)], findings: &mut Findings) {
    let declared = &instance.role.doc.inputs[name];
    let mut seen = BTreeSet::new();
    for (value, site) in values {
        if !seen.insert((site, &value.by)) {
            continue;
        }
        for (place, problem) in
            values::validate(&declared.schema, &value.value, declared.secret || !value.of.is_empty())
        {
            let layer = serde_json::to_value(value.layer).ok().and_then(|v| v.as_str().map(str::to_owned));
            let message = format!(
                "`{}.{name}` can not be what {} ({} layer) says: {problem}",
                instance.name,
                value.by,
                layer.unwrap_or_default().replace('_', " "),
            );
            let site = Site { file: site.file.clone(), pointer: format!("{}{place}", site.pointer) };
            findings.push(site.error("bad-value", message));
        }
    }
}

/// Do the keys of `set` name inputs that can be set there?
pub(super) fn check(input: &CompileInput, workload: &WorkloadDoc, closure: &Closure, findings: &mut Findings) {
    let set = &input.document.set;
    check_keys(&set.deployment, &["set", "deployment"], None, closure, findings);
    for (group, values) in &set.groups {
        if workload.groups.contains_key(group) {
            check_keys(values, &["set", group], Some(group), closure, findings);
        } else {
            let known: Vec<&str> = workload.groups.keys().map(String::as_str).chain(["nodes", "deployment"]).collect();
            let site = Site::of_deployment(&["set", group]);
            findings.push(site.error("unknown-group", format!("no group `{group}`")).expected(one_of(&known)));
        }
    }
    for (node, values) in &set.nodes {
        match input.nodes.get(node) {
            Some(bound) => check_keys(values, &["set", "nodes", node], Some(&bound.group), closure, findings),
            None => {
                let site = Site::of_deployment(&["set", "nodes", node]);
                let message = format!("node `{node}` is not in this deployment");
                findings.push(site.error("unknown-node", message));
            }
        }
    }
    for (index, profile) in input.document.profiles.iter().enumerate() {
        if !input.profiles.contains_key(profile) {
            let known: Vec<&str> = input.profiles.keys().map(String::as_str).collect();
            let site = Site::of_deployment(&["profiles", &index.to_string()]);
            findings.push(site.error("unknown-profile", format!("no profile `{profile}`")).expected(one_of(&known)));
        }
    }
}

fn check_keys(values: &Object, path: &[&str], group: Option<&str>, closure: &Closure, findings: &mut Findings) {
    for key in values.keys() {
        let path: Vec<&str> = path.iter().copied().chain([key.as_str()]).collect();
        let site = Site::of_deployment(&path);
        let Some((role, name)) = key.split_once('.') else {
            let message = format!("`{key}` names no input");
            findings.push(site.error("unknown-input", message).expected("DEPLOYMENT-ROLE.INPUT"));
            continue;
        };
        let Some(instance) = closure.instances.get(role) else {
            findings.push(site.error("unknown-role", format!("no deployment role `{role}` in this deployment")));
            continue;
        };
        if !instance.feeds.contains_key(name) {
            let known: Vec<&str> = instance.feeds.keys().copied().collect();
            let message = format!("`{role}` has no input `{name}`");
            findings.push(site.error("unknown-input", message).expected(one_of(&known)));
        } else if let Some(wire) = wire_of(closure, instance, name) {
            let message = format!("`{key}` is fed by `{wire}` and takes no value");
            findings.push(site.error("wired-input", message).expected("an input without a wire"));
        } else if let Some(group) = group.filter(|group| !instance.places.contains(group)) {
            let message = format!("`{role}` is not bound on `{group}`: the value would go nowhere");
            findings.push(site.error("not-bound-there", message));
        }
    }
}

/// The wire that feeds an input in the end, as written.
pub(super) fn wire_of(closure: &Closure, instance: &Instance, name: &str) -> Option<String> {
    match instance.feeds.get(name)? {
        Feed::Wire(by) => Some(by.wire.to_string()),
        Feed::Forward { user, input } => wire_of(closure, closure.instances.get(user)?, input),
        Feed::Layers(_) => None,
    }
}
