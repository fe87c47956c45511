//! Nodes come: made by their provider, logged in to for the first time, and known by their facts.

use engine_agent::protocol::Facts;
use engine_core::document::Object;
use engine_provider::NodeRequest;
use engine_remote::{Joined, RemoteError, Target};
use engine_store::nodes::{Change, Node};
use serde_json::{Value, json};

use super::{look, provider, trouble};
use crate::rules;
use crate::shared::Shared;

pub(super) async fn create(shared: &Shared, node: &Node) -> (Change, bool) {
    let provider = match provider(shared, node) {
        Ok(provider) => provider,
        Err(change) => return (*change, false),
    };
    let request = NodeRequest {
        name: node.name.clone(),
        authorized_keys: vec![shared.key.public_line()],
        with: node.options.clone(),
    };
    match provider.create(&request).await {
        Ok(access) => {
            let mut facts = node.facts.clone();
            facts.extend(access.facts);
            let change = Change {
                state: "joining",
                access: Some((access.address, access.port, access.user)),
                host_keys: Some(access.host_keys),
                facts: Some(facts),
                ..Change::default()
            };
            (change, true)
        }
        Err(error) => (trouble("creating", node, error.code(), error.to_string(), error.is_transient()), false),
    }
}

pub(super) async fn join(shared: &Shared, node: &Node) -> Change {
    let Some(target) = shared.target(node) else {
        return trouble("creating", node, "node-unknown", format!("node {} has no address", node.name), true);
    };
    let state = if node.state == "unreachable" { "unreachable" } else { "joining" };
    if node.provider == "simulated" {
        if let Err((code, reason)) = look::simulated_answers(shared, node).await {
            return trouble(state, node, code, reason, true);
        }
        let mut facts = node.facts.clone();
        name_facts(&mut facts, node, &target);
        return Change {
            state: "up",
            ruled: rules::at_first(shared, node, &facts),
            facts: Some(facts),
            ..Change::default()
        };
    }
    match first_contact(shared, node, &target).await {
        Ok(joined) => {
            let mut facts = node.facts.clone();
            facts.extend(facts_of(&joined.facts));
            name_facts(&mut facts, node, &target);
            Change {
                state: "up",
                host_keys: Some(vec![joined.host_key]),
                machine_id: Some(joined.facts.machine_id.clone()),
                incarnation: Some(joined.incarnation),
                ruled: rules::at_first(shared, node, &facts),
                facts: Some(facts),
                ..Change::default()
            }
        }
        Err(error) => trouble(state, node, error.code(), error.to_string(), error.is_transient()),
    }
}

/// Logs in, by the person's key if the deploy key is not there yet, which it is afterwards.
async fn first_contact(shared: &Shared, node: &Node, target: &Target) -> Result<Joined, RemoteError> {
    let joined = shared.remote.facts(target).await?;
    if node.owned {
        return Ok(joined);
    }
    match shared.remote.admit(target, true).await {
        Ok(()) => {
            let first = shared.first_key(&node.name);
            if first.exists()
                && let Err(error) = std::fs::remove_file(&first)
            {
                tracing::warn!(%error, file = %first.display(), "cannot remove the key of the first login");
            }
        }
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => {
            tracing::warn!(node = node.name, %error, "no deploy key; the key of the first login is kept");
        }
    }
    Ok(joined)
}

fn facts_of(facts: &Facts) -> Object {
    let mut all = match &facts.more {
        Value::Object(more) => more.clone(),
        _ => Object::new(),
    };
    let known = json!({
        "hostname": facts.hostname, "os": facts.os.id, "os_family": facts.os.family, "os_version": facts.os.version,
        "arch": facts.arch, "cpus": facts.cpus, "memory": facts.memory, "kernel": facts.kernel,
        "machine_id": facts.machine_id,
    });
    if let Value::Object(known) = known {
        all.extend(known);
    }
    all
}

fn name_facts(facts: &mut Object, node: &Node, target: &Target) {
    facts.insert("name".to_owned(), json!(node.name));
    facts.insert("address".to_owned(), json!(target.address));
    facts.insert("port".to_owned(), json!(target.port));
}
