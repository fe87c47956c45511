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
            // Found by those that are down or made anew, not by looking at all.
            let silent = sqlx::query_scalar!(
                r#"select n.node_id as "node_id!" from node n
                   where n.deployment_id = $1 and (n.state not in ('up', 'virtual', 'gone') or n.standing <> 'in')
                         and exists (select from vertex v where v.node_id = n.node_id and v.deployment_id = $1
                                     and v.role = any($2) and v.serving and not v.gone)
                   union
                   select v.node_id from vertex v join node n using (node_id)
                   where v.deployment_id = $1 and v.anew and v.role = any($2) and v.goal = 'present' and not v.gone
                         and (n.state not in ('up', 'virtual')
                              or exists (select from vertex o where o.node_id = v.node_id and o.deployment_id = $1
                                         and o.state in ('ready', 'running', 'failed')))"#,
                self.id.0,
                &roles
            )
            .fetch_all(&mut *self.tx)
            .await
            .map_err(&failed)?;
            let allowance = budgets.entry(name.clone()).or_default();
            allowance.down.extend(silent.into_iter().map(NodeId));
            let Some(founders) =
                graph.founders.get(name).filter(|founders| budget.quorum && !founders.nodes.is_empty())
            else {
                continue;
            };
            let founding: Vec<String> = roles.iter().filter(|role| founders.roles.contains(*role)).cloned().collect();
            let names: Vec<String> = founders.nodes.iter().cloned().collect();
            let missing = sqlx::query_scalar!(
                "select distinct v.node_id from vertex v join node n using (node_id)
                 where v.deployment_id = $1 and v.role = any($2) and not v.gone and not v.serving
                       and v.state in ('ready', 'running', 'failed') and n.name = any($3) and n.generation = 0
                       and not exists (select from vertex o where o.node_id = v.node_id and o.deployment_id = $1
                                       and o.role = any($4) and o.serving and not o.gone)",
                self.id.0,
                &founding,
                &names,
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
        if tokens.is_empty() {
            return Ok(());
        }
        let failed = doing("writing what nodes hold of budgets");
        let (mut taken, mut given) = (Vec::new(), (Vec::new(), Vec::new()));
        for ((budget, node), token) in tokens {
            match token {
                Some(token) => taken.push((budget.as_str(), node.0, token)),
                None => {
                    given.0.push(budget.as_str());
                    given.1.push(node.0);
                }
            }
        }
        sqlx::query!(
            "insert into token (deployment_id, budget, node_id, failed, member)
             select $1, * from unnest($2::text[], $3::uuid[], $4::bool[], $5::bool[])
             on conflict (deployment_id, budget, node_id)
             do update set failed = excluded.failed, member = excluded.member",
            self.id.0,
            &taken.iter().map(|(budget, ..)| *budget).collect::<Vec<_>>() as &[&str],
            &taken.iter().map(|(_, node, _)| *node).collect::<Vec<_>>(),
            &taken.iter().map(|(.., token)| token.failed).collect::<Vec<_>>(),
            &taken.iter().map(|(.., token)| token.member).collect::<Vec<_>>()
        )
        .execute(&mut *self.tx)
        .await
        .map_err(&failed)?;
        sqlx::query!(
            "delete from token t using unnest($2::text[], $3::uuid[]) as g(budget, node_id)
             where t.deployment_id = $1 and t.budget = g.budget and t.node_id = g.node_id",
            self.id.0,
            &given.0 as &[&str],
            &given.1
        )
        .execute(&mut *self.tx)
        .await
        .map_err(&failed)?;
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
