//! Secret values: sealed, by the digests that stand for them everywhere else ([`engine_core::secret`]).

use std::collections::BTreeSet;

use engine_core::document::Object;
use engine_core::graph::{Executor, GraphRole};
use engine_core::id::{DeploymentId, VertexId};
use engine_core::secret::{Clear, DigestKey};
use serde_json::Value;
use sqlx::{PgExecutor, PgPool};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::StoreError;
use crate::error::doing;
use crate::pass::{self, Revisions};
use crate::seal::{Place, SealError, Sealed, Sealer};

/// Values on their way to the database: digest and what is sealed.
pub type Kept = Vec<(String, Vec<u8>)>;

const DIGEST_KEY: Place<'static> = Place { table: "digest_key", row: "one", column: "key" };

fn place(digest: &str) -> Place<'_> {
    Place { table: "secret", row: digest, column: "value" }
}

/// The key of digests; made when it is first asked for.
pub async fn digest_key(pool: &PgPool, sealer: &Sealer) -> Result<DigestKey, StoreError> {
    let fresh = Zeroizing::new(rand::random::<[u8; 32]>());
    let sealed = sealer.seal(&DIGEST_KEY, fresh.as_slice());
    let failed = doing("reading the key of digests");
    sqlx::query!("insert into digest_key (key) values ($1) on conflict do nothing", sealed.bytes())
        .execute(pool)
        .await
        .map_err(&failed)?;
    let kept = sqlx::query_scalar!("select key from digest_key").fetch_one(pool).await.map_err(&failed)?;
    let clear = sealer.open(&DIGEST_KEY, &Sealed::stored(kept))?;
    let key = clear.as_slice().try_into().map_err(|_| SealError::Damaged { place: "digest_key.key".to_owned() })?;
    Ok(DigestKey::new(key))
}

/// Values as they are kept.
pub fn sealed(sealer: &Sealer, clear: &Clear) -> Kept {
    let seal = |(digest, value): (&String, &Value)| {
        let text = Zeroizing::new(value.to_string());
        (digest.clone(), sealer.seal(&place(digest), text.as_bytes()).bytes().to_vec())
    };
    clear.iter().map(seal).collect()
}

/// Keeps values for a deployment; what it has already stays as it is.
pub async fn keep(executor: impl PgExecutor<'_>, deployment: DeploymentId, kept: &Kept) -> Result<(), StoreError> {
    if kept.is_empty() {
        return Ok(());
    }
    let (digests, values): (Vec<String>, Vec<Vec<u8>>) = kept.iter().cloned().unzip();
    sqlx::query!(
        "insert into secret (deployment_id, digest, value, made_at)
         select $1, u.digest, u.value, now() from unnest($2::text[], $3::bytea[]) as u(digest, value)
         on conflict do nothing",
        deployment.0,
        &digests,
        &values
    )
    .execute(executor)
    .await
    .map_err(doing("keeping secrets"))?;
    Ok(())
}

/// The values of digests, of any deployment or of the one of this name; those that are not there are left out.
pub async fn open(
    pool: &PgPool,
    sealer: &Sealer,
    digests: &BTreeSet<String>,
    within: Option<&str>,
) -> Result<Clear, StoreError> {
    let mut clear = Clear::default();
    if digests.is_empty() {
        return Ok(clear);
    }
    let digests: Vec<String> = digests.iter().cloned().collect();
    let rows = sqlx::query!(
        "select distinct on (digest) digest, value from secret join deployment d using (deployment_id)
         where digest = any($1) and ($2::text is null or d.name = $2)",
        &digests,
        within
    )
    .fetch_all(pool)
    .await
    .map_err(doing("reading secrets"))?;
    for row in rows {
        let text = sealer.open(&place(&row.digest), &Sealed::stored(row.value))?;
        let value =
            serde_json::from_slice(&text).map_err(|_| SealError::Damaged { place: "secret.value".to_owned() })?;
        clear.insert(row.digest, value);
    }
    Ok(clear)
}

/// What came of asking for another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewing {
    /// It is made.
    Done,
    /// There is no such role, or it makes no secrets.
    Unknown,
    /// It runs, waits or leaves at the moment.
    NotAtRest,
}

/// Lets a role that makes a secret make another one.
pub async fn renew(
    pool: &PgPool,
    deployment: &str,
    role: &str,
    driver: &str,
    known: &Revisions,
) -> Result<Renewing, StoreError> {
    let failed = doing("renewing a secret");
    let id =
        sqlx::query_scalar!("select deployment_id from deployment where name = $1 and state = 'active'", deployment)
            .fetch_optional(pool)
            .await
            .map_err(&failed)?;
    let Some(id) = id else { return Ok(Renewing::Unknown) };
    let Some(mut locked) = pass::lock(pool, DeploymentId(id)).await? else { return Ok(Renewing::Unknown) };
    let revision = locked.revision(known).await?;
    let makes = |role: &GraphRole| role.executor == Executor::Driver(driver.to_owned());
    if !revision.graph.roles.get(role).is_some_and(makes) {
        locked.roll_back().await?;
        return Ok(Renewing::Unknown);
    }
    let asked = sqlx::query!(
        "update vertex set renew_at = now() where deployment_id = $1 and role = $2 and state = 'active' and goal = 'present'",
        id,
        role
    )
    .execute(&mut *locked.tx)
    .await
    .map_err(&failed)?;
    if asked.rows_affected() == 0 {
        locked.roll_back().await?;
        return Ok(Renewing::NotAtRest);
    }
    locked.commit().await?;
    Ok(Renewing::Done)
}

/// What a vertex told when it last succeeded.
#[derive(Clone, Debug)]
pub struct Before {
    /// What it was made from.
    pub inputs: Object,
    /// What it told.
    pub outputs: Object,
    /// When it is to be made anew.
    pub renew_at: Option<OffsetDateTime>,
}

/// What a vertex told when it last succeeded; `None` if it never did.
pub async fn before(pool: &PgPool, vertex: VertexId) -> Result<Option<Before>, StoreError> {
    let row = sqlx::query!(
        "select j.inputs, v.outputs, v.renew_at
         from vertex v join lateral (
             select inputs from job where vertex_id = v.vertex_id and action = 'apply' and outcome = 'succeeded'
             order by claimed_at desc limit 1
         ) j on true
         where v.vertex_id = $1",
        vertex.0
    )
    .fetch_optional(pool)
    .await
    .map_err(doing("reading what was told before"))?;
    let object = |value| match value {
        Value::Object(object) => object,
        _ => Object::new(),
    };
    Ok(row.map(|row| Before { inputs: object(row.inputs), outputs: object(row.outputs), renew_at: row.renew_at }))
}
