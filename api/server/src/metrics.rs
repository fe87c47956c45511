//! Figures as text that Prometheus reads (OpenMetrics 1.0). Everything is read when it is asked for, so that engines on one
//! database say the same, but for what each of them counts itself.
//!
//! Deliberately absent: names of nodes. A fleet would be thousands of curves; `plinth status` has them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_core::view::{Counted, Counts};
use engine_store::read::{self, Figures, HeldFigures};
use engine_store::{PgPool, StoreError};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use time::OffsetDateTime;
use tokio::sync::Mutex;

/// To read what nodes hold costs as much as there are certificates on them; ends do not move faster than this.
const HELD_FOR: Duration = Duration::from_mins(1);

/// What nodes hold of authorities, and when that was read.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<Mutex<Option<(Instant, Vec<HeldFigures>)>>>);

impl Held {
    async fn read(&self, pool: &PgPool) -> Result<Vec<HeldFigures>, StoreError> {
        // Whoever comes meanwhile waits for the same answer.
        let mut last = self.0.lock().await;
        if let Some((_, held)) = last.as_ref().filter(|(at, _)| at.elapsed() < HELD_FOR) {
            return Ok(held.clone());
        }
        let held = read::held(pool).await?;
        *last = Some((Instant::now(), held.clone()));
        Ok(held)
    }
}

/// Everything, as text.
pub(crate) async fn text(pool: &PgPool, held: &Held, counted: Counted, version: &str) -> Result<String, StoreError> {
    let held = held.read(pool).await?;
    let figures = read::figures(pool).await?;
    let mut page = Page(Registry::with_prefix("plinth"));
    page.gauges("build_info", "The version of this engine", [(labels([("version", version)]), 1)]);
    page.deployments(&figures);
    page.queues(&figures, counted);
    page.certificates(&figures, &held);
    page.counts(&figures, counted);
    let mut text = String::new();
    // Writing to a text can not fail.
    let _ = encode(&mut text, &page.0);
    Ok(text)
}

type Labels = Vec<(&'static str, String)>;

fn labels<const N: usize>(all: [(&'static str, &str); N]) -> Labels {
    all.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

struct Page(Registry);

impl Page {
    fn gauges(&mut self, name: &str, about: &str, rows: impl IntoIterator<Item = (Labels, i64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in rows {
            family.get_or_create_owned(&labels).inc_by(value);
        }
        self.0.register(name, about, family);
    }

    fn counters(&mut self, name: &str, about: &str, rows: impl IntoIterator<Item = (Labels, i64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in rows {
            family.get_or_create_owned(&labels).inc_by(u64::try_from(value).unwrap_or_default());
        }
        self.0.register(name, about, family);
    }

    fn deployments(&mut self, figures: &Figures) {
        let all = &figures.deployments;
        self.gauges(
            "deployments",
            "Deployments by how they are doing",
            all.iter().map(|one| (labels([("health", one.health.as_str())]), 1)),
        );
        let states = |counts: Counts| {
            [
                ("blocked", counts.blocked),
                ("ready", counts.ready),
                ("running", counts.running),
                ("active", counts.active),
                ("failed", counts.failed),
                ("leaving", counts.leaving),
            ]
        };
        let rows = all.iter().flat_map(|one| {
            states(one.counts)
                .map(|(state, count)| (labels([("deployment", one.name.as_str()), ("state", state)]), count))
        });
        self.gauges("node_roles", "Node roles of a deployment by state", rows);
        let rows = figures.nodes.iter().map(|(state, standing, count)| {
            (labels([("state", state.as_str()), ("standing", standing.as_str())]), *count)
        });
        self.gauges("nodes", "Nodes by state and standing", rows);
        self.gauges("drifted_node_roles", "Node roles whose last check found drift", [(labels([]), figures.drifted)]);
    }

    fn queues(&mut self, figures: &Figures, counted: Counted) {
        let waiting = figures.waiting;
        let queues = [
            ("judging", waiting.woken),
            ("nodes", waiting.nodes),
            ("jobs", figures.deployments.iter().map(|one| one.counts.ready).sum()),
            ("jobs-put-away", waiting.put_away),
            ("checks", waiting.checks),
            ("retries", waiting.retries),
            ("renewals", waiting.renewals),
            ("records", counted.records_waiting),
            ("certificates", counted.certificates_waiting),
        ];
        let rows = queues.map(|(queue, length)| (labels([("queue", queue)]), length));
        self.gauges("queue_length", "What waits for an engine, by what is to be done", rows);
        self.gauges("jobs_running", "Jobs that an engine follows", [(labels([]), figures.jobs)]);
        self.gauges("engines", "Engines whose lease holds", [(labels([]), figures.engines)]);
        let until = figures.lease_until.map(|until| (labels([]), until.unix_timestamp()));
        self.gauges("lease_end_timestamp_seconds", "When the first lease ends unless it is renewed", until);
    }

    fn certificates(&mut self, figures: &Figures, held: &[HeldFigures]) {
        let of = |one: &read::AuthorityFigures| {
            let generation = one.generation.to_string();
            let (deployment, role, state) = (one.deployment.as_str(), one.role.as_str(), one.state.as_str());
            labels([("deployment", deployment), ("authority", role), ("generation", &generation), ("state", state)])
        };
        let end = |time: OffsetDateTime| time.unix_timestamp();
        let all = &figures.authorities;
        self.gauges(
            "authority_not_after_timestamp_seconds",
            "When a trusted key of an authority ends",
            all.iter().map(|one| (of(one), end(one.not_after))),
        );
        self.counters(
            "authority_signed",
            "Certificates that a key has signed",
            all.iter().map(|one| (of(one), one.issued)),
        );
        let by =
            |one: &HeldFigures| labels([("deployment", one.deployment.as_str()), ("authority", one.role.as_str())]);
        let rows = held.iter().flat_map(|one| {
            [("in-force", one.in_force - one.overdue), ("overdue", one.overdue), ("ended", one.ended)].map(
                |(state, count)| {
                    let mut labels = by(one);
                    labels.push(("state", state.to_owned()));
                    (labels, count)
                },
            )
        });
        self.gauges("certificates", "Certificates that nodes hold; overdue ones should have been renewed", rows);
        self.gauges(
            "certificate_not_after_timestamp_seconds",
            "When the next certificate ends that a node holds",
            held.iter().filter_map(|one| Some((by(one), end(one.next_end?)))),
        );
    }

    fn counts(&mut self, figures: &Figures, counted: Counted) {
        let one = |value: i64| [(labels([]), value)];
        self.counters("events", "Everything that happened, transitions of node roles among it", one(figures.events));
        self.counters("database_commits", "Transactions of the database that were committed", one(figures.commits));
        self.counters("wal_flushes", "Flushes of the write-ahead log", one(figures.wal[0]));
        self.counters("wal_bytes", "Bytes written to the write-ahead log", one(figures.wal[1]));
        self.counters(
            "zone_changes",
            "Changes of a zone",
            figures.zones.iter().map(|(name, generation)| (labels([("zone", name.as_str())]), *generation)),
        );
        let rows = [("udp", counted.dns_answers[0]), ("tcp", counted.dns_answers[1])];
        let rows = rows.map(|(over, count)| (labels([("over", over)]), count));
        self.counters("dns_answers", "Questions that this engine has answered", rows);
    }
}
