//! Figures of everything, for whoever draws curves of them. What is read grows with deployments and their roles, with nodes, and
//! with what moves at this moment; never with node roles. Only [`held`] does, and is to be asked seldom.

use engine_core::view::DeploymentView;
use sqlx::PgPool;
use time::OffsetDateTime;

use super::{MOST, deployments, failed, moment};
use crate::StoreError;

/// Figures of a database at one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// All deployments that are not gone.
    pub deployments: Vec<DeploymentView>,
    /// Nodes that are not gone, by state and standing.
    pub nodes: Vec<(String, String, i64)>,
    /// Generations of authorities that are trusted.
    pub authorities: Vec<AuthorityFigures>,
    /// Zones, by name: their generation.
    pub zones: Vec<(String, i64)>,
    /// What waits, and for what.
    pub waiting: Waiting,
    /// Jobs that somebody follows.
    pub jobs: i64,
    /// Node roles whose last check found something else than was left there.
    pub drifted: i64,
    /// Engines whose lease holds.
    pub engines: i64,
    /// When the first lease of them ends.
    pub lease_until: Option<OffsetDateTime>,
    /// Number of the last event.
    pub events: i64,
    /// Transactions of this database that were committed.
    pub commits: i64,
    /// Flushes of the write-ahead log, and bytes written to it.
    pub wal: [i64; 2],
}

/// Queues, each with how many stand in it.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Vertices that are to be judged.
    pub woken: i64,
    /// Nodes that are to be created, joined, looked for or taken away.
    pub nodes: i64,
    /// Jobs that wait for something outside.
    pub put_away: i64,
    /// Checks that are asked for.
    pub checks: i64,
    /// Node roles that failed and are tried again by themselves.
    pub retries: i64,
    /// Node roles whose time to be made anew has come.
    pub renewals: i64,
}

/// A generation of an authority.
#[derive(Clone, Debug)]
pub struct AuthorityFigures {
    /// Of the deployment.
    pub deployment: String,
    /// Its deployment role.
    pub role: String,
    /// From 1.
    pub generation: i32,
    /// `introduced`, `active` or `retiring`.
    pub state: String,
    /// Its end.
    pub not_after: OffsetDateTime,
    /// How many certificates it has signed.
    pub issued: i64,
}

/// What nodes hold of an authority: the newest certificate of each node role that has one signed.
#[derive(Clone, Debug)]
pub struct HeldFigures {
    /// Of the deployment.
    pub deployment: String,
    /// The deployment role of the authority.
    pub role: String,
    /// In force.
    pub in_force: i64,
    /// In force, and not renewed although the time for that has come.
    pub overdue: i64,
    /// Ended or revoked.
    pub ended: i64,
    /// The next end of one in force.
    pub next_end: Option<OffsetDateTime>,
}

/// All figures, at one moment.
pub async fn figures(pool: &PgPool) -> Result<Figures, StoreError> {
    let doing = failed("reading figures");
    let mut tx = moment(pool).await?;
    let deployments = deployments::all(&mut tx).await?;
    // Those that are up are counted by an index that has nothing else of them.
    let nodes = sqlx::query!(
        r#"with down as (
               select state, standing, count(*) as count from node
               where (state not in ('up', 'virtual', 'gone') or standing <> 'in') and state not in ('virtual', 'gone')
               group by state, standing)
           select state as "state!", standing as "standing!", count as "count!" from down
           union all
           select 'up', 'in', (select count(*) from node where state not in ('gone', 'virtual'))
                              - (select coalesce(sum(count), 0)::bigint from down)"#
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(&doing)?;
    let authorities = sqlx::query_as!(
        AuthorityFigures,
        "select d.name as deployment, v.role, a.generation, a.state, a.not_after, a.issued
         from authority a join deployment d using (deployment_id) join vertex v using (vertex_id)
         where a.state <> 'gone' order by d.name, v.role, a.generation"
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(&doing)?;
    let zones = sqlx::query!("select name, generation from zone order by name limit $1", MOST)
        .fetch_all(&mut *tx)
        .await
        .map_err(&doing)?;
    let waiting = sqlx::query_as!(
        Waiting,
        r#"select (select count(*) from vertex where wake) as "woken!",
                  (select count(*) from node
                   where engine_id is null
                         and (state in ('creating', 'joining', 'unreachable', 'leaving') or rebuild)) as "nodes!",
                  (select count(*) from job where look_at is not null) as "put_away!",
                  (select count(*) from drift where due) as "checks!",
                  (select count(*) from vertex where broken and retry_at is not null) as "retries!",
                  (select count(*) from vertex where renew_at <= now() and state = 'active' and goal = 'present')
                      as "renewals!""#
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(&doing)?;
    let rest = sqlx::query!(
        r#"select (select count(*) from job where engine_id is not null and finished_at is null) as "jobs!",
                  (select count(*) from drift where verdict = 'drifted') as "drifted!",
                  (select count(*) from engine where lease_until > clock_timestamp()) as "engines!",
                  (select min(lease_until) from engine where lease_until > clock_timestamp()) as lease_until,
                  (select coalesce(max(seq), 0) from event) as "events!",
                  (select xact_commit from pg_stat_database where datname = current_database()) as "commits!",
                  (select array[wal_sync, wal_bytes::bigint] from pg_stat_wal) as "wal!""#
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(&doing)?;
    Ok(Figures {
        deployments,
        nodes: nodes.into_iter().map(|row| (row.state, row.standing, row.count)).collect(),
        authorities,
        zones: zones.into_iter().map(|row| (row.name, row.generation)).collect(),
        waiting,
        jobs: rest.jobs,
        drifted: rest.drifted,
        engines: rest.engines,
        lease_until: rest.lease_until,
        events: rest.events,
        commits: rest.commits,
        wal: rest.wal.try_into().unwrap_or_default(),
    })
}

/// What nodes hold, by authority. Looks at every node role that has something signed.
pub async fn held(pool: &PgPool) -> Result<Vec<HeldFigures>, StoreError> {
    sqlx::query_as!(
        HeldFigures,
        r#"select d.name as deployment, s.role, count(*) filter (where c.lives) as "in_force!",
                  count(*) filter (where c.lives and c.renew_at <= now()) as "overdue!",
                  count(*) filter (where not c.lives) as "ended!", min(c.not_after) filter (where c.lives) as next_end
           from vertex v cross join lateral (
                    select authority_id, not_after, renew_at, revoked_at is null and not_after > now() as lives
                    from certificate where vertex_id = v.vertex_id order by not_after desc limit 1) c
                join authority a using (authority_id) join vertex s on s.vertex_id = a.vertex_id
                join deployment d on d.deployment_id = v.deployment_id
           where v.renew_at is not null and not v.gone and v.goal = 'present'
           group by d.name, s.role order by d.name, s.role"#
    )
    .fetch_all(pool)
    .await
    .map_err(failed("reading when certificates end"))
}
