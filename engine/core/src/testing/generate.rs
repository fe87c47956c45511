//! Random deployments that compile, by seed: the same seed gives the same one on every machine.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Fixture, catalog};

/// A small generator of numbers (splitmix64), so that a seed means the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Seeded.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`; 0 for a limit of 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        usize::try_from(z % (limit.max(1) as u64)).expect("below a usize")
    }

    /// True so many times out of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of several; none of nothing.
    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> Option<&'t T> {
        from.get(self.below(from.len()))
    }
}

/// A role so far, with what later ones must know of it.
struct Drawn {
    name: String,
    on_virtual: bool,
    bound: BTreeSet<&'static str>,
}

const GROUPS: [&str; 2] = ["a", "b"];

/// A random deployment without errors: roles of nodes and of the deployment, every kind of wire, private uses,
/// `precedes`, work and templates, in two groups.
pub fn generate(seed: u64) -> Fixture {
    let mut dice = Dice::new(seed);
    let mut drawn: Vec<Drawn> = Vec::new();
    let mut roles = vec![json!({
        "role": "private", "apply": [{"file": {"path": "/p"}}],
        "inputs": {"given": {"schema": {}}, "name": {"schema": {"type": "string"}, "from": "node.name"}},
        "outputs": {"made": {"schema": {}}, "said": {"schema": {}, "value": "{{ given }}!"}},
    })];
    let mut bound = Map::new();
    // Not always: without it a turn may see less.
    let ordered = dice.chance(30);
    for index in 0..3 + dice.below(8) {
        let on_virtual = dice.chance(30);
        let name = format!("r{index}");
        let groups: BTreeSet<&'static str> = match (on_virtual, dice.chance(60)) {
            (true, true) => BTreeSet::from(["deployment"]),
            (false, true) => GROUPS.into_iter().filter(|_| dice.chance(70)).collect(),
            (_, false) => BTreeSet::new(),
        };
        for group in &groups {
            let list = bound.entry(*group).or_insert_with(|| json!([]));
            list.as_array_mut().expect("a list").push(json!(name));
        }
        roles.push(role(&mut dice, &name, on_virtual, &drawn));
        for (place, before) in drawn.iter().enumerate() {
            let may = before.on_virtual == on_virtual && !before.bound.is_empty() && !groups.is_empty();
            if ordered && may && dice.chance(30) {
                // The first role is the private one.
                let list = roles[place + 1].as_object_mut().expect("an object").entry("precedes").or_insert(json!([]));
                list.as_array_mut().expect("a list").push(json!(name));
            }
        }
        drawn.push(Drawn { name, on_virtual, bound: groups });
    }
    let mut workload = json!({"workload": "random", "groups": {"a": {}, "b": {}}, "roles": bound});
    if dice.chance(40) {
        let some = json!({"max_unavailable": 1 + dice.below(2), "failures": dice.below(2)});
        let few = json!({"max_unavailable": if dice.chance(50) { json!(1) } else { json!("50%") }, "quorum": true});
        workload["budgets"] = json!({"some": some, "few": few});
        for role in &mut roles {
            let budgets: Vec<&str> = ["some", "few"].into_iter().filter(|_| dice.chance(35)).collect();
            role["disrupts"] = json!(budgets);
        }
    }
    let sizes = [("a", 1 + dice.below(3)), ("b", dice.below(3))];
    Fixture::new(catalog(roles, [workload]), &sizes)
}

fn role(dice: &mut Dice, name: &str, on_virtual: bool, before: &[Drawn]) -> Value {
    let mut inputs = Map::new();
    inputs.insert("set".to_owned(), json!({"schema": {"type": "integer"}, "default": dice.below(5)}));
    let mut requires = Vec::new();
    for parent in before {
        if !dice.chance(35) {
            continue;
        }
        let (supplier, bound) = (&parent.name, !parent.bound.is_empty());
        let output = if dice.chance(50) { "found" } else { "told" };
        let scoped = ["each", "map", "one"][dice.below(3)];
        let wire = match (on_virtual, parent.on_virtual) {
            (_, true) | (false, false) if dice.chance(25) => {
                requires.push(json!(supplier));
                continue;
            }
            (true, false) if bound && dice.chance(25) => {
                requires.push(json!(supplier));
                continue;
            }
            (false, false) if bound && dice.chance(50) => format!("{scoped} {supplier}.{output}"),
            (_, true) | (false, false) => format!("{supplier}.{output}"),
            (true, false) if bound => match parent.bound.first().filter(|_| dice.chance(30)) {
                Some(group) => format!("{scoped} {supplier}.{output} in {group}"),
                None => format!("{scoped} {supplier}.{output}"),
            },
            (true, false) => continue,
        };
        let ignore = if dice.chance(15) { "ignore" } else { "run" };
        inputs.insert(format!("from_{supplier}"), json!({"schema": {}, "from": wire, "on_change": ignore}));
    }
    if dice.chance(20) {
        inputs.insert("addresses".to_owned(), json!({"schema": {}, "from": "map node.address"}));
    }
    let places: Vec<&Drawn> = before.iter().filter(|role| role.bound.contains("a")).collect();
    let place = dice.pick(&places).filter(|_| on_virtual && dice.chance(25)).map(|place| place.name.clone());
    if let Some(place) = &place {
        let output = if dice.chance(50) { "found" } else { "told" };
        inputs.insert("there".to_owned(), json!({"schema": {}, "from": format!("at {place}.{output}")}));
    }
    let mut uses = Map::new();
    if !on_virtual && dice.chance(25) {
        uses.insert("own".to_owned(), json!({"role": "private", "with": {"given": "{{ set }}"}}));
        let output = if dice.chance(50) { "made" } else { "said" };
        inputs.insert("private".to_owned(), json!({"schema": {}, "from": format!("own.{output}")}));
    }
    let mut role = json!({
        "role": name, "runs": if on_virtual { "deployment" } else { "node" }, "milestone": true, "requires": requires,
        "inputs": inputs, "uses": uses, "destructive": dice.chance(5),
        "outputs": {"told": {"schema": {}, "value": "{{ set }}"}},
    });
    if let Some(place) = place {
        role["at"] = json!(format!("one {place}"));
    }
    if dice.chance(75) {
        role["apply"] = json!([{"unit": {"name": format!("{name}.service"), "restart_for": ["set"]}}]);
        role["outputs"]["found"] = json!({"schema": {}});
    } else {
        role["outputs"]["found"] = json!({"schema": {}, "value": format!("found by {name}")});
    }
    role
}
