//! What nodes hold of budgets: loaded with every neighbourhood, written with every turn.

use std::collections::BTreeMap;

use engine_core::graph::Graph;
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::allowance::{Allowance, Token};
use uuid::Uuid;

use super::Locked;
use crate::StoreError;
use crate::error::doing;

impl Locked {
    /// The budgets of a graph at the moment. Their size is that of the nodes that are out of service.
    pub(super) async fn budgets(&mut self, graph: &Graph) -> Result<BTreeMap<String, Allowance>, StoreError> {
        let mut budgets: BTreeMap<String, Allowance> = BTreeMap::new();
        if graph.budgets.is_empty() {
            return Ok(budgets);
        }
        let failed = doing("loading budgets");
        let rows =
            sqlx::query!("select budget, node_id, failed, member from token where deployment_id = $1", self.id.0)
                .fetch_all(&mut *self.tx)
                .await
                .map_err(&failed)?;
        for row in rows.into_iter().filter(|row| graph.budgets.contains_key(&row.budget)) {
            let token = Token { failed: row.failed, member: row.member };
            budgets.entry(row.budget).or_default().held.insert(NodeId(row.node_id), token);
        }
        for (name, budget) in &graph.budgets {
            let roles: Vec<String> = graph.disruptors(name).map(|role| role.name.clone()).collect();
            let silent = sqlx::query_scalar!(
                "select n.node_id from node n
                 where n.deployment_id = $1
                       and ((n.state not in ('up', 'virtual', 'gone') or n.standing <> 'in')
                            and exists (select from vertex v where v.node_id = n.node_id and v.deployment_id = $1
                                        and v.role = any($2) and v.serving and not v.gone)
                            or exists (select from vertex v where v.node_id = n.node_id and v.deployment_id = $1
                                        and v.role = any($2) and v.goal = 'present' and v.anew)
                            and (n.state not in ('up', 'virtual')
                                 or exists (select from vertex v where v.node_id = n.node_id and v.deployment_id = $1
                                            and v.state in ('ready', 'running', 'failed'))))",
                self.id.0,
                &roles
            )
            .fetch_all(&mut *self.tx)
            .await
            .map_err(&failed)?;
            let allowance = budgets.entry(name.clone()).or_default();
            allowance.down.extend(silent.into_iter().map(NodeId));
            let founders: Vec<String> =
                graph.founders.get(name).into_iter().flat_map(|founders| founders.nodes.iter().cloned()).collect();
            if !budget.quorum || founders.is_empty() {
                continue;
            }
            let missing = sqlx::query_scalar!(
                "select n.node_id from node n
                 where n.deployment_id = $1 and n.name = any($2) and n.state <> 'gone'
                       and n.generation = 0
                       and exists (select from vertex v where v.node_id = n.node_id and v.deployment_id = $1
                                   and v.role = any($3) and v.state in ('ready', 'running', 'failed'))
                       and not exists (select from vertex v where v.node_id = n.node_id and v.deployment_id = $1
                                       and v.role = any($3) and v.serving and not v.gone)",
                self.id.0,
                &founders,
                &roles
            )
            .fetch_all(&mut *self.tx)
            .await
            .map_err(&failed)?;
            allowance.down.extend(missing.into_iter().map(NodeId));
        }
        Ok(budgets)
    }

    pub(super) async fn write_tokens(
        &mut self,
        tokens: &BTreeMap<(String, NodeId), Option<Token>>,
    ) -> Result<(), StoreError> {
        let failed = doing("writing what nodes hold of budgets");
        for ((budget, node), token) in tokens {
            match token {
                Some(token) => {
                    sqlx::query!(
                        "insert into token (deployment_id, budget, node_id, failed, member) values ($1, $2, $3, $4, $5)
                         on conflict (deployment_id, budget, node_id)
                         do update set failed = excluded.failed, member = excluded.member",
                        self.id.0,
                        budget,
                        node.0,
                        token.failed,
                        token.member
                    )
                    .execute(&mut *self.tx)
                    .await
                }
                None => {
                    sqlx::query!(
                        "delete from token where deployment_id = $1 and budget = $2 and node_id = $3",
                        self.id.0,
                        budget,
                        node.0
                    )
                    .execute(&mut *self.tx)
                    .await
                }
            }
            .map_err(&failed)?;
        }
        Ok(())
    }

    /// Wakes so many of those that wait for a budget: repairs first, then by name of their node.
    pub(super) async fn wake_some(&mut self, free: &BTreeMap<String, usize>) -> Result<Vec<VertexId>, StoreError> {
        let mut all = Vec::new();
        for (cause, count) in free {
            let woken: Vec<Uuid> = sqlx::query_scalar!(
                "select v.vertex_id from vertex v join node n using (node_id)
                 where v.deployment_id = $1 and v.sought = $2 and not v.wake
                 order by v.code is null, n.name, v.role limit $3",
                self.id.0,
                cause,
                i64::try_from(*count).unwrap_or(i64::MAX)
            )
            .fetch_all(&mut *self.tx)
            .await
            .map_err(doing("looking for who waits for a budget"))?;
            if woken.is_empty() {
                continue;
            }
            sqlx::query!("update vertex set wake = true where vertex_id = any($1)", &woken)
                .execute(&mut *self.tx)
                .await
                .map_err(doing("waking who waits for a budget"))?;
            all.extend(woken.into_iter().map(VertexId));
        }
        Ok(all)
    }
}
