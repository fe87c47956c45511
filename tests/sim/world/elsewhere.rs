//! Other deployments that share budgets with this one: what counts there changes at any time, and turns see it as the store shows it.

use std::collections::BTreeMap;

use engine_core::budget::limit;
use engine_core::document::Budget;
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::Cause;
use engine_core::settle::allowance::{Count, Shared, Token};
use serde_json::json;

use super::World;

impl World {
    /// Somebody sets budgets of all deployments, or takes them away; nodes of others go out of service and come back.
    pub(crate) fn move_others(&mut self) {
        let names: Vec<String> = self.graph.budgets.keys().cloned().collect();
        for name in names {
            if self.dice.chance(20) {
                self.elsewhere.remove(&name);
                continue;
            }
            let failed = usize::from(self.dice.chance(25));
            let elsewhere = Count { members: 4, unavailable: failed + self.dice.below(3), failed };
            let max_unavailable = json!(1 + self.dice.below(4));
            let failures = u32::try_from(self.dice.below(2)).expect("few");
            let budget = Budget { max_unavailable, failures, quorum: false };
            self.elsewhere.insert(name, Shared { budget, elsewhere });
        }
    }

    /// All nodes of others serve.
    pub(crate) fn mend_others(&mut self) {
        for shared in self.elsewhere.values_mut() {
            shared.elsewhere = Count::default();
        }
    }

    /// What counts of a budget here, by what is stored.
    pub(super) fn count_here(&self, budget: &str) -> Count {
        self.budgets().get(budget).map(|allowance| allowance.count(&self.graph, budget)).unwrap_or_default()
    }

    /// Others know what counts here.
    pub(crate) fn assert_told(&self) {
        for budget in self.graph.budgets.keys() {
            let told = self.told.get(budget).copied().unwrap_or_default();
            assert_eq!(told, self.count_here(budget), "of {budget}:\n{}", self.table());
        }
    }

    /// Wakes who waits for a budget of all deployments, as the store does it; whether there was anybody.
    pub(super) fn let_go(&mut self) -> bool {
        let budget_of = |cause: &Option<Cause>| match cause {
            Some(Cause::Shared { budget }) => Some(budget.clone()),
            _ => None,
        };
        let mut waiting: BTreeMap<String, Vec<VertexId>> = BTreeMap::new();
        for (id, vertex) in &self.vertices {
            waiting.entry(budget_of(&vertex.cause).unwrap_or_default()).or_default().push(*id);
        }
        waiting.remove("");
        let mut woke = false;
        for (budget, mut all) in waiting {
            all.sort_unstable();
            let room = self.elsewhere.get(&budget).map_or(usize::MAX, |by| by.room(self.count_here(&budget)));
            let (woken, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|id| self.vertices[id].wake);
            for id in rest.into_iter().take(room.saturating_sub(woken.len())) {
                self.kept = None;
                self.vertices.get_mut(&id).expect("a vertex").wake = true;
                woke = true;
            }
        }
        woke
    }

    /// Who took of a budget that others share had room there: all nodes out of service are no more than it allows.
    pub(super) fn assert_room(&self, taken: &[(String, NodeId)]) {
        for (budget, shared) in &self.elsewhere {
            if !taken.iter().any(|(name, _)| name == budget) {
                continue;
            }
            let held: Vec<&Token> =
                self.tokens.iter().filter(|((name, _), _)| name == budget).map(|(_, token)| token).collect();
            let failed = held.iter().filter(|token| token.failed).count() + shared.elsewhere.failed;
            let most = limit(&shared.budget, self.count_here(budget).members + shared.elsewhere.members);
            assert!(
                held.len() + shared.elsewhere.unavailable <= most && failed <= shared.budget.failures as usize,
                "of {budget} {} nodes are out of service here and {:?} elsewhere, at most {most} may be:\n{}",
                held.len(),
                shared.elsewhere,
                self.table()
            );
        }
    }
}
