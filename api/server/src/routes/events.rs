//! What happened, and what happens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use engine_core::request::{Page, Problem};
use engine_core::view::EventView;
use engine_store::read;
use futures::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::watch;

use crate::extract::Query;
use crate::problem::{ApiError, Thing};
use crate::server::App;

/// How often a silent stream says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After a failed read, for the bell rings only for what is new.
const AGAIN: Duration = Duration::from_secs(1);
/// Events read at once.
const BATCH: i64 = 500;

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Number of the last event that is known; without it the list is of the newest, and the stream of what comes.
    after: Option<i64>,
    /// Only those of this deployment.
    deployment: Option<String>,
    /// How many at most; 1000 are the most.
    #[serde(default = "hundred")]
    limit: i64,
}

fn hundred() -> i64 {
    100
}

async fn is_there(app: &App, deployment: Option<&str>) -> Result<(), ApiError> {
    match deployment {
        Some(name) if read::deployment(&app.pool, name).await?.is_none() => {
            Err(ApiError::unknown(Thing::Deployment, name))
        }
        _ => Ok(()),
    }
}

/// Events, oldest first.
#[utoipa::path(get, path = "/events", params(Which), responses(
    (status = 200, body = Page<EventView>),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn list(
    State(app): State<App>,
    Query(which): Query<Which>,
) -> Result<Json<Page<EventView>>, ApiError> {
    let deployment = which.deployment.as_deref();
    is_there(&app, deployment).await?;
    let items = match which.after {
        Some(after) => read::events(&app.pool, after, deployment, which.limit).await?,
        None => read::latest_events(&app.pool, deployment, which.limit).await?,
    };
    let next = items.last().map(|event| event.seq.to_string());
    Ok(Json(Page { items, next }))
}

/// Events as they happen, as server-sent events: `id` is the number, to be given again as `Last-Event-ID`; `event` is the
/// kind, `data` the event. None is passed over; numbers may come out of their order.
#[utoipa::path(get, path = "/events/stream", params(Which), responses(
    (status = 200, body = EventView, content_type = "text/event-stream"),
    (status = 404, body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn follow(
    State(app): State<App>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    is_there(&app, which.deployment.as_deref()).await?;
    let after = match last_event_id(&headers)?.or(which.after) {
        Some(after) => after,
        None => read::head(&app.pool).await?,
    };
    let bell = app.bell.subscribe();
    let follower = Follower { app, deployment: which.deployment, after, ready: VecDeque::new(), bell };
    let stream = stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok(sent(&event)), follower))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| ApiError::Request {
        status: StatusCode::BAD_REQUEST,
        detail: "Last-Event-ID is not the number of an event".to_owned(),
    })
}

fn sent(event: &EventView) -> Event {
    let sent = Event::default().id(event.seq.to_string()).event(&event.kind);
    // Plain data always has a JSON form.
    sent.json_data(event).unwrap_or_default()
}

struct Follower {
    app: App,
    deployment: Option<String>,
    after: i64,
    ready: VecDeque<EventView>,
    bell: watch::Receiver<u64>,
}

impl Follower {
    /// The next event; none when the server stops. Between events only the bell is awaited.
    async fn next(&mut self) -> Option<EventView> {
        loop {
            if self.app.stop.is_cancelled() {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                self.after = event.seq;
                return Some(event);
            }
            // Before reading: what happens meanwhile rings again.
            self.bell.mark_unchanged();
            let again = match read::events(&self.app.pool, self.after, self.deployment.as_deref(), BATCH).await {
                Ok(events) if !events.is_empty() => {
                    self.ready = events.into();
                    continue;
                }
                Ok(_) => false,
                Err(error) => {
                    tracing::debug!(%error, "cannot read events for a follower");
                    true
                }
            };
            tokio::select! {
                () = self.app.stop.cancelled() => return None,
                rung = self.bell.changed() => rung.ok()?,
                () = tokio::time::sleep(AGAIN), if again => {}
            }
        }
    }
}
