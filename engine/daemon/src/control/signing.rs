//! Certificates that people ask for, and lists of what was revoked.

use std::collections::BTreeSet;

use engine_core::compile::duration;
use engine_core::request::SignRequest;
use engine_core::view::{CertificateView, Refusal, RefusalKind};
use engine_pki::request::{Wanted, read};
use engine_pki::revocation::{Listing, Revoked, in_pem, list};
use engine_pki::{Name, RequestError};
use engine_store::pki;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::certificates::unknown;
use super::{Control, store};
use crate::run::driver::pki as driver;
use crate::signing::Open;

/// When nobody says how long it is to hold.
const LIFETIME: Duration = Duration::days(30);
/// Clocks of those who ask may be ahead by so much.
const SKEW: Duration = Duration::minutes(5);
/// A part of a list holds for so long, and is signed anew after two thirds of it.
const LIST_LIFETIME: Duration = Duration::days(3);

impl Control {
    /// Signs a request with the authority of a role; what is told is durable.
    ///
    /// # Errors
    /// There is no such authority, or the request is not in order.
    pub async fn sign(&self, name: &str, role: &str, what: &SignRequest, by: &str) -> Result<CertificateView, Refusal> {
        let shared = &self.shared;
        // It may have gone over to another key since it was opened; then the next one signs.
        for _ in 0..2 {
            let open =
                shared.signing.of(shared, name, role).await.map_err(store)?.ok_or_else(|| unknown(name, role))?;
            let signed = signed(&open, what)?;
            let request = pki::Request { authority: open.authority.id, by: by.to_owned(), signed };
            let view = view(&request.signed, role);
            match shared.signing.keep(request).await {
                Some(Ok(true)) => return Ok(view),
                Some(Ok(false)) => shared.signing.forget(name, role),
                Some(Err(failure)) => {
                    return Err(Refusal::new(RefusalKind::Unavailable, &failure.code, failure.message));
                }
                None => {
                    let message = "the engine stops; nothing was kept of the certificate".to_owned();
                    return Err(Refusal::new(RefusalKind::Unavailable, "engine-stops", message));
                }
            }
        }
        let message = format!("`{role}` goes over to another key at this moment");
        Err(Refusal::new(RefusalKind::Conflict, "authority-moves", message))
    }

    /// A part of an authority's list of what was revoked, in DER or PEM; signed anew if something was revoked since, or its time
    /// has come.
    ///
    /// # Errors
    /// There is no such authority or part.
    pub async fn list(&self, authority: Uuid, part: i32, as_pem: bool) -> Result<Vec<u8>, Refusal> {
        let pool = &self.shared.pool;
        let there = pki::listed_part(pool, authority, part).await.map_err(store)?;
        let body = match there.filter(|list| !list.is_old) {
            Some(list) => list.body,
            None => self.list_anew(authority, part).await?,
        };
        Ok(if as_pem { in_pem(&body).into_bytes() } else { body })
    }

    async fn list_anew(&self, authority: Uuid, part: i32) -> Result<Vec<u8>, Refusal> {
        let pool = &self.shared.pool;
        let unknown = || {
            let message = format!("there is no part {part} of a list of what the authority {authority} revoked");
            Refusal::new(RefusalKind::NotFound, "unknown-list", message)
        };
        let by = pki::parted(pool, authority).await.map_err(store)?.ok_or_else(unknown)?;
        if !(0..=pki::part(by.issued)).contains(&part) {
            return Err(unknown());
        }
        let found = pki::of_part(pool, authority, part).await.map_err(store)?;
        let revoked: Vec<Revoked> =
            found.listed.into_iter().map(|(serial, at, reason)| Revoked { serial, at, reason }).collect();
        let place = driver::place(&by, part);
        let how = Listing { now: OffsetDateTime::now_utc(), lifetime: LIST_LIFETIME, part: Some(&place) };
        let listed = driver::open(&self.shared, &by)
            .map_err(store)?
            .and_then(|signer| list(&revoked, &signer, &how))
            .map_err(|error| Refusal::new(RefusalKind::Internal, error.code(), driver::told(&error)))?;
        pki::put_part(pool, (authority, part), (&listed.der, found.known), listed.renew_at).await.map_err(store)?;
        Ok(listed.der)
    }
}

fn refused(error: &RequestError) -> Refusal {
    Refusal::new(RefusalKind::Invalid, error.code(), error.to_string())
}

/// Holds a request against what was said with it and what the authority may sign for, and signs it.
fn signed(open: &Open, what: &SignRequest) -> Result<pki::Certificate, Refusal> {
    let subject = what.subject.as_str();
    let foreign = |name: &str| RequestError::NameForeign { name: name.to_owned(), node: subject.to_owned() };
    let mut names = BTreeSet::new();
    for name in &what.names {
        let wildcard = || RequestError::NameWildcard { name: name.clone() };
        let parsed: Result<Name, _> = name.parse();
        let known = parsed.map_err(|_| if name.contains('*') { wildcard() } else { foreign(name) });
        names.insert(known.map_err(|error| refused(&error))?);
    }
    if let Some(name) = names.iter().find(|name| !open.permitted.allows(name)) {
        return Err(refused(&foreign(&name.to_string())));
    }
    let invalid = |message: &str| Refusal::new(RefusalKind::Invalid, "bad-request", message.to_owned());
    if what.usages.is_empty() {
        return Err(invalid("`usages` names none"));
    }
    let lifetime = lifetime(what, OffsetDateTime::now_utc())?;
    let request = read(&what.csr, &Wanted { node: subject, names: &names }).map_err(|error| refused(&error))?;
    let asked = driver::Asked { subject, names: &names, usages: &what.usages, lifetime, part: open.part() };
    driver::signed(&request, &open.signer, &open.authority, &asked)
        .map_err(|error| Refusal::new(RefusalKind::Conflict, error.code(), driver::told(&error)))
}

/// How long it is to hold.
fn lifetime(what: &SignRequest, now: OffsetDateTime) -> Result<Duration, Refusal> {
    let text = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
    if let Some(begin) = what.not_before.filter(|begin| *begin > now + SKEW) {
        return Err(refused(&RequestError::NotYetValid { not_before: text(begin) }));
    }
    let lifetime = match (&what.lifetime, what.not_after) {
        (Some(_), Some(_)) => {
            let message = "`lifetime` and `not_after` are both said".to_owned();
            return Err(Refusal::new(RefusalKind::Invalid, "bad-request", message));
        }
        (None, Some(end)) => end - now,
        (Some(span), None) => match duration::seconds(span) {
            Ok(_) => driver::span(span),
            Err(_) => {
                let message = format!("`lifetime` is `{span}`, which is no duration such as 30d or 12h");
                return Err(Refusal::new(RefusalKind::Invalid, "bad-request", message));
            }
        },
        (None, None) => LIFETIME,
    };
    if lifetime < Duration::SECOND {
        return Err(refused(&RequestError::Expired { not_after: text(now + lifetime) }));
    }
    Ok(lifetime)
}

fn view(signed: &pki::Certificate, authority: &str) -> CertificateView {
    CertificateView {
        serial: signed.serial.clone(),
        node: signed.node.clone(),
        role: None,
        authority: authority.to_owned(),
        names: signed.names.clone(),
        usages: signed.usages.clone(),
        certificate: signed.body.clone() + &signed.above,
        not_before: signed.not_before,
        not_after: signed.not_after,
        renew_at: signed.renew_at,
        revoked_at: None,
        reason: None,
    }
}
