//! Hints by `LISTEN`: what wakes the loops of an engine between two polls.
//!
//! A hint says that something may have changed, no more. Those sent while the connection was away are lost; so
//! whoever listens looks at everything again at each [`Hint::Connected`].

use std::time::Duration;

use futures::stream::{self, Stream};
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};

use super::Target;

/// The pauses between attempts to connect again: short first, for a restart takes well under a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What comes out of [`listen`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// We hear from now on; whatever happened before was missed.
    Connected,
    /// Somebody said something.
    Notified {
        /// The channel it was said on.
        channel: String,
        /// At most 8000 bytes, not to be trusted.
        payload: String,
    },
    /// We hear nothing for now. The next one is `Connected`.
    Lost,
}

struct Ear {
    pool: PgPool,
    channels: Vec<&'static str>,
    listener: Option<PgListener>,
    pause: Duration,
}

/// Listens on these channels over a connection of its own, which it makes again whenever it is lost, for ever.
///
/// Dropping the stream closes the connection. An item may be awaited inside of `select!`: nothing is lost when
/// another branch wins.
pub fn listen(target: &Target, channels: &[&'static str]) -> impl Stream<Item = Hint> + Send + Unpin + use<> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_lazy_with(target.options().clone());
    let ear = Ear { pool, channels: channels.to_vec(), listener: None, pause: FIRST_PAUSE };
    Box::pin(stream::unfold(ear, |mut ear| async move { Some((ear.next().await, ear)) }))
}

impl Ear {
    async fn next(&mut self) -> Hint {
        let Some(listener) = &mut self.listener else {
            return self.connect().await;
        };
        match listener.try_recv().await {
            Ok(Some(said)) => Hint::Notified { channel: said.channel().to_owned(), payload: said.payload().to_owned() },
            Ok(None) => self.lose(None),
            Err(error) => self.lose(Some(error)),
        }
    }

    fn lose(&mut self, error: Option<sqlx::Error>) -> Hint {
        self.listener = None;
        let error = error.map_or_else(|| "the connection was closed".to_owned(), |error| error.to_string());
        tracing::info!(%error, "lost the connection that listens to Postgres; connecting again");
        Hint::Lost
    }

    async fn connect(&mut self) -> Hint {
        loop {
            match self.attempt().await {
                Ok(listener) => {
                    self.listener = Some(listener);
                    self.pause = FIRST_PAUSE;
                    return Hint::Connected;
                }
                Err(error) => tracing::debug!(%error, "cannot listen to Postgres yet"),
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt(&self) -> Result<PgListener, sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.eager_reconnect(false);
        listener.listen_all(self.channels.iter().copied()).await?;
        Ok(listener)
    }
}
