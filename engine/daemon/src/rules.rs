//! Rules go through nodes whenever something else is known of a node, or other rules are set.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use engine_core::document::Object;
use engine_core::document::setting::{RuleDoc, SettingKind};
use engine_core::rule::{self, Ruled};
use engine_store::nodes::{self, Node, ToRule};
use engine_store::{StoreError, settings};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::hints::{self, Woken};
use crate::shared::Shared;

/// Nodes at once.
const BATCH: i64 = 200;
/// Not more often than this.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut hints = shared.hints.subscribe();
    hints.mark_changed();
    while hints::wait(&mut hints, shared.poll, &stop).await == Woken::Look {
        hints.mark_unchanged();
        let began = Instant::now();
        if let Err(error) = round(&shared).await {
            tracing::debug!(%error, code = error.code(), "rules can not go through nodes");
        }
        stop.run_until_cancelled(sleep_until(hints::not_before(PAUSE, began))).await;
    }
}

async fn round(shared: &Shared) -> Result<(), StoreError> {
    let rules = Arc::new(set(shared).await?);
    *shared.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&rules);
    loop {
        let nodes = nodes::to_rule(&shared.pool, !rules.is_empty(), BATCH).await?;
        let (mut same, mut moved) = (Vec::new(), 0);
        for node in nodes {
            let ruled = rule::labels(&rules, &node.name, &node.known);
            for (rule, reason) in &ruled.problems {
                tracing::warn!(node = node.name, rule, reason, "a rule can not be tried");
            }
            let by = json!(ruled.by);
            if ruled.labels == node.ruled && by == Value::Object(node.by.clone()) {
                same.push(node);
            } else {
                let labels = (&ruled.labels, &by);
                nodes::rule(&shared.pool, &node, labels, &shared.revisions, &who(&node, &ruled)).await?;
                moved += 1;
            }
        }
        if moved > 0 {
            shared.hint();
        }
        if same.is_empty() && moved == 0 {
            return Ok(());
        }
        nodes::are_ruled(&shared.pool, &same).await?;
    }
}

/// Labels of a node that comes with these facts, so that nothing runs there without them: as far as rules are known by now.
pub(crate) fn at_first(shared: &Shared, node: &Node, facts: &Object) -> Option<(Object, Value)> {
    let rules = Arc::clone(&shared.rules.read().unwrap_or_else(PoisonError::into_inner));
    if rules.is_empty() {
        return None;
    }
    let mut known = node.labels.clone();
    known.extend(facts.clone());
    known.insert("generation".to_owned(), json!(0));
    let ruled = rule::labels(&rules, &node.name, &known);
    Some((ruled.labels, json!(ruled.by)))
}

/// The rules that are set, in order.
pub(crate) async fn set(shared: &Shared) -> Result<Vec<RuleDoc>, StoreError> {
    let rules = settings::all(&shared.pool, SettingKind::Rule).await?;
    // They were checked when they were set; one of a later release that says more is passed over.
    let mut rules: Vec<RuleDoc> =
        rules.into_iter().filter_map(|rule| serde_json::from_value(rule.document).ok()).collect();
    rule::sort(&mut rules);
    Ok(rules)
}

/// Labels that come out otherwise than they are, or are gone.
pub(crate) fn changes(node: &ToRule, ruled: &Ruled) -> Vec<String> {
    engine_core::document::differing(&node.ruled, &ruled.labels).into_iter().collect()
}

/// In whose name labels are set: of the rules whose labels change.
fn who(node: &ToRule, ruled: &Ruled) -> String {
    let mut rules: Vec<&str> = Vec::new();
    for label in changes(node, ruled) {
        let rule = ruled.by.get(&label).map(String::as_str).or_else(|| node.by.get(&label).and_then(Value::as_str));
        rules.extend(rule.filter(|rule| !rules.contains(rule)));
    }
    match rules.as_slice() {
        [] => "rules".to_owned(),
        [one] => format!("rule {one}"),
        all => format!("rules {}", all.join(", ")),
    }
}
