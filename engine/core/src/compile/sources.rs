//! From the wire as written to the source in the graph: who supplies, and along which edges.

use std::collections::{BTreeMap, BTreeSet};

use super::closure::Instance;
use super::edges::Drawer;
use super::facts;
use super::feeds::FedBy;
use super::fitting::{self, Supply};
use super::names::{self, Named};
use super::one_of;
use crate::diagnostic::Diagnostic;
use crate::document::{At, Scope, Wire};
use crate::graph::{Edge, Gathered, Kind, Pairing, RoleName, Source, Why};

/// A wire with its end found.
#[derive(Debug)]
pub(super) struct Wired {
    pub source: Source,
    pub edges: Vec<Edge>,
    pub supplies: Vec<Supply>,
}

/// Who supplies: deployment roles by place, read through an interface or not.
#[derive(Debug)]
struct Suppliers<'a> {
    interface: Option<&'a str>,
    /// Of an unscoped wire to an interface: by place of the reader. Else one entry without a place.
    by_place: BTreeMap<Option<&'a str>, RoleName>,
}

type Found<T> = Result<T, Box<Diagnostic>>;

/// Finds the end of a wire.
pub(super) fn find<'a>(drawer: &mut Drawer<'a, '_>, instance: &Instance<'a>, name: &str, by: &FedBy) -> Found<Wired> {
    let wire = &by.wire;
    match wire.scope {
        Scope::Import => import(drawer, by),
        Scope::Own if wire.reads_deployment() => deployment(by),
        Scope::Own if wire.reads_node() => own_fact(instance, by),
        Scope::Each | Scope::Map if wire.reads_node() => gathered_facts(drawer, instance, name, by),
        Scope::Own => own(drawer, instance, name, by),
        Scope::Each | Scope::Map => gathered(drawer, instance, name, by),
        Scope::One => chosen(drawer, instance, name, by),
        Scope::At => at(drawer, instance, name, by),
    }
}

fn wrong(by: &FedBy, code: &str, message: String) -> Box<Diagnostic> {
    Box::new(by.site.error(code, message))
}

fn reach(supply: Result<Supply, String>, by: &FedBy) -> Found<Supply> {
    supply
        .map_err(|reason| wrong(by, "unknown-output", reason))?
        .at(&by.wire.path)
        .map_err(|reason| wrong(by, "does-not-fit", format!("`{}` leads nowhere: {reason}", by.wire)))
}

fn data(parent: &str, pairing: Pairing, name: &str, wire: &Wire) -> Edge {
    Edge { parent: parent.to_owned(), pairing, why: Why::Data { input: name.to_owned(), wire: wire.to_string() } }
}

fn import(drawer: &Drawer, by: &FedBy) -> Found<Wired> {
    let Wire { supplier, output, path, .. } = &by.wire;
    let output = output.clone().unwrap_or_default();
    let declared = &drawer.workload.imports;
    let Some(wanted) = declared.get(supplier).and_then(|exports| exports.get(&output)) else {
        let known: Vec<String> = declared
            .iter()
            .flat_map(|(name, exports)| exports.keys().map(move |export| format!("{name}.{export}")))
            .collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let message = format!("workload `{}` imports no `{supplier}.{output}`", drawer.workload.workload);
        return Err(Box::new(by.site.error("unknown-import", message).expected(one_of(&known))));
    };
    let supply = reach(Ok(Supply::Known(wanted.schema.clone())), by)?;
    let source = Source::Import { import: supplier.clone(), output, path: path.clone() };
    Ok(Wired { source, edges: Vec::new(), supplies: vec![supply] })
}

fn deployment(by: &FedBy) -> Found<Wired> {
    let field = by.wire.output.clone().unwrap_or_default();
    let Some(schema) = facts::of_deployment(&field) else {
        let message = format!("the deployment has no field `{field}`");
        return Err(Box::new(by.site.error("unknown-field", message).expected(one_of(&facts::FIELDS))));
    };
    let supply = reach(Ok(Supply::Known(schema)), by)?;
    let source = Source::Deployment { field, path: by.wire.path.clone() };
    Ok(Wired { source, edges: Vec::new(), supplies: vec![supply] })
}

fn fact(by: &FedBy) -> Found<Supply> {
    let fact = by.wire.output.as_deref().unwrap_or_default();
    match facts::of_node(fact) {
        Some(schema) => reach(Ok(Supply::Known(schema)), by),
        None => Ok(Supply::Unknown(format!("only the node can tell what `{fact}` is"))),
    }
}

fn own_fact(instance: &Instance, by: &FedBy) -> Found<Wired> {
    if instance.on_virtual() {
        let message =
            format!("`{}` runs once for the deployment and has no node to read `{}` of", instance.name, by.wire);
        return Err(Box::new(by.site.error("wrong-scope", message).expected("`each` or `map`")));
    }
    let supply = fact(by)?;
    let fact = by.wire.output.clone().unwrap_or_default();
    Ok(Wired { source: Source::Node { fact, path: by.wire.path.clone() }, edges: Vec::new(), supplies: vec![supply] })
}

fn gathered_facts(drawer: &mut Drawer, instance: &Instance, name: &str, by: &FedBy) -> Found<Wired> {
    let wire = &by.wire;
    check_group(drawer, by)?;
    let map = wire.scope == Scope::Map;
    let in_group = |group: &str| wire.group.as_ref().is_none_or(|only| only == group);
    let count = drawer.input.nodes.values().filter(|node| in_group(&node.group)).count();
    let supply = fact(by)?.gathered(map, count);
    let of = Gathered::Fact { fact: wire.output.clone().unwrap_or_default(), path: wire.path.clone() };
    let kind = Kind::Gather { of, map, group: wire.group.clone() };
    let helper = drawer.helper(wire.to_string(), kind, Vec::new(), (instance, name), supply.schema());
    let pairing = from_virtual(instance);
    Ok(Wired {
        source: Source::Gather { helper: helper.clone() },
        edges: vec![data(&helper, pairing, name, wire)],
        supplies: vec![supply],
    })
}

fn from_virtual(child: &Instance) -> Pairing {
    if child.on_virtual() { Pairing::Same } else { Pairing::FromVirtual }
}

fn check_group(drawer: &Drawer, by: &FedBy) -> Found<()> {
    match &by.wire.group {
        Some(group) if !drawer.workload.groups.contains_key(group) => {
            let known: Vec<&str> = drawer.workload.groups.keys().map(String::as_str).collect();
            let message = format!("workload `{}` has no group `{group}`", drawer.workload.workload);
            Err(Box::new(by.site.error("unknown-group", message).expected(one_of(&known))))
        }
        _ => Ok(()),
    }
}

/// Who a wire reads. Only deployment roles that are bound are found.
fn suppliers<'a>(drawer: &Drawer<'a, '_>, instance: &Instance<'a>, by: &FedBy) -> Found<Suppliers<'a>> {
    let name = &by.wire.supplier;
    let closure = drawer.closure;
    if let Some(local) = closure.local(by.scope.as_ref(), name).filter(|local| closure.instances.contains_key(*local)) {
        return Ok(Suppliers { interface: None, by_place: BTreeMap::from([(None, local.clone())]) });
    }
    match names::global(drawer.input.catalog, name) {
        Named::Role(role) if closure.instances.contains_key(role) => {
            Ok(Suppliers { interface: None, by_place: BTreeMap::from([(None, role.to_owned())]) })
        }
        Named::Role(role) => {
            let message = format!("nobody binds `{role}`, which `{}` reads", by.wire);
            Err(Box::new(
                by.site.error("no-supplier", message).expected("a milestone that pulls it in, or an unscoped wire"),
            ))
        }
        Named::Interface(interface) if by.wire.scope == Scope::Own => {
            let found = instance.places.iter().filter_map(|place| {
                closure.resolved.get(&(interface, *place)).map(|provider| (Some(*place), provider.clone()))
            });
            Ok(Suppliers { interface: Some(interface), by_place: found.collect() })
        }
        Named::Interface(interface) => {
            let all: Vec<&str> = closure.providers(interface).map(|provider| provider.name.as_str()).collect();
            match all.as_slice() {
                [one] => {
                    Ok(Suppliers { interface: Some(interface), by_place: BTreeMap::from([(None, (*one).to_owned())]) })
                }
                [] => Err(wrong(
                    by,
                    "no-supplier",
                    format!("nobody bound provides `{interface}`, which `{}` reads", by.wire),
                )),
                several => {
                    let message = format!("`{}` reads `{interface}`, which more than one role provides", by.wire);
                    Err(Box::new(by.site.error("ambiguous-provider", message).expected(one_of(several))))
                }
            }
        }
        Named::Unknown => {
            Err(wrong(by, "unknown-role", format!("no role, interface or local name of `uses` is called `{name}`")))
        }
    }
}

/// The outputs that an interface names; `None` if one output is read or the interface says nothing.
fn only(drawer: &Drawer, interface: Option<&str>, wire: &Wire) -> Option<BTreeSet<String>> {
    let declared = drawer.input.catalog.interfaces.get(interface?)?;
    wire.output.is_none().then(|| declared.keys().cloned().collect())
}

fn own<'a>(drawer: &Drawer<'a, '_>, instance: &Instance<'a>, name: &str, by: &FedBy) -> Found<Wired> {
    let Suppliers { interface, by_place } = suppliers(drawer, instance, by)?;
    let wire = &by.wire;
    let mut supplies = Vec::new();
    let mut edges = BTreeSet::new();
    let mut sources = BTreeMap::new();
    for (place, supplier) in by_place {
        let found = &drawer.closure.instances[&supplier];
        let pairing = match (found.on_virtual(), instance.on_virtual()) {
            (true, false) => Pairing::FromVirtual,
            (true, true) | (false, false) => Pairing::Same,
            (false, true) => {
                let message = format!(
                    "`{}` runs once for the deployment, `{supplier}` on nodes: which one is meant?",
                    instance.name
                );
                return Err(Box::new(by.site.error("wrong-scope", message).expected("`each`, `map` or `one`")));
            }
        };
        supplies.push(reach(fitting::output(&drawer.input, found, interface, wire.output.as_deref()), by)?);
        edges.insert(data(&supplier, pairing, name, wire));
        let (output, path) = (wire.output.clone(), wire.path.clone());
        let source = Source::Output { role: supplier, output, path, only: only(drawer, interface, wire) };
        sources.insert(place, source);
    }
    let mut distinct: Vec<&Source> = sources.values().collect();
    distinct.dedup();
    let source = match distinct.as_slice() {
        [one] => (*one).clone(),
        // Nobody provides it anywhere; the closure has said so.
        [] if instance.on_virtual() => {
            let message =
                format!("`{}` runs once for the deployment and finds no `{}` there", instance.name, wire.supplier);
            return Err(Box::new(by.site.error("wrong-scope", message).expected("`each`, `map` or `one`")));
        }
        [] => return Err(wrong(by, "no-provider", format!("nobody provides `{}`", wire.supplier))),
        _ => Source::ByGroup {
            groups: sources
                .into_iter()
                .filter_map(|(place, source)| place.map(|place| (place.to_owned(), source)))
                .collect(),
        },
    };
    Ok(Wired { source, edges: edges.into_iter().collect(), supplies })
}

/// The one supplier of a scoped wire, which runs on nodes.
fn on_nodes<'d, 'a>(
    drawer: &'d Drawer<'a, '_>,
    instance: &Instance<'a>,
    by: &FedBy,
) -> Found<(&'d Instance<'a>, Option<&'a str>)> {
    check_group(drawer, by)?;
    let Suppliers { interface, by_place } = suppliers(drawer, instance, by)?;
    let supplier = by_place.into_values().next().expect("a scoped wire has one supplier");
    let supplier = &drawer.closure.instances[&supplier];
    if supplier.on_virtual() {
        let message = format!("`{}` runs once for the deployment: there is nothing to gather or choose", supplier.name);
        return Err(Box::new(by.site.error("wrong-scope", message).expected("the wire without a scope word")));
    }
    Ok((supplier, interface))
}

/// A name for a helper; the same for everything that gathers or chooses the same.
fn helper_name(supplier: &Instance, interface: Option<&str>, wire: &Wire, whole: bool) -> String {
    let mut name = Wire { supplier: supplier.name.clone(), ..wire.clone() }.to_string();
    if let Some(interface) = interface.filter(|_| whole) {
        name = format!("{name} as {interface}");
    }
    name
}

fn gathered<'a>(drawer: &mut Drawer<'a, '_>, instance: &Instance<'a>, name: &str, by: &FedBy) -> Found<Wired> {
    let wire = &by.wire;
    let map = wire.scope == Scope::Map;
    let (supplier, interface) = on_nodes(drawer, instance, by)?;
    let count = drawer.count(supplier, wire.group.as_deref());
    let supply = reach(fitting::output(&drawer.input, supplier, interface, wire.output.as_deref()), by)?;
    let supply = supply.gathered(map, count);
    let only = only(drawer, interface, wire);
    let helper = helper_name(supplier, interface, wire, only.is_some());
    let role = supplier.name.clone();
    let members = vec![data(&role, Pairing::All, "members", wire)];
    let of = Gathered::Output { role, output: wire.output.clone(), path: wire.path.clone(), only };
    let kind = Kind::Gather { of, map, group: wire.group.clone() };
    let helper = drawer.helper(helper, kind, members, (instance, name), supply.schema());
    let edges = vec![data(&helper, from_virtual(instance), name, wire)];
    Ok(Wired { source: Source::Gather { helper }, edges, supplies: vec![supply] })
}

fn chosen<'a>(drawer: &mut Drawer<'a, '_>, instance: &Instance<'a>, name: &str, by: &FedBy) -> Found<Wired> {
    let wire = &by.wire;
    let (supplier, interface) = on_nodes(drawer, instance, by)?;
    if wire.output.is_none() {
        return Err(wrong(by, "unknown-output", format!("`{wire}` names no output of `{}`", wire.supplier)));
    }
    let supply = reach(fitting::output(&drawer.input, supplier, interface, wire.output.as_deref()), by)?;
    let role = supplier.name.clone();
    let chooser = Wire { supplier: role.clone(), output: None, path: Vec::new(), ..wire.clone() }.to_string();
    let kind = Kind::Chooser { of: role.clone(), group: wire.group.clone() };
    let schema = facts::of_node("name").expect("nodes have names");
    let helper = drawer.helper(chooser, kind, Vec::new(), (instance, name), &schema);
    let edges = vec![data(&helper, from_virtual(instance), name, wire), data(&role, Pairing::Chosen, name, wire)];
    let (output, path) = (wire.output.clone(), wire.path.clone());
    Ok(Wired { source: Source::Chosen { helper, role, output, path }, edges, supplies: vec![supply] })
}

fn at<'a>(drawer: &Drawer<'a, '_>, instance: &Instance<'a>, name: &str, by: &FedBy) -> Found<Wired> {
    let wire = &by.wire;
    let At::One { role: place, .. } = &instance.role.doc.at else {
        let message = format!("`{wire}` reads where `{}` is performed, but that is not `at: one ROLE`", instance.name);
        return Err(wrong(by, "wrong-scope", message));
    };
    if *place != wire.supplier {
        let message = format!("`{}` is performed at one `{place}`, not at one `{}`", instance.name, wire.supplier);
        return Err(Box::new(by.site.error("wrong-scope", message).expected(format!("`at {place}.OUTPUT`"))));
    }
    let (supplier, interface) = on_nodes(drawer, instance, by)?;
    let Some(output) = wire.output.clone() else {
        return Err(wrong(by, "unknown-output", format!("`{wire}` names no output of `{place}`")));
    };
    let supply = reach(fitting::output(&drawer.input, supplier, interface, Some(&output)), by)?;
    let role = supplier.name.clone();
    let edges = vec![data(&role, Pairing::All, name, wire)];
    Ok(Wired { source: Source::At { role, output, path: wire.path.clone() }, edges, supplies: vec![supply] })
}
