//! What people do with certificates.

use engine_core::request::RevocationReason;
use engine_core::view::{Refusal, RefusalKind};
use engine_store::pki::{self, Revocation};
use engine_store::rotation::{self, Begun};

use super::{Control, store};
use crate::run::driver::pki::successor;

impl Control {
    /// Revokes a certificate. Its authority runs again by itself to list it, and then whoever reads the list.
    ///
    /// # Errors
    /// There is no such certificate.
    pub async fn revoke(&self, serial: &str, reason: RevocationReason, by: &str) -> Result<(), Refusal> {
        match pki::revoke_one(&self.shared.pool, serial, reason, by).await.map_err(store)? {
            Revocation::Done => {
                self.shared.again.notify_one();
                Ok(())
            }
            Revocation::Unknown => {
                let message = format!("there is no certificate with the serial number `{serial}`");
                Err(Refusal::new(RefusalKind::NotFound, "unknown-certificate", message))
            }
        }
    }

    /// Begins to go over to another key of an authority. The rest comes by itself, stage by stage.
    ///
    /// # Errors
    /// There is no such authority, it moves already, or its key can not be made.
    pub async fn rotate(&self, name: &str, role: &str, by: &str) -> Result<(), Refusal> {
        let pool = &self.shared.pool;
        let unknown = || {
            let message = format!("deployment `{name}` has no authority `{role}`");
            Refusal::new(RefusalKind::NotFound, "unknown-authority", message)
        };
        let found = rotation::find(pool, name, role).await.map_err(store)?.ok_or_else(unknown)?;
        let before = pki::of_vertex(pool, found.1).await.map_err(store)?.ok_or_else(unknown)?;
        let made = successor(&self.shared, &before)
            .map_err(|error| Refusal::new(RefusalKind::Conflict, error.code(), error.to_string()))?;
        let refused = |message: String| Err(Refusal::new(RefusalKind::Conflict, "authority-moves", message));
        match rotation::introduce(pool, found, &made, by, &self.shared.revisions).await.map_err(store)? {
            Begun::Done => {
                self.shared.again.notify_one();
                Ok(())
            }
            Begun::Moving => refused(format!("`{role}` goes over to another key already")),
            Begun::NotAtRest => refused(format!("`{role}` runs or waits at the moment")),
        }
    }
}
