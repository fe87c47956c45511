//! A plan on its nodes: with which inputs what is to run again would run, as far as that is known before anything does,
//! and what its steps say that they would change.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::predict::{Predictor, changed};
use super::{Action, Cause, PlanInput, look_at};
use crate::document::{At, Object};
use crate::graph::{Kind, NodeName, RoleName};
use crate::view::DriftDiff;

/// A node role that is to run again on its node.
#[derive(Clone, Debug, PartialEq)]
pub struct Foretold {
    /// Its node.
    pub node: NodeName,
    /// Its deployment role.
    pub role: RoleName,
    /// The catalog's role.
    pub is: String,
    /// Inputs that change, or may.
    pub changed: BTreeSet<String>,
    /// What it would run with; or why nobody knows yet, in one sentence.
    pub inputs: Result<Object, String>,
}

/// What the steps of a plan would change on the nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DryRun {
    /// The deployment.
    pub deployment: String,
    /// Its node roles that are to run again.
    pub node_roles: Vec<DryRunView>,
}

/// What the steps of a node role would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DryRunView {
    /// Its node.
    pub node: String,
    /// Its deployment role.
    pub role: String,
    /// Step by step; secrets redacted on the node. Steps that run plain scripts can not tell and are left out.
    pub diffs: Vec<DriftDiff>,
    /// Code of why it can not be told, or not to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Node roles on nodes that a commit of `desired` would run again, parents first.
pub fn foretell(input: &PlanInput) -> Vec<Foretold> {
    let mut predictor = Predictor::remembering(*input);
    let mut all = Vec::new();
    for name in &input.desired.order {
        let role = &input.desired.roles[name];
        for (node, item) in look_at(input.reach, &mut predictor, role) {
            if item.action != Action::ReRun || role.kind != Kind::Work || role.on_virtual {
                continue;
            }
            let known = predictor.inputs.remove(&(node.as_str(), name.as_str())).unwrap_or_default();
            let inputs = match role.inputs.keys().find(|input| !known.contains_key(*input)) {
                _ if role.at != At::OwnNode => Err("it is not performed on its node".to_owned()),
                None => Ok(known),
                Some(input) => Err(match after(&item.causes, input) {
                    Some(of) => format!("input `{input}` is known when {of} has run"),
                    None => format!("input `{input}` is not known yet"),
                }),
            };
            let (node, role, is) = (node.clone(), name.clone(), role.role.clone());
            let changed = changed(&item.causes).into_iter().map(str::to_owned).collect();
            all.push(Foretold { node, role, is, changed, inputs });
        }
    }
    all
}

/// Who has to run before the input is known.
fn after<'c>(causes: &'c [Cause], name: &str) -> Option<&'c str> {
    causes.iter().find_map(|cause| match cause {
        Cause::Below { input, of } if input == name => Some(of.as_str()),
        Cause::Input { input, to: None, by, .. } if input == name => Some(by.as_str()),
        _ => None,
    })
}
