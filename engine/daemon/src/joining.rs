//! Free nodes that come to match a selection join the deployment that wants it so.
//!
//! That a node is to be looked at is in its row until somebody has; two engines that look at once plan the same revision, of which one
//! is committed. A deployment has one revision at a time, with all that match by then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine_core::compile::bind::selects;
use engine_core::document::{BindNodes, DeploymentDoc};
use engine_core::graph::NodeName;
use engine_core::id::DeploymentId;
use engine_core::view::{Refusal, RefusalKind};
use engine_store::StoreError;
use engine_store::joining::{self, Free, Joined};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::control::joining::{BY, Joining};
use crate::hints::{self, Woken};
use crate::shared::Shared;

/// Nodes that are looked at together.
const BATCH: i64 = 500;
/// Not more often than this.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) async fn watch(control: Control, stop: CancellationToken) {
    let shared = control.shared();
    let mut hints = shared.hints.subscribe();
    hints.mark_changed();
    while hints::wait(&mut hints, shared.poll, &stop).await == Woken::Look {
        hints.mark_unchanged();
        let began = Instant::now();
        let again = match stop.run_until_cancelled(round(&control, &shared)).await {
            None => return,
            Some(Ok(true)) => began + PAUSE,
            Some(Ok(false)) => hints::not_before(PAUSE, began),
            Some(Err(error)) => {
                tracing::debug!(%error, code = error.code(), "free nodes can not be looked at");
                hints::not_before(PAUSE, began)
            }
        };
        stop.run_until_cancelled(sleep_until(again)).await;
    }
}

/// Looks at all free nodes that are to be looked at; whether some joined.
async fn round(control: &Control, shared: &Arc<Shared>) -> Result<bool, StoreError> {
    let (mut after, mut joined) = (NodeName::new(), false);
    loop {
        let nodes = joining::free(&shared.pool, &after, BATCH).await?;
        let Some(last) = nodes.last() else { return Ok(joined) };
        after.clone_from(&last.name);
        let mut looked = Looked { free: nodes.iter().collect(), ..Looked::default() };
        // As they are now: the nodes before may have joined.
        for deployment in joining::deployments(&shared.pool).await? {
            looked.join(control, &deployment).await;
        }
        let over: Vec<&Free> = nodes.iter().filter(|node| !looked.later.contains(&node.name)).collect();
        joining::looked(&shared.pool, &over, BY, &looked.refused).await?;
        joined |= looked.free.len() < nodes.len();
    }
}

/// What has come of looking at some nodes so far.
#[derive(Default)]
struct Looked<'n> {
    /// They have not joined.
    free: Vec<&'n Free>,
    /// To be looked at again.
    later: BTreeSet<NodeName>,
    /// Deployments that can not take some, and why.
    refused: Vec<(DeploymentId, Value)>,
}

impl Looked<'_> {
    /// Lets those that a deployment wants join it. Whoever is not taken may join the next.
    async fn join(&mut self, control: &Control, deployment: &Joined) {
        let selections = selections(&deployment.document);
        let matches =
            |node: &&&Free| selections.iter().any(|one| selects(one, &node.name, &node.known).unwrap_or(false));
        let names: BTreeSet<NodeName> = self.free.iter().filter(matches).map(|node| node.name.clone()).collect();
        if names.is_empty() {
            return;
        }
        match control.join(deployment, &names).await {
            Ok(Joining::Done(revision, names)) => {
                self.free.retain(|node| !names.contains(&node.name));
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                tracing::info!(deployment = deployment.name, revision, nodes = names.join(", "), "nodes join");
            }
            Ok(Joining::Nothing) => {}
            Ok(Joining::Later) => self.later.extend(names),
            Err(refusal) if refusal.kind == RefusalKind::Unavailable => self.later.extend(names),
            Err(refusal) => {
                let why = said(&refusal);
                tracing::warn!(deployment = deployment.name, code = refusal.code, "nodes can not join: {why}");
                self.refused.push((deployment.id, json!({"nodes": names, "code": refusal.code, "message": why})));
            }
        }
    }
}

/// The selections of a document whose nodes join by themselves.
fn selections(document: &Value) -> Vec<String> {
    let Ok(document) = serde_json::from_value::<DeploymentDoc>(document.clone()) else { return Vec::new() };
    let joined = document.nodes.into_values().filter_map(|nodes| match nodes {
        BindNodes::Select(select) if select.join => Some(select.select),
        _ => None,
    });
    joined.collect()
}

fn said(refusal: &Refusal) -> String {
    let findings = refusal.diagnostics.iter().filter(|finding| finding.is_error());
    let findings: Vec<&str> = findings.map(|finding| finding.message.as_str()).collect();
    if findings.is_empty() { refusal.message.clone() } else { findings.join("; ") }
}
