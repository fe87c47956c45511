//! Zones and what is in them.

use engine_core::graph::VIRTUAL;
use engine_core::request::Page;
use engine_core::view::{RecordView, ZoneView};
use sqlx::PgPool;
use sqlx::types::Json;

use super::{MOST, failed};
use crate::StoreError;

/// Zones by name.
pub async fn zones(pool: &PgPool) -> Result<Vec<ZoneView>, StoreError> {
    let rows = sqlx::query!(
        r#"select z.name, d.name as deployment, z.ttl, z.generation & 4294967295 as "serial!",
                  (select count(distinct r.name) from record r where r.zone_id = z.zone_id and not r.gone) as "names!"
           from zone z join deployment d using (deployment_id) order by z.name limit $1"#,
        MOST
    )
    .fetch_all(pool)
    .await
    .map_err(failed("reading zones"))?;
    let view = |name, deployment, serial, ttl, names| ZoneView {
        name,
        deployment,
        // As many bits as it has.
        serial: u32::try_from(serial).unwrap_or_default(),
        ttl,
        names,
    };
    Ok(rows.into_iter().map(|row| view(row.name, row.deployment, row.serial, row.ttl, row.names)).collect())
}

/// Names in a part of a list; no name is in two of them.
const NAMES: i64 = 500;

/// Records of a zone after this name, by name; nothing if there is no such zone.
pub async fn records(pool: &PgPool, zone: &str, after: &str) -> Result<Option<Page<RecordView>>, StoreError> {
    let doing = failed("reading records");
    let id = sqlx::query_scalar!("select zone_id from zone where name = $1", zone)
        .fetch_optional(pool)
        .await
        .map_err(&doing)?;
    let Some(id) = id else { return Ok(None) };
    let rows = sqlx::query!(
        r#"select r.name, r.kind, r.data as "data: Json<Vec<String>>", r.ttl, v.role,
                  case when n.state = 'virtual' then $3 else n.name end as "node!"
           from record r join vertex v using (vertex_id) join node n using (node_id)
           where r.zone_id = $1 and not r.gone and r.name > $2
                 and r.name in (select name from record where zone_id = $1 and not gone and name > $2
                                group by name order by name limit $4)
           order by r.name, r.kind"#,
        id,
        after,
        VIRTUAL,
        NAMES
    )
    .fetch_all(pool)
    .await
    .map_err(&doing)?;
    let view =
        |name, kind, data: Json<Vec<String>>, ttl, node_role| RecordView { name, kind, values: data.0, ttl, node_role };
    let address = |node: &str, role: &str| format!("{node}/{role}");
    let items: Vec<RecordView> = rows
        .into_iter()
        .map(|row| view(row.name, row.kind, row.data, row.ttl, address(&row.node, &row.role)))
        .collect();
    let names = items.chunk_by(|one, other| one.name == other.name).count();
    let next = items.last().filter(|_| i64::try_from(names).is_ok_and(|names| names >= NAMES));
    Ok(Some(Page { next: next.map(|last| last.name.clone()), items }))
}
