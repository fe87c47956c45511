//! Which deployment roles there are, and where: the closure over `requires`, `uses` and unscoped wires.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::feeds::{self, Binding, Feed, Origin, Used};
use super::interfaces::{self, Wanted};
use super::names::{self, Named};
use super::parameters::Parameters;
use super::{CompileInput, Findings, Site, is_place, one_of};
use crate::catalog::CatalogRole;
use crate::document::{Runs, Scope, UseDoc, WorkloadDoc};
use crate::graph::{RoleName, VIRTUAL};

/// All deployment roles, and who provides what to whom.
#[derive(Debug, Default)]
pub(super) struct Closure<'a> {
    /// Deployment roles by name.
    pub instances: BTreeMap<RoleName, Instance<'a>>,
    /// Interface and place to the deployment role that provides it there.
    pub resolved: BTreeMap<(&'a str, &'a str), RoleName>,
}

/// A deployment role.
#[derive(Debug)]
pub(super) struct Instance<'a> {
    /// Its name.
    pub name: RoleName,
    /// Its role.
    pub role: &'a CatalogRole,
    /// The private use it is.
    pub used: Option<(RoleName, &'a UseDoc)>,
    /// Groups it is bound in, or the virtual node alone.
    pub places: BTreeSet<&'a str>,
    /// Why it is here.
    pub because: String,
    /// Names of its own private uses, by local name.
    pub locals: BTreeMap<&'a str, RoleName>,
    /// What feeds its inputs.
    pub feeds: BTreeMap<&'a str, Feed<'a>>,
}

impl Instance<'_> {
    /// Does it stand on the virtual node?
    pub(super) fn on_virtual(&self) -> bool {
        is_virtual(self.role)
    }

    /// Names after `requires`, each with the deployment role whose `uses` it may mean, and where it stands.
    pub(super) fn requires(&self, closure: &Closure) -> Vec<(String, Option<RoleName>, Site)> {
        let site = |path: &[&str]| Site::of_role(&self.role.source, path);
        let own = self
            .role
            .doc
            .requires
            .iter()
            .enumerate()
            .map(|(index, name)| (name.clone(), Some(self.name.clone()), site(&["requires", &index.to_string()])));
        // What an entry of `uses` requires comes before all of what it uses, the private parts of that included.
        let users = std::iter::successors(Some(self), |one| closure.instances.get(&one.used.as_ref()?.0));
        let by_users = users.filter_map(|one| Some((one, one.used.as_ref()?))).flat_map(|(one, (user, doc))| {
            let source = closure.instances.get(user).map(|user| user.role.source.clone()).unwrap_or_default();
            let local = one.name.strip_prefix(&format!("{user}-")).unwrap_or_default().to_owned();
            doc.requires.iter().enumerate().map(move |(index, name)| {
                let site = Site::of_role(&source, &["uses", &local, "requires", &index.to_string()]);
                (name.clone(), Some(user.clone()), site)
            })
        });
        own.chain(by_users).collect()
    }
}

impl<'a> Closure<'a> {
    /// The deployment role behind a local name of `uses`.
    pub(super) fn local(&self, scope: Option<&RoleName>, name: &str) -> Option<&RoleName> {
        self.instances.get(scope?)?.locals.get(name)
    }

    /// Deployment roles that provide an interface, private ones left out.
    pub(super) fn providers(&self, interface: &str) -> impl Iterator<Item = &Instance<'a>> {
        self.instances
            .values()
            .filter(move |one| one.used.is_none() && one.role.doc.provides.iter().any(|name| name == interface))
    }
}

pub(super) fn is_virtual(role: &CatalogRole) -> bool {
    role.doc.runs == Some(Runs::Deployment)
}

/// Bindings of the workload, by role.
pub(super) type Bindings<'a> = BTreeMap<&'a str, Vec<Binding<'a>>>;

/// Pulls in everything that the workload's milestones need.
pub(super) fn close<'a>(
    input: &CompileInput<'a>,
    workload: &'a WorkloadDoc,
    parameters: &Parameters,
    findings: &mut Findings,
) -> Closure<'a> {
    let bindings = bindings(input, workload, findings);
    interfaces::check_choices(input, workload, findings);
    let mut closer = Closer {
        input: *input,
        workload,
        parameters,
        bindings: &bindings,
        closure: Closure::default(),
        queue: VecDeque::new(),
        wanted: Vec::new(),
        findings,
    };
    for (role, bound) in &bindings {
        for binding in bound {
            let because = format!("bound by the workload on {}", binding.place);
            closer.bind_role(role, binding.place, &because, &binding.site(&workload.workload, &[]));
        }
    }
    while let Some((name, place)) = closer.queue.pop_front() {
        closer.expand(&name, place);
    }
    let Closer { mut closure, wanted, .. } = closer;
    // A role of nodes that only the deployment's own roles name is nowhere.
    closure.instances.retain(|_, instance| !instance.places.is_empty());
    interfaces::resolve(input, &mut closure, &wanted, findings);
    closure
}

/// The workload's bindings that can be followed; findings tell of the others.
fn bindings<'a>(input: &CompileInput<'a>, workload: &'a WorkloadDoc, findings: &mut Findings) -> Bindings<'a> {
    let mut all: Bindings = BTreeMap::new();
    for (place, roles) in &workload.roles {
        if !is_place(workload, place) {
            let known: Vec<&str> = workload.groups.keys().map(String::as_str).chain([VIRTUAL]).collect();
            let site = Site::of_workload(&workload.workload, &["roles", place]);
            findings.push(site.error("unknown-group", format!("no group `{place}`")).expected(one_of(&known)));
            continue;
        }
        for (index, doc) in roles.iter().enumerate() {
            let binding = Binding { place, index, doc };
            let site = binding.site(&workload.workload, &[]);
            let Some((name, role)) = input.catalog.roles.get_key_value(&doc.role) else {
                findings.push(site.error("unknown-role", format!("no role `{}`", doc.role)));
                continue;
            };
            if !role.doc.milestone {
                let message = format!("`{name}` is not a milestone");
                findings.push(site.error("not-a-milestone", message).expected("a role with `milestone: true`"));
                continue;
            }
            if is_virtual(role) != (place == VIRTUAL) {
                let (is, right) = if is_virtual(role) {
                    ("once for the deployment", "it under `deployment`")
                } else {
                    ("on nodes", "it under a group")
                };
                let message = format!("`{name}` runs {is}, not on `{place}`");
                findings.push(site.error("wrong-place", message).expected(right));
                continue;
            }
            let bound = all.entry(name).or_default();
            if bound.iter().any(|other| other.place == place) {
                findings.push(site.error("bound-twice", format!("`{name}` is bound twice on `{place}`")));
                continue;
            }
            bound.push(binding);
        }
    }
    all
}

struct Closer<'a, 'f> {
    input: CompileInput<'a>,
    workload: &'a WorkloadDoc,
    parameters: &'f Parameters,
    bindings: &'f Bindings<'a>,
    closure: Closure<'a>,
    queue: VecDeque<(RoleName, &'a str)>,
    wanted: Vec<Wanted<'a>>,
    findings: &'f mut Findings,
}

impl<'a> Closer<'a, '_> {
    /// Binds the deployment role that is called like its role.
    fn bind_role(&mut self, role: &str, place: &'a str, because: &str, site: &Site) {
        let Some((name, role)) = self.input.catalog.roles.get_key_value(role) else { return };
        match self.closure.instances.get(name) {
            Some(instance) if instance.used.is_some() => return self.clash(name, site),
            Some(_) => {}
            None => self.create(name.clone(), role, None, because),
        }
        self.enqueue(name.clone(), place);
    }

    fn clash(&mut self, name: &str, site: &Site) {
        let message = format!("two deployment roles are called `{name}`, one of them a private use");
        self.findings.push(site.error("name-clash", message).expected("another key under `uses`"));
    }

    fn create(&mut self, name: RoleName, role: &'a CatalogRole, used: Option<Used<'a, '_>>, because: &str) {
        let bindings =
            if used.is_none() { self.bindings.get(name.as_str()).map_or(&[][..], Vec::as_slice) } else { &[] };
        let (workload, parameters) = (self.workload, self.parameters);
        let feeds = feeds::of(Origin { name: &name, role, used, bindings, workload, parameters }, self.findings);
        let locals = role.doc.uses.keys().map(|local| (local.as_str(), format!("{name}-{local}"))).collect();
        let used = used.map(|used| (used.user.to_owned(), used.doc));
        let because = because.to_owned();
        let instance = Instance { name: name.clone(), role, used, places: BTreeSet::new(), because, locals, feeds };
        self.closure.instances.insert(name, instance);
    }

    /// On this place, or on the virtual node if it stands there. A role of nodes can not follow one of the deployment.
    fn enqueue(&mut self, name: RoleName, place: &'a str) {
        let instance = &self.closure.instances[&name];
        let place = if instance.on_virtual() { VIRTUAL } else { place };
        if instance.on_virtual() || place != VIRTUAL {
            self.queue.push_back((name, place));
        }
    }

    fn expand(&mut self, name: &RoleName, place: &'a str) {
        let instance = self.closure.instances.get_mut(name).expect("queued ones exist");
        if !instance.places.insert(place) {
            return;
        }
        let role = instance.role;
        for (local, doc) in &role.doc.uses {
            self.bind_use(name, role, local, doc, place);
        }
        let instance = &self.closure.instances[name];
        let requires = instance.requires(&self.closure);
        let wires: Vec<_> = instance
            .feeds
            .iter()
            .filter_map(|(input, feed)| match feed {
                Feed::Wire(by)
                    if by.wire.scope == Scope::Own && !by.wire.reads_node() && !by.wire.reads_deployment() =>
                {
                    Some((by.wire.supplier.clone(), by.scope.clone(), by.site.clone(), format!("feeds {name}.{input}")))
                }
                _ => None,
            })
            .collect();
        for (wanted, scope, site) in requires {
            self.pull(&wanted, scope.as_ref(), place, &format!("required by {name}"), &site);
        }
        for (wanted, scope, site, because) in wires {
            self.pull(&wanted, scope.as_ref(), place, &because, &site);
        }
    }

    fn bind_use(
        &mut self,
        user: &RoleName,
        user_role: &'a CatalogRole,
        local: &'a str,
        doc: &'a UseDoc,
        place: &'a str,
    ) {
        let site = Site::of_role(&user_role.source, &["uses", local]);
        let Some((_, role)) = self.input.catalog.roles.get_key_value(&doc.role) else {
            self.findings.push(site.error("unknown-role", format!("no role `{}`", doc.role)));
            return;
        };
        let name = format!("{user}-{local}");
        let same = |found: &Instance| found.used.as_ref().is_some_and(|(by, _)| by == user);
        match self.closure.instances.get(&name) {
            Some(found) if same(found) => {}
            Some(_) => return self.clash(&name, &site),
            None => {
                if self.is_user_of_itself(user, &doc.role) {
                    let message = format!("`{}` uses `{}`, which uses it in turn", user_role.doc.role, doc.role);
                    self.findings.push(site.error("uses-itself", message));
                    return;
                }
                let used = Used { user, user_role, local, doc };
                self.create(name.clone(), role, Some(used), &format!("used by {user} as {local}"));
            }
        }
        self.enqueue(name, place);
    }

    /// Does this role stand among the users above?
    fn is_user_of_itself(&self, user: &RoleName, role: &str) -> bool {
        let mut at = Some(user);
        while let Some(instance) = at.and_then(|name| self.closure.instances.get(name)) {
            if instance.role.doc.role == role {
                return true;
            }
            at = instance.used.as_ref().map(|(user, _)| user);
        }
        false
    }

    fn pull(&mut self, name: &str, scope: Option<&RoleName>, place: &'a str, because: &str, site: &Site) {
        if self.closure.local(scope, name).is_some() {
            return;
        }
        match names::global(self.input.catalog, name) {
            Named::Role(role) => self.bind_role(role, place, because, site),
            Named::Interface(interface) => match interfaces::choice(self.workload, interface, place) {
                Some(role) => {
                    if self.input.catalog.roles.contains_key(role) {
                        self.bind_role(role, place, &format!("chosen for {interface}, {because}"), site);
                        self.closure.resolved.insert((interface, place), role.to_owned());
                    }
                }
                None => self.wanted.push(Wanted { interface, place, because: because.to_owned(), site: site.clone() }),
            },
            Named::Unknown => {
                let message = format!("no role, interface or local name of `uses` is called `{name}`");
                self.findings.push(site.error("unknown-role", message));
            }
        }
    }
}
