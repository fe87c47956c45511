//! Hosts that exist before we come.

use engine_core::document::Object;
use engine_core::id::NodeId;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::event;
use crate::StoreError;
use crate::error::doing;
use crate::pass::{EVENTS, WORK};

/// An adopted host, to be entered.
#[derive(Clone, Debug)]
pub struct Adopted {
    /// Its name.
    pub name: String,
    /// Options for its provider.
    pub options: Object,
    /// Where it answers.
    pub access: (String, u16, String),
    /// Host keys known beforehand.
    pub host_keys: Vec<String>,
    /// Labels.
    pub labels: Object,
}

/// What stands in the way of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The name is that of another node.
    Name(String),
    /// The address and port are those of another node; its name.
    Address(String, String),
}

/// Enters adopted hosts, all or none.
pub async fn adopt(
    pool: &PgPool,
    provider: &str,
    hosts: &[Adopted],
    by: &str,
) -> Result<Result<(), Taken>, StoreError> {
    let failed = doing("entering nodes");
    let mut tx = pool.begin().await.map_err(&failed)?;
    for host in hosts {
        let (address, port, user) = &host.access;
        let id = Uuid::now_v7();
        let done = sqlx::query!(
            "insert into node (node_id, name, provider, options, state, address, port, ssh_user, host_keys, labels,
                               created_at, changed_at)
             values ($1, $2, $3, $4, 'joining', $5, $6, $7, $8, $9, now(), now()) on conflict do nothing",
            id,
            host.name,
            provider,
            json!(host.options),
            address,
            i32::from(*port),
            user,
            json!(host.host_keys),
            json!(host.labels)
        )
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        if done.rows_affected() == 0 {
            let other = sqlx::query!(
                "select name, name = $1 as \"same_name!\" from node
                 where state not in ('gone', 'virtual') and (name = $1 or (address = $2 and port = $3))
                 order by name = $1 desc limit 1",
                host.name,
                address,
                i32::from(*port)
            )
            .fetch_optional(&mut *tx)
            .await
            .map_err(&failed)?;
            return Ok(Err(match other {
                Some(other) if !other.same_name => Taken::Address(host.name.clone(), other.name),
                _ => Taken::Name(host.name.clone()),
            }));
        }
        let detail = json!({"node": host.name, "to": "joining", "address": address, "port": port});
        event(&mut tx, "node.joining", None, NodeId(id), by, detail).await?;
    }
    for channel in [EVENTS, WORK] {
        sqlx::query!("select pg_notify($1, '')", channel).execute(&mut *tx).await.map_err(&failed)?;
    }
    tx.commit().await.map_err(&failed)?;
    Ok(Ok(()))
}
