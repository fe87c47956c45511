//! Profiles, policies, rules and budgets.

use engine_core::document::setting::SettingKind;
use serde_json::{Value, json};
use sqlx::{PgExecutor, PgPool};
use time::OffsetDateTime;

use crate::StoreError;
use crate::error::doing;
use crate::events;
use crate::outages;
use crate::pass::WORK;

/// A profile, a policy, a rule or a budget.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// The document.
    pub document: Value,
    /// Who set it last.
    pub by: String,
    /// When.
    pub at: OffsetDateTime,
}

/// All of a kind, by name.
pub async fn all(pool: &PgPool, kind: SettingKind) -> Result<Vec<Setting>, StoreError> {
    sqlx::query_as!(
        Setting,
        r#"select name, document, set_by as "by", set_at as "at" from setting where kind = $1 order by name"#,
        kind.as_str()
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading profiles, policies, rules or budgets"))
}

/// Sets some, all or none; returns those that are otherwise than before, by their places in `settings`. After a change of rules
/// all nodes are gone through again.
pub async fn put(pool: &PgPool, settings: &[(SettingKind, String, Value)], by: &str) -> Result<Vec<usize>, StoreError> {
    let failed = doing("setting profiles, policies, rules or budgets");
    let mut tx = pool.begin().await.map_err(&failed)?;
    let mut changed = Vec::new();
    // In one order, as turns hold budgets.
    let mut order: Vec<_> = settings.iter().enumerate().collect();
    order.sort_by_key(|(_, (kind, name, _))| (*kind, name.as_str()));
    for (place, (kind, name, document)) in order {
        let done = sqlx::query!(
            "insert into setting (kind, name, document, set_by, set_at) values ($1, $2, $3, $4, now())
             on conflict (kind, name) do update set document = excluded.document, set_by = excluded.set_by,
                 set_at = excluded.set_at where setting.document <> excluded.document",
            kind.as_str(),
            name,
            document,
            by
        )
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        if done.rows_affected() > 0 {
            changed.push(place);
            if *kind == SettingKind::Budget {
                outages::count_everywhere(&mut tx, name).await?;
            }
            event(&mut tx, *kind, "set", name, by).await?;
        }
    }
    if changed.iter().any(|place| settings[*place].0 == SettingKind::Rule) {
        all_to_rule(&mut tx).await?;
    }
    // Who waits for a budget may not have to any more.
    tell(&mut tx).await?;
    tx.commit().await.map_err(&failed)?;
    changed.sort_unstable();
    Ok(changed)
}

/// What came of removing one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Done,
    /// There was none.
    Unknown,
    /// These deployments list it.
    InUse(Vec<String>),
}

/// Removes one that no deployment lists.
pub async fn remove(pool: &PgPool, kind: SettingKind, name: &str, by: &str) -> Result<Removed, StoreError> {
    let failed = doing("removing a profile, a policy, a rule or a budget");
    let mut tx = pool.begin().await.map_err(&failed)?;
    if kind == SettingKind::Profile {
        let users = listing(&mut *tx, name).await?;
        if !users.is_empty() {
            return Ok(Removed::InUse(users));
        }
    }
    let done = sqlx::query!("delete from setting where kind = $1 and name = $2", kind.as_str(), name)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
    if done.rows_affected() == 0 {
        return Ok(Removed::Unknown);
    }
    event(&mut tx, kind, "removed", name, by).await?;
    if kind == SettingKind::Rule {
        all_to_rule(&mut tx).await?;
    }
    tell(&mut tx).await?;
    tx.commit().await.map_err(&failed)?;
    Ok(Removed::Done)
}

/// Deployments whose committed document lists a profile.
pub async fn listing(executor: impl PgExecutor<'_>, profile: &str) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar!(
        "select d.name from deployment d join revision r on r.deployment_id = d.deployment_id and r.number = d.revision
         where d.state = 'active' and r.document->'profiles' ? $1 order by d.name",
        profile
    )
    .fetch_all(executor)
    .await
    .map_err(doing("looking for who lists a profile"))
}

async fn event(
    connection: &mut sqlx::PgConnection,
    kind: SettingKind,
    what: &str,
    name: &str,
    by: &str,
) -> Result<(), StoreError> {
    events::write(connection, &format!("{}.{what}", kind.as_str()), by, json!({ kind.as_str(): name })).await
}

async fn all_to_rule(connection: &mut sqlx::PgConnection) -> Result<(), StoreError> {
    let failed = doing("letting rules go through all nodes");
    sqlx::query!("with all_nodes as (
             select node_id from node where not to_rule and state not in ('virtual', 'gone') order by node_id for update)
         update node n set to_rule = true from all_nodes a where n.node_id = a.node_id")
        .execute(connection)
        .await
        .map_err(&failed)?;
    Ok(())
}

async fn tell(connection: &mut sqlx::PgConnection) -> Result<(), StoreError> {
    let failed = doing("telling of profiles, policies, rules or budgets");
    sqlx::query!("select pg_notify($1, '')", WORK).execute(connection).await.map_err(&failed)?;
    Ok(())
}
