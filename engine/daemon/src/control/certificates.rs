//! What people do with certificates.

use engine_core::request::RevocationReason;
use engine_core::view::{Refusal, RefusalKind};
use engine_store::pki::{self, Revocation};

use super::{Control, store};

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
}
