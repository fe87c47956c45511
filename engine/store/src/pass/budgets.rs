//! What nodes hold of budgets: loaded with every neighbourhood, written with every turn.
//!
//! Of deployments that share a budget one at a time decides: a turn holds the row that says what it allows until its end.

use std::collections::BTreeMap;

use engine_core::document::setting::BudgetDoc;
use engine_core::graph::Graph;
use engine_core::id::{NodeId, VertexId};
use engine_core::settle::allowance::{Allowance, Count, Shared, Token};
use sqlx::types::Json;
use uuid::Uuid;

use super::Locked;
use crate::StoreError;
use crate::error::doing;

impl Locked {
    /// The budgets of a graph at the moment. Their size is that of the nodes that are out of service.
    pub(crate) async fn budgets(&mut self, graph: &Graph) -> Result<BTreeMap<String, Allowance>, StoreError> {
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
        let broken = sqlx::query!(
            "select v.node_id, v.role from drift f join vertex v using (vertex_id)
             where f.deployment_id = $1 and f.failing is not null and f.failing = v.attempts and v.serving and not v.gone
                   and v.goal = 'present'",
            self.id.0
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(&failed)?;
        for row in &broken {
            let of = graph.roles.get(&row.role).into_iter().flat_map(|role| &role.disrupts);
            for name in of.filter(|name| graph.budgets.contains_key(*name)) {
                budgets.entry(name.clone()).or_default().failing.insert(NodeId(row.node_id));
            }
        }
        self.shared(graph, &mut budgets).await?;
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

    /// Holds the budgets of all deployments that are in a graph until the end of the transaction. Whoever writes what counts of them, or
    /// what others import, holds them first, and no other deployment after: so nobody waits in a circle.
    pub(crate) async fn hold_budgets(&mut self, graph: &Graph) -> Result<(), StoreError> {
        if graph.budgets.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = graph.budgets.keys().map(String::as_str).collect();
        sqlx::query!(
            "select name from setting where kind = 'budget' and name = any($1) order by name for no key update",
            &names as &[&str]
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(doing("holding budgets of all deployments"))?;
        Ok(())
    }

    /// The same for a turn, which does not wait. `false`: somebody else holds one of them.
    pub async fn hold_if_free(&mut self, graph: &Graph) -> Result<bool, StoreError> {
        if graph.budgets.is_empty() {
            return Ok(true);
        }
        let names: Vec<&str> = graph.budgets.keys().map(String::as_str).collect();
        sqlx::query_scalar!(
            r#"with held as (
                   select name from setting where kind = 'budget' and name = any($1) order by name
                   for no key update skip locked)
               select (select count(*) from held) = (select count(*) from setting where kind = 'budget' and name = any($1)) as "all!""#,
            &names as &[&str]
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(doing("holding budgets of all deployments"))
    }

    /// What counts elsewhere of the budgets that are shared, held so until the end of the transaction; and what others were told.
    async fn shared(&mut self, graph: &Graph, budgets: &mut BTreeMap<String, Allowance>) -> Result<(), StoreError> {
        let failed = doing("loading budgets of all deployments");
        let names: Vec<&str> = graph.budgets.keys().map(String::as_str).collect();
        let shared = sqlx::query!(
            r#"select name, document as "document: Json<BudgetDoc>" from setting
               where kind = 'budget' and name = any($1) order by name for no key update"#,
            &names as &[&str]
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(&failed)?;
        let asked: Vec<&str> = shared.iter().map(|row| row.name.as_str()).collect();
        let counts = sqlx::query!(
            r#"select o.budget, o.deployment_id = $1 as "own!", sum(o.members)::bigint as "members!",
                      sum(o.unavailable)::bigint as "unavailable!", sum(o.failed)::bigint as "failed!"
               from outage o join deployment d using (deployment_id)
               where o.deployment_id = $1 or (o.budget = any($2) and d.state <> 'gone') group by 1, 2"#,
            self.id.0,
            &asked as &[&str]
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(&failed)?;
        for row in shared {
            let shared = Shared { budget: row.document.0.budget(), elsewhere: Count::default() };
            budgets.entry(row.name).or_default().shared = Some(shared);
        }
        let number = |count: i64| usize::try_from(count).unwrap_or(0);
        for row in counts {
            let count = Count {
                members: number(row.members),
                unavailable: number(row.unavailable),
                failed: number(row.failed),
            };
            match budgets.entry(row.budget).or_default() {
                allowance if row.own => allowance.told = count,
                allowance => {
                    if let Some(shared) = &mut allowance.shared {
                        shared.elsewhere = count;
                    }
                }
            }
        }
        budgets.retain(|name, _| graph.budgets.contains_key(name));
        Ok(())
    }

    /// Tells others what counts of budgets here.
    pub(crate) async fn write_counts(
        &mut self,
        counts: &BTreeMap<String, Count>,
        lets_go: bool,
    ) -> Result<(), StoreError> {
        if counts.is_empty() {
            return Ok(());
        }
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        sqlx::query!(
            "insert into outage (deployment_id, budget, members, unavailable, failed, counted)
             select $1, u.budget, u.members, u.unavailable, u.failed, true
             from unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[]) as u(budget, members, unavailable, failed)
             on conflict (deployment_id, budget)
             do update set members = excluded.members, unavailable = excluded.unavailable, failed = excluded.failed,
                           counted = true",
            self.id.0,
            &counts.keys().map(String::as_str).collect::<Vec<_>>() as &[&str],
            &counts.values().map(|count| number(count.members)).collect::<Vec<_>>(),
            &counts.values().map(|count| number(count.unavailable)).collect::<Vec<_>>(),
            &counts.values().map(|count| number(count.failed)).collect::<Vec<_>>()
        )
        .execute(&mut *self.tx)
        .await
        .map_err(doing("writing what counts of budgets"))?;
        if lets_go { self.notify_work().await } else { Ok(()) }
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
