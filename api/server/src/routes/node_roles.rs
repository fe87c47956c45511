//! Node roles: why they are where they are, what they were tried with, what that said.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use engine_core::id::{JobId, VertexId};
use engine_core::request::{Page, Problem};
use engine_core::view::{JobView, LogLine, WhyView};
use engine_store::{StoreError, read};
use futures::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::watch;

use crate::extract::{Path, Query};
use crate::problem::{ApiError, Thing};
use crate::server::App;

/// How often a silent stream says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// While a job runs its log is looked at this often, for hints get lost; without one only the bell is awaited.
const TICK: Duration = Duration::from_secs(2);
/// Lines read at once.
const BATCH: i64 = 500;

/// Deployment, node and role.
type Place = (String, String, String);

async fn vertex(app: &App, (deployment, node, role): &Place) -> Result<VertexId, ApiError> {
    let found = read::vertex(&app.pool, deployment, node, role).await?;
    match found {
        Some(vertex) => Ok(vertex),
        None if read::deployment(&app.pool, deployment).await?.is_none() => {
            Err(ApiError::unknown(Thing::Deployment, deployment))
        }
        None => Err(ApiError::unknown(Thing::NodeRole, format!("{node}/{role}"))),
    }
}

/// As of when.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AsOf {
    /// The revision; the committed one if missing.
    pub(crate) revision: Option<i32>,
}

/// Why a node role is where it is: what holds it to the end of the chain, what it read, what it was tried with. With a
/// revision: where it was when the next one was committed; what held it then, and what it output, is not kept.
#[utoipa::path(get, path = "/deployments/{name}/node-roles/{node}/{role}/why", responses(
    (status = 200, body = WhyView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("node" = String, Path,), ("role" = String, Path,), AsOf))]
pub(crate) async fn why(
    State(app): State<App>,
    Path(place): Path<Place>,
    Query(as_of): Query<AsOf>,
) -> Result<Json<WhyView>, ApiError> {
    if let Some(why) = read::why(&app.pool, &place.0, &place.1, &place.2, as_of.revision).await? {
        return Ok(Json(why));
    }
    vertex(&app, &place).await?;
    if let Some(revision) = as_of.revision {
        return Err(ApiError::unknown(Thing::Revision, format!("{} {revision}", place.0)));
    }
    Err(ApiError::unknown(Thing::NodeRole, format!("{}/{}", place.1, place.2)))
}

/// How many.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Newest {
    /// How many at most; 1000 are the most.
    #[serde(default = "twenty")]
    limit: i64,
}

fn twenty() -> i64 {
    20
}

/// The attempts of a node role, newest first; without the results of their steps.
#[utoipa::path(get, path = "/deployments/{name}/node-roles/{node}/{role}/jobs", responses(
    (status = 200, body = Page<JobView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("node" = String, Path,), ("role" = String, Path,), Newest))]
pub(crate) async fn jobs(
    State(app): State<App>,
    Path(place): Path<Place>,
    Query(newest): Query<Newest>,
) -> Result<Json<Page<JobView>>, ApiError> {
    let vertex = vertex(&app, &place).await?;
    Ok(Json(Page { items: read::jobs(&app.pool, vertex, newest.limit).await?, next: None }))
}

/// An attempt with the results of its steps.
#[utoipa::path(get, path = "/jobs/{id}", responses(
    (status = 200, body = JobView),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("id" = JobId, Path,)))]
pub(crate) async fn job(State(app): State<App>, Path(id): Path<JobId>) -> Result<Json<JobView>, ApiError> {
    read::job(&app.pool, id).await?.map(Json).ok_or_else(|| ApiError::unknown(Thing::Job, id.to_string()))
}

/// Which lines.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lines {
    /// Of this attempt; of the newest if missing.
    job: Option<JobId>,
    /// Number of the last line that is known.
    #[serde(default)]
    after: i64,
    /// How many at most; 1000 are the most.
    #[serde(default = "thousand")]
    limit: i64,
}

fn thousand() -> i64 {
    1000
}

/// The log of an attempt, line by line.
#[utoipa::path(get, path = "/deployments/{name}/node-roles/{node}/{role}/logs", responses(
    (status = 200, body = Page<LogLine>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("node" = String, Path,), ("role" = String, Path,), Lines))]
pub(crate) async fn log(
    State(app): State<App>,
    Path(place): Path<Place>,
    Query(lines): Query<Lines>,
) -> Result<Json<Page<LogLine>>, ApiError> {
    let vertex = vertex(&app, &place).await?;
    let job = match lines.job {
        Some(job) => {
            let found = read::job(&app.pool, job).await?.filter(|found| found.vertex == vertex);
            Some(found.ok_or_else(|| ApiError::unknown(Thing::Job, job.to_string()))?.id)
        }
        None => read::latest_job(&app.pool, vertex).await?.map(|(job, _)| job),
    };
    let Some(job) = job else { return Ok(Json(Page { items: Vec::new(), next: None })) };
    let items = read::log(&app.pool, job, lines.after, lines.limit).await?;
    let full = i64::try_from(items.len()).unwrap_or(i64::MAX) >= lines.limit.clamp(1, read::MOST);
    let next = items.last().filter(|_| full).map(|line| line.seq.to_string());
    Ok(Json(Page { items, next }))
}

/// The log of the newest attempt as it is written, and then of those after it, as server-sent events: `line` with a line
/// of the log, `end` with an attempt that ended.
#[utoipa::path(get, path = "/deployments/{name}/node-roles/{node}/{role}/logs/stream", responses(
    (status = 200, body = LogLine, content_type = "text/event-stream"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
), params(("name" = String, Path,), ("node" = String, Path,), ("role" = String, Path,)))]
pub(crate) async fn follow(
    State(app): State<App>,
    Path(place): Path<Place>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let vertex = vertex(&app, &place).await?;
    let bell = app.bell.subscribe();
    let follower = Follower { app, vertex, job: None, after: 0, told: false, ready: VecDeque::new(), bell };
    let stream = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

struct Follower {
    app: App,
    vertex: VertexId,
    job: Option<JobId>,
    after: i64,
    /// The end of that job was told.
    told: bool,
    ready: VecDeque<Event>,
    bell: watch::Receiver<u64>,
}

impl Follower {
    /// The next event; none when the server stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.app.stop.is_cancelled() {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            // Before reading: what happens meanwhile rings again.
            self.bell.mark_unchanged();
            let watched = match self.read().await {
                Ok(_) if !self.ready.is_empty() => continue,
                Ok(runs) => runs,
                Err(error) => {
                    tracing::debug!(%error, "cannot read a log for a follower");
                    true
                }
            };
            tokio::select! {
                () = self.app.stop.cancelled() => return None,
                rung = self.bell.changed() => rung.ok()?,
                () = tokio::time::sleep(TICK), if watched => {}
            }
        }
    }

    /// Puts what is new into `ready`; whether the job still runs.
    async fn read(&mut self) -> Result<bool, StoreError> {
        let pool = &self.app.pool;
        let latest = read::latest_job(pool, self.vertex).await?;
        if self.job.is_none() || self.told {
            let next = latest.map(|(job, _)| job).filter(|next| Some(*next) != self.job);
            if let Some(next) = next {
                (self.job, self.after, self.told) = (Some(next), 0, false);
            }
        }
        let Some(job) = self.job.filter(|_| !self.told) else { return Ok(false) };
        // Before the lines: after its end a job says nothing more.
        let seen = read::job(pool, job).await?;
        let lines = read::log(pool, job, self.after, BATCH).await?;
        let ended = seen.filter(|seen| seen.finished_at.is_some());
        if let Some(last) = lines.last() {
            self.after = last.seq;
        } else if let Some(ended) = &ended {
            self.told = true;
            self.ready.push_back(Event::default().event("end").json_data(ended).unwrap_or_default());
        }
        self.ready.extend(lines.iter().map(|line| Event::default().event("line").json_data(line).unwrap_or_default()));
        Ok(ended.is_none())
    }
}
