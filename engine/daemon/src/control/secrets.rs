//! What people do with secrets.

use engine_core::driver::RANDOM;
use engine_core::view::{Refusal, RefusalKind, Resealed};
use engine_store::seal::reseal;
use engine_store::secrets::{Renewing, renew};
use serde_json::json;

use super::imports::Pending;
use super::{Control, planning, store};
use crate::secrets;

impl Control {
    /// Lets a role that makes a secret make another one; whoever reads it runs again.
    ///
    /// # Errors
    /// There is no such role, it makes no secrets, or it is at work.
    pub async fn renew_secret(&self, name: &str, role: &str) -> Result<(), Refusal> {
        match renew(&self.shared.pool, name, role, RANDOM, &self.shared.revisions).await.map_err(store)? {
            Renewing::Done => {
                self.shared.again.notify_one();
                Ok(())
            }
            Renewing::Unknown => {
                let message = format!("deployment `{name}` has no role `{role}` that makes a secret");
                Err(Refusal::new(RefusalKind::NotFound, "unknown-secret", message))
            }
            Renewing::NotAtRest => {
                let message = format!("`{role}` of deployment `{name}` is at work; ask again when it is active");
                Err(Refusal::new(RefusalKind::Conflict, "secret-busy", message))
            }
        }
    }

    /// Seals everything by the newest key of this engine; all engines have to know that one.
    ///
    /// # Errors
    /// Something does not open.
    pub async fn reseal(&self) -> Result<Resealed, Refusal> {
        reseal(&self.shared.pool, &self.shared.sealer).await.map_err(store)
    }

    /// The deployment documents of a text with their secrets sealed, so that a file may have them: only this engine, and those that
    /// share its seal key, open them, and each for the deployment of its name only. A text without secrets stays as it is.
    ///
    /// # Errors
    /// Everything that is wrong with the documents.
    pub async fn seal_document(&self, text: &str, file: &str) -> Result<String, Refusal> {
        let mut pending = Pending::new();
        let (mut sealed, mut any) = (Vec::new(), false);
        for read in engine_catalog::read_deployments(text, file).map_err(Refusal::findings)? {
            let Some((hidden, clear)) = planning::plan(&self.shared, &read, &mut pending).await?.hidden else {
                continue;
            };
            any |= !clear.is_empty();
            sealed.push(json!(secrets::seal(&self.shared, &hidden, &clear)));
        }
        if !any {
            return Ok(text.to_owned());
        }
        Ok(sealed.iter().map(engine_catalog::written).collect::<Vec<_>>().join("---\n"))
    }
}
