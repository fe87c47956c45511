//! What people do with certificates.

use engine_core::id::{DeploymentId, VertexId};
use engine_core::request::{RevocationReason, RotationMove};
use engine_core::view::{Refusal, RefusalKind};
use engine_store::pki::{self, Revocation};
use engine_store::renewal::{self, Renewed};
use engine_store::rotation::{self, Begun};

use super::{Control, store};
use crate::run::driver::pki::{SignedBy, form, successor};

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
            Revocation::Unknown => Err(unknown_certificate(serial)),
        }
    }

    /// Lets whoever had a certificate signed have another one signed.
    ///
    /// # Errors
    /// There is no such certificate, nobody of a deployment holds it, or who does runs, waits or leaves.
    pub async fn renew(&self, serial: &str, by: &str) -> Result<(), Refusal> {
        let refused = |code: &str, message: String| Err(Refusal::new(RefusalKind::Conflict, code, message));
        match renewal::renew_one(&self.shared.pool, serial, by, &self.shared.revisions).await.map_err(store)? {
            Renewed::Done => Ok(()),
            Renewed::Unknown => Err(unknown_certificate(serial)),
            Renewed::Unheld => {
                refused("certificate-unheld", format!("no node role of a deployment holds the certificate `{serial}`"))
            }
            Renewed::NotAtRest => {
                refused("certificate-moves", format!("who holds the certificate `{serial}` runs, waits or leaves"))
            }
        }
    }

    /// Begins to go over to another key of an authority. The rest comes by itself, stage by stage.
    ///
    /// # Errors
    /// There is no such authority, it moves already, or its key can not be made.
    pub async fn rotate(&self, name: &str, role: &str, by: &str) -> Result<(), Refusal> {
        self.introduce(name, role, None, by).await
    }

    /// The key of an authority is not to be relied upon: it goes over to another one, with no way back.
    ///
    /// # Errors
    /// There is no such authority, it moves already, or its key can not be made.
    pub async fn revoke_authority(
        &self,
        name: &str,
        role: &str,
        reason: RevocationReason,
        by: &str,
    ) -> Result<(), Refusal> {
        self.introduce(name, role, Some(reason), by).await
    }

    async fn introduce(
        &self,
        name: &str,
        role: &str,
        revoked: Option<RevocationReason>,
        by: &str,
    ) -> Result<(), Refusal> {
        let pool = &self.shared.pool;
        let found = self.authority(name, role).await?;
        let before = pki::of_vertex(pool, found.1).await.map_err(store)?.ok_or_else(|| unknown(name, role))?;
        if form(&before.founded_as).is_ok_and(|form| form.signed_by == SignedBy::Others) {
            return match revoked {
                Some(reason) => {
                    let begun = rotation::revoke(pool, found, reason, by).await.map_err(store)?;
                    if begun == Begun::Resting { Err(others(role)) } else { self.begun(role, begun) }
                }
                None => Err(others(role)),
            };
        }
        let generation = rotation::next_generation(pool, found.1).await.map_err(store)?;
        let made = successor(&self.shared, &before, generation)
            .map_err(|error| Refusal::new(RefusalKind::Conflict, error.code(), error.to_string()))?;
        let begun =
            rotation::introduce(pool, found, &made, revoked, by, &self.shared.revisions).await.map_err(store)?;
        self.begun(role, begun)
    }

    /// Holds up an authority that goes over to another key, lets it go on, or takes it back.
    ///
    /// # Errors
    /// There is no such authority, or it does not go over to another key.
    pub async fn ask_rotation(&self, name: &str, role: &str, what: RotationMove, by: &str) -> Result<(), Refusal> {
        let found = self.authority(name, role).await?;
        let asked = rotation::ask(&self.shared.pool, found, what, by, &self.shared.revisions).await.map_err(store)?;
        self.begun(role, asked)
    }

    pub(super) async fn authority(&self, name: &str, role: &str) -> Result<(DeploymentId, VertexId), Refusal> {
        let found = rotation::find(&self.shared.pool, name, role).await.map_err(store)?;
        found.ok_or_else(|| unknown(name, role))
    }

    pub(super) fn begun(&self, role: &str, begun: Begun) -> Result<(), Refusal> {
        let refused = |code: &str, message: String| Err(Refusal::new(RefusalKind::Conflict, code, message));
        match begun {
            Begun::Done => {
                self.shared.again.notify_one();
                Ok(())
            }
            Begun::Moving => refused("authority-moves", format!("`{role}` goes over to another key already")),
            Begun::NotAtRest => refused("authority-moves", format!("`{role}` runs or waits at the moment")),
            Begun::Revoked => refused(
                "authority-revoked",
                format!("the key that `{role}` leaves is revoked: there is no way but forward"),
            ),
            Begun::Resting => {
                refused("authority-rests", format!("`{role}` does not go over to another key, or has done so"))
            }
        }
    }
}

fn others(role: &str) -> Refusal {
    let message = format!(
        "others sign `{role}`: bring them what `plinth ca request` gives, and what comes back by `plinth ca import`; it goes over then"
    );
    Refusal::new(RefusalKind::Conflict, "authority-others-sign", message)
}

fn unknown_certificate(serial: &str) -> Refusal {
    let message = format!("there is no certificate with the serial number `{serial}`");
    Refusal::new(RefusalKind::NotFound, "unknown-certificate", message)
}

pub(super) fn unknown(name: &str, role: &str) -> Refusal {
    let message = format!("deployment `{name}` has no authority `{role}`");
    Refusal::new(RefusalKind::NotFound, "unknown-authority", message)
}
