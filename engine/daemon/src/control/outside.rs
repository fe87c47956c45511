//! Authorities that others sign: what is brought to them, and what comes back.

use engine_core::request::ImportRequest;
use engine_core::view::{AuthorityRequestView, Refusal, RefusalKind};
use engine_pki::{ImportError, outside};
use engine_store::pki::{self, Authority, Requested};
use engine_store::rotation;
use zeroize::Zeroizing;

use super::certificates::unknown;
use super::{Control, store};
use crate::run::driver::pki::{SignedBy, form, imported, requested, told};

impl Control {
    /// What somebody else is to sign for an authority: the request that waits, or one for another key if none does.
    ///
    /// # Errors
    /// There is no such authority, or it signs for itself.
    pub async fn request_authority(&self, name: &str, role: &str) -> Result<AuthorityRequestView, Refusal> {
        let (_, there) = self.outside(name, role).await?;
        let made = match there {
            There::Waits(requested) => requested,
            There::Signs(before, work) => {
                let failed =
                    |error: &engine_pki::PkiError| Refusal::new(RefusalKind::Internal, error.code(), told(error));
                let form = form(&before.founded_as).map_err(|error| failed(&error))?;
                let made =
                    requested(&self.shared, &form, before.founded_as.clone(), work).map_err(|error| failed(&error))?;
                let kept = pki::request(&self.shared.pool, &made).await.map_err(store)?;
                kept.ok_or_else(|| unknown(name, role))?
            }
        };
        Ok(AuthorityRequestView { request: made.request })
    }

    /// Takes the chain that somebody else signed for an authority: for the request that waits, or for a key that comes with it.
    /// An authority that signs already goes over to it, stage by stage.
    ///
    /// # Errors
    /// There is no such authority, it signs for itself or goes over to another key, or the chain is not for it.
    pub async fn import_authority(
        &self,
        name: &str,
        role: &str,
        what: &ImportRequest,
        by: &str,
    ) -> Result<(), Refusal> {
        let shared = &self.shared;
        let (found, there) = self.outside(name, role).await?;
        let refused = |error: &ImportError| Refusal::new(RefusalKind::Invalid, error.code(), error.to_string());
        let waiting = match &there {
            There::Waits(requested) => Some(requested.clone()),
            There::Signs(..) => None,
        };
        let key: Zeroizing<Vec<u8>> = match (&what.key, &waiting) {
            (Some(key), _) => outside::key(key).map_err(|error| refused(&error))?,
            (None, Some(requested)) => {
                let place = found.1.to_string();
                let key = shared.sealer.open(&pki::place_of_request(&place), &requested.key);
                key.map_err(|error| store(error.into()))?
            }
            (None, None) => {
                let message = format!("`{role}` has asked for nothing that a chain without a key could be for");
                return Err(Refusal::new(RefusalKind::Conflict, "authority-not-asked", message));
            }
        };
        let before = pki::of_vertex(&shared.pool, found.1).await.map_err(store)?;
        let founded_as = match (&before, &waiting) {
            (Some(before), _) => before.founded_as.clone(),
            (None, Some(requested)) => requested.founded_as.clone(),
            (None, None) => return Err(unknown(name, role)),
        };
        let form =
            form(&founded_as).map_err(|error| Refusal::new(RefusalKind::Internal, error.code(), told(&error)))?;
        let generation = rotation::next_generation(&shared.pool, found.1).await.map_err(store)?;
        let made = imported(shared, &founded_as, &form.permitted, (&what.chain, &key), generation)
            .map_err(|error| refused(&error))?;
        match (before, waiting) {
            (None, Some(requested)) => {
                let taken = pki::import(&shared.pool, &requested, &made, by).await.map_err(store)?;
                if !taken {
                    let message = format!("`{role}` waits for another chain by now");
                    return Err(Refusal::new(RefusalKind::Conflict, "authority-moves", message));
                }
                shared.put_away.notify_one();
                Ok(())
            }
            (_, waiting) => {
                let begun = rotation::introduce(&shared.pool, found, &made, None, by, &shared.revisions);
                self.begun(role, begun.await.map_err(store)?)?;
                if waiting.is_some() {
                    pki::forget_request(&shared.pool, found.1).await.map_err(store)?;
                }
                Ok(())
            }
        }
    }

    /// An authority that others sign.
    async fn outside(&self, name: &str, role: &str) -> Result<(Found, There), Refusal> {
        let pool = &self.shared.pool;
        let found = self.authority(name, role).await?;
        let itself = || {
            let message =
                format!("`{role}` signs its own certificate; `signed_by: others` would have it signed elsewhere");
            Refusal::new(RefusalKind::Conflict, "authority-signs-itself", message)
        };
        if let Some(requested) = pki::requested(pool, found.1).await.map_err(store)? {
            return Ok((found, There::Waits(requested)));
        }
        let (before, work) = pki::signs_for(pool, found.1).await.map_err(store)?.ok_or_else(|| unknown(name, role))?;
        match form(&before.founded_as) {
            Ok(form) if form.signed_by == SignedBy::Others => Ok((found, There::Signs(before, work))),
            _ => Err(itself()),
        }
    }
}

/// Deployment and vertex of an authority.
type Found = (engine_core::id::DeploymentId, engine_core::id::VertexId);

/// What there is of an authority that others sign.
enum There {
    /// A request.
    Waits(Requested),
    /// A key that signs, and whose work it was.
    Signs(Authority, pki::Work),
}
