//! Names: records on their way into the database, and from there into the server's memory.

mod changes;
mod feed;
mod memory;

use std::sync::Arc;

use engine_store::StoreError;
use engine_store::connect::Own;
use engine_store::dns::{self, Change, Written};

pub(crate) use self::changes::{Drafts, NetworkChange};
pub(crate) use self::feed::serve;
pub(crate) use self::memory::Memory;
use crate::gather::{Down, Gather, Write};
use crate::shared::Shared;

/// The way to whoever writes records of node roles. Without an answer the engine ends: the job goes on elsewhere.
pub(crate) type Names = Gather<Change, Written>;

/// Writes records of node roles, as soon as the database answers. This engine answers them when it has told so.
pub(crate) struct Records {
    pub(crate) shared: Arc<Shared>,
    pub(crate) own: Own,
}

impl Write for Records {
    type Asked = Change;
    type Answer = Written;

    const DOWN: Down = Down::Waits;

    async fn write(&mut self, changes: &[Change]) -> Result<Vec<Written>, StoreError> {
        let mut connection = self.own.take().await?;
        let (written, steps) = dns::set_records(&mut connection, self.shared.engine(), changes).await?;
        self.own.keep(connection);
        self.shared.memory.take_steps(steps);
        Ok(written)
    }
}
