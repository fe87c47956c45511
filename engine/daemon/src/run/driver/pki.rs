//! `pki.authority` and `pki.leaf`: keys that sign, and what they sign.

use std::collections::BTreeSet;

use engine_agent::protocol::Mode;
use engine_core::compile::duration;
use engine_core::document::Object;
use engine_core::identity;
use engine_core::request::{CertificateUsage, RevocationReason};
use engine_pki::authority::{Founding, Permitted, found};
use engine_pki::leaf::{Issuing, issue};
use engine_pki::request::{Request, Wanted, read};
use engine_pki::revocation::{Listing, Revoked, in_pem, list};
use engine_pki::{ImportError, Name, PkiError, Serial, Signer, outside};
use engine_store::StoreError;
use engine_store::pki::{self, Authority, Certificate};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::super::later::pause;
use super::{Did, Work};
use crate::shared::Shared;

/// What an authority is made as.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Form {
    common_name: String,
    lifetime: String,
    pub(crate) permitted: Permitted,
    /// Not written down where it is as ever: authorities that were made before it could be said are what they were.
    #[serde(default, skip_serializing_if = "SignedBy::is_itself")]
    pub(crate) signed_by: SignedBy,
}

/// Who signs the certificate of an authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SignedBy {
    /// It does.
    #[default]
    Itself,
    /// Somebody outside, to whom a person brings a request.
    Others,
}

impl SignedBy {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_itself(&self) -> bool {
        *self == Self::Itself
    }
}

#[derive(Debug, Deserialize)]
struct AuthorityInputs {
    #[serde(flatten)]
    form: Form,
    list_lifetime: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Handle {
    id: Uuid,
    generation: i32,
}

#[derive(Debug, Deserialize)]
struct Identity {
    name: String,
}

#[derive(Debug, Deserialize)]
struct LeafInputs {
    issuer: Handle,
    csr: String,
    identity: Identity,
    names: Vec<String>,
    usages: Vec<CertificateUsage>,
    lifetime: String,
}

/// Keeps the authority of its vertex: made once, its key sealed, and forgotten when the vertex leaves. Each run signs a new list of
/// what was revoked.
pub(super) async fn authority(work: &Work<'_>) -> Result<Did, StoreError> {
    let shared = work.shared;
    if work.mode == Mode::Remove {
        pki::end(&shared.pool, of(work)).await?;
        return Ok(Did::nothing());
    }
    let wanted: AuthorityInputs = match work.read() {
        Ok(wanted) => wanted,
        Err(did) => return Ok(did),
    };
    let founded_as = json!(wanted.form);
    let there = pki::of_vertex(&shared.pool, work.job.vertex).await?;
    if work.mode == Mode::Check {
        let same = there.is_some_and(|there| there.founded_as == founded_as);
        let drifted = || Did::Drifted("there is no authority as it should be".to_owned());
        return Ok(if same { Did::nothing() } else { drifted() });
    }
    let kept = match there {
        Some(there) => there,
        None if wanted.form.signed_by == SignedBy::Others => return waits(work, &wanted.form, founded_as).await,
        None => match make(shared, &wanted.form, &founded_as, 1) {
            Ok(made) => match pki::found(&shared.pool, of(work), &made).await? {
                Some(kept) => kept,
                None => return Ok(Did::failed("authority-unknown", "the authority is gone again".to_owned())),
            },
            Err(error) => return Ok(Did::failed(error.code(), told(&error))),
        },
    };
    if kept.founded_as != founded_as {
        let message = format!(
            "the authority was made as {} and can not become {founded_as}: everybody who trusts it would have to be told first",
            kept.founded_as
        );
        return Ok(Did::failed("authority-changed", message));
    }
    let trusted = pki::trusted(&shared.pool, work.job.vertex).await?;
    // Grows by one when a generation comes, and when one goes.
    let generation = |one: Option<&Authority>| one.map_or(0, |one| one.generation);
    let stage = generation(trusted.first()) + generation(trusted.last()) - 1;
    let trusted: Vec<&str> = trusted.iter().map(|one| one.certificate.as_str()).collect();
    let revoked = pki::listed(&shared.pool, work.job.vertex).await?;
    let revoked: Vec<Revoked> =
        revoked.into_iter().map(|(serial, at, reason)| Revoked { serial, at, reason }).collect();
    let listing = Listing { now: OffsetDateTime::now_utc(), lifetime: span(&wanted.list_lifetime), part: None };
    let listed = match open(shared, &kept)?.and_then(|signer| list(&revoked, &signer, &listing)) {
        Ok(listed) => listed,
        Err(error) => return Ok(Did::failed(error.code(), told(&error))),
    };
    let outputs = json!({
        "issuer": Handle { id: kept.id, generation: kept.generation },
        "trust": {"generation": stage, "certificates": trusted},
        "revoked": in_pem(&listed.der),
        "renew_at": text(listed.renew_at),
    });
    Ok(Did::Told(object(outputs)))
}

/// Makes the request of an authority that others sign, once, and waits for its certificate.
async fn waits(work: &Work<'_>, form: &Form, founded_as: Value) -> Result<Did, StoreError> {
    let pool = &work.shared.pool;
    match pki::requested(pool, work.job.vertex).await? {
        Some(there) if there.founded_as == founded_as => {}
        there => {
            // What was asked for is not wanted any more.
            if there.is_some() {
                pki::forget_request(pool, work.job.vertex).await?;
            }
            match requested(work.shared, form, founded_as, of(work)) {
                Ok(made) => pki::request(pool, &made).await?,
                Err(error) => return Ok(Did::failed(error.code(), told(&error))),
            };
        }
    }
    let saw = format!(
        "nobody has signed its request yet: `plinth ca request {0} {1}` gives it, `plinth ca import {0} {1}` takes what comes",
        work.job.deployment_name, work.job.role
    );
    Ok(Did::NotYet(saw, pause(work.job)))
}

/// A request with a new key.
pub(crate) fn requested(
    shared: &Shared,
    form: &Form,
    founded_as: Value,
    of: pki::Work,
) -> Result<pki::Requested, PkiError> {
    let made = outside::request(&form.common_name, &form.permitted)?;
    let key = shared.sealer.seal(&pki::place_of_request(&of.vertex.to_string()), &made.key);
    Ok(pki::Requested { of, founded_as, request: made.request, key })
}

/// A generation of an authority that others signed, of a chain and the key that it is for (PKCS #8).
pub(crate) fn imported(
    shared: &Shared,
    founded_as: &Value,
    permitted: &Permitted,
    (chain, key): (&str, &[u8]),
    generation: i32,
) -> Result<Authority, ImportError> {
    let imported = outside::import(chain, key, permitted, OffsetDateTime::now_utc())?;
    let id = Uuid::now_v7();
    let key = shared.sealer.seal(&pki::place(&id.to_string()), key);
    Ok(Authority {
        id,
        generation,
        founded_as: founded_as.clone(),
        certificate: imported.certificate,
        above: imported.above,
        key,
        not_after: imported.not_after,
        // Read back when it is kept.
        deployment: String::new(),
        issued: 0,
    })
}

/// An authority whose key is at hand. The outer error is that of the seal.
pub(crate) fn open(shared: &Shared, authority: &Authority) -> Result<Result<Signer, PkiError>, StoreError> {
    let key = shared.sealer.open(&pki::place(&authority.id.to_string()), &authority.key)?;
    Ok(Signer::open(&authority.certificate, &key))
}

/// What an authority was made as.
pub(crate) fn form(founded_as: &Value) -> Result<Form, PkiError> {
    serde_json::from_value(founded_as.clone())
        .map_err(|error| PkiError::Unreadable { what: "authority", reason: error.to_string() })
}

/// Another generation of an authority that there is.
pub(crate) fn successor(shared: &Shared, before: &Authority, generation: i32) -> Result<Authority, PkiError> {
    let form = form(&before.founded_as)?;
    make(shared, &form, &before.founded_as, generation)
}

fn make(shared: &Shared, form: &Form, founded_as: &Value, generation: i32) -> Result<Authority, PkiError> {
    let founding = Founding {
        common_name: &form.common_name,
        serial: Serial::of(rand::random()),
        now: OffsetDateTime::now_utc(),
        lifetime: span(&form.lifetime),
        permitted: &form.permitted,
    };
    let founded = found(&founding)?;
    let id = Uuid::now_v7();
    let key = shared.sealer.seal(&pki::place(&id.to_string()), &founded.key);
    Ok(Authority {
        id,
        generation,
        founded_as: founded_as.clone(),
        certificate: founded.certificate,
        above: String::new(),
        key,
        not_after: founded.not_after,
        // Read back when it is kept.
        deployment: String::new(),
        issued: 0,
    })
}

/// Signs the request of a node, once for each job; what a node holds is revoked when it leaves.
pub(super) async fn leaf(work: &Work<'_>) -> Result<Did, StoreError> {
    let (pool, job) = (&work.shared.pool, work.job.job);
    match work.mode {
        Mode::Remove => {
            pki::revoke(pool, of(work), RevocationReason::CessationOfOperation).await?;
            work.shared.again.notify_one();
            return Ok(Did::nothing());
        }
        Mode::Check if pki::holds(pool, work.job.vertex).await? => return Ok(Did::nothing()),
        Mode::Check => return Ok(Did::Drifted("no certificate of it is in force".to_owned())),
        Mode::Apply | Mode::Plan => {}
    }
    if let Some(signed) = pki::signed_by(pool, job).await? {
        return Ok(certificate(signed));
    }
    let wanted: LeafInputs = match work.read() {
        Ok(wanted) => wanted,
        Err(did) => return Ok(did),
    };
    let signer = pki::authority(pool, wanted.issuer.id).await?;
    let Some(signer) = signer.filter(|signer| signer.generation == wanted.issuer.generation) else {
        let message = format!("there is no authority {} of generation {}", wanted.issuer.id, wanted.issuer.generation);
        return Ok(Did::failed("authority-unknown", message));
    };
    let signed = match open(work.shared, &signer)? {
        Ok(opened) => sign(&wanted, &signer, &opened),
        Err(error) => return Ok(Did::failed(error.code(), told(&error))),
    };
    match signed {
        Ok(signed) => pki::keep(pool, of(work), signer.id, &signed).await?,
        Err(did) => return Ok(did),
    }
    // Told is what is written down: another engine that followed this job may have been faster.
    match pki::signed_by(pool, job).await? {
        Some(signed) => Ok(certificate(signed)),
        None => Ok(Did::failed("authority-unknown", "the authority is gone again".to_owned())),
    }
}

fn sign(wanted: &LeafInputs, by: &Authority, signer: &Signer) -> Result<Certificate, Did> {
    let names = wanted.names.iter().map(|name| name.parse());
    let names: BTreeSet<Name> = names
        .collect::<Result<_, _>>()
        .map_err(|error: engine_pki::BadName| Did::failed("input-invalid", format!("input `names`: {error}")))?;
    let request = read(&wanted.csr, &Wanted { node: &wanted.identity.name, names: &names })
        .map_err(|refused| Did::failed(refused.code(), refused.to_string()))?;
    let asked = Asked {
        subject: &wanted.identity.name,
        names: &names,
        usages: &wanted.usages,
        lifetime: span(&wanted.lifetime),
        part: pki::part(by.issued),
    };
    signed(&request, signer, by, &asked).map_err(|error| Did::failed(error.code(), told(&error)))
}

/// What was found to be in order of what somebody asks for.
pub(crate) struct Asked<'a> {
    pub(crate) subject: &'a str,
    pub(crate) names: &'a BTreeSet<Name>,
    pub(crate) usages: &'a [CertificateUsage],
    pub(crate) lifetime: Duration,
    /// Of the authority's lists.
    pub(crate) part: i32,
}

/// Signs a request.
pub(crate) fn signed(
    request: &Request,
    signer: &Signer,
    by: &Authority,
    asked: &Asked<'_>,
) -> Result<Certificate, PkiError> {
    let serial = Serial::of(rand::random());
    let list = place(by, asked.part);
    let (now, lifetime, usages) = (OffsetDateTime::now_utc(), asked.lifetime, asked.usages);
    let issued = issue(request, signer, &Issuing { serial, now, lifetime, usages, list: &list })?;
    Ok(Certificate {
        serial: serial.hex(),
        node: asked.subject.to_owned(),
        names: asked.names.iter().map(ToString::to_string).collect(),
        usages: usages.iter().map(|usage| usage.as_str().to_owned()).collect(),
        body: issued.certificate,
        above: by.above.clone(),
        not_before: issued.not_before,
        not_after: issued.not_after,
        renew_at: issued.renew_at,
        part: asked.part,
    })
}

/// Where a part of an authority's list of what was revoked can be had.
pub(crate) fn place(by: &Authority, part: i32) -> String {
    format!("{}/{part}.crl", identity::lists(&by.deployment, &by.id.to_string()))
}

fn certificate(signed: Certificate) -> Did {
    Did::Told(object(json!({"chain": signed.body + &signed.above, "renew_at": text(signed.renew_at)})))
}

fn text(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).expect("a year of four digits")
}

fn of(work: &Work<'_>) -> pki::Work {
    pki::Work { deployment: work.job.deployment, vertex: work.job.vertex, job: work.job.job }
}

/// The schema has seen to it that it is one.
pub(crate) fn span(text: &str) -> Duration {
    Duration::seconds(i64::try_from(duration::seconds(text).unwrap_or(0)).unwrap_or(0))
}

/// An error with what is behind it.
pub(crate) fn told(error: &PkiError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}
