//! Secrets between those who keep tokens and those who need values: documents as they come in, inputs on their way to a job, outputs
//! on their way back.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_core::catalog::CatalogRole;
use engine_core::diagnostic::Diagnostic;
use engine_core::document::{DeploymentDoc, Object};
use engine_core::id::DeploymentId;
use engine_core::secret::{self, Clear};
use engine_store::StoreError;
use engine_store::seal::{Place, Sealed};
use engine_store::secrets;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::shared::Shared;

/// The one key of a value that a document carries sealed.
const SEALED: &str = "$sealed";

/// Puts values in the place of tokens among inputs.
pub(crate) async fn open(shared: &Shared, inputs: &mut Object) -> Result<(), StoreError> {
    let mut digests = BTreeSet::new();
    inputs.values().for_each(|value| secret::digests(value, &mut digests));
    if digests.is_empty() {
        return Ok(());
    }
    let clear = secrets::open(&shared.pool, &shared.sealer, &digests, None).await?;
    for value in inputs.values_mut() {
        clear.open(value)?;
    }
    Ok(())
}

/// Keeps what is secret among outputs, and puts tokens in its place.
pub(crate) async fn hide(
    shared: &Shared,
    deployment: DeploymentId,
    role: &CatalogRole,
    outputs: &mut Object,
) -> Result<(), StoreError> {
    let mut clear = Clear::default();
    for (name, _) in role.doc.outputs.iter().filter(|(_, output)| output.secret) {
        if let Some(value) = outputs.get_mut(name) {
            shared.digest_key.hide(value, &mut clear);
        }
    }
    if clear.is_empty() {
        return Ok(());
    }
    secrets::keep(&shared.pool, deployment, &secrets::sealed(&shared.sealer, &clear)).await
}

/// A document in which every secret stands in clear: tokens of the deployment's own, and what was sealed for it, are opened.
pub(crate) async fn read(shared: &Shared, document: &DeploymentDoc) -> Result<DeploymentDoc, Failed> {
    let mut document = document.clone();
    let name = document.deployment.clone();
    let mut digests = BTreeSet::new();
    let mut findings = Vec::new();
    for (pointer, value) in secret::places(&mut document) {
        match unsealed(shared, &name, value) {
            Ok(Some(clear)) => *value = clear,
            Ok(None) => secret::digests(value, &mut digests),
            Err(said) => findings.push(unknown(&pointer, said)),
        }
    }
    let clear = secrets::open(&shared.pool, &shared.sealer, &digests, Some(&name)).await.map_err(Failed::Store)?;
    for (pointer, value) in secret::places(&mut document) {
        if let Err(error) = clear.open(value) {
            findings.push(unknown(&pointer, format!("`{name}` has no secret {}", error.0)));
        }
    }
    if findings.is_empty() { Ok(document) } else { Err(Failed::Findings(findings)) }
}

/// Why a document can not be read.
pub(crate) enum Failed {
    /// The database does not say.
    Store(StoreError),
    /// There are secrets in it that nobody knows.
    Findings(Vec<Diagnostic>),
}

fn unknown(pointer: &str, message: String) -> Diagnostic {
    let expected = "the value itself, or what was sealed for this deployment with this engine's seal key";
    Diagnostic::error("secret-unknown", pointer, message).expected(expected)
}

/// The document with what is secret in it sealed, so that a file may have it: `hidden` is what the engine keeps of it.
pub(crate) fn seal(shared: &Shared, hidden: &DeploymentDoc, clear: &Clear) -> DeploymentDoc {
    let mut document = hidden.clone();
    let name = document.deployment.clone();
    for (_, value) in secret::places(&mut document) {
        let mut opened = value.clone();
        if secret::any(value) && clear.open(&mut opened).is_ok() {
            let text = Zeroizing::new(opened.to_string());
            let sealed = shared.sealer.seal(&place(&name), text.as_bytes());
            *value = json!({SEALED: STANDARD.encode(sealed.bytes())});
        }
    }
    document
}

fn unsealed(shared: &Shared, deployment: &str, value: &Value) -> Result<Option<Value>, String> {
    let Some(object) = value.as_object().filter(|object| object.len() == 1) else { return Ok(None) };
    let Some(text) = object.get(SEALED).and_then(Value::as_str) else { return Ok(None) };
    let bytes = STANDARD.decode(text).map_err(|_| format!("`{SEALED}` is not base64"))?;
    let clear = shared.sealer.open(&place(deployment), &Sealed::stored(bytes)).map_err(|error| error.to_string())?;
    serde_json::from_slice(&clear).map(Some).map_err(|_| format!("`{SEALED}` holds no value"))
}

fn place(deployment: &str) -> Place<'_> {
    Place { table: "document", row: deployment, column: "value" }
}
