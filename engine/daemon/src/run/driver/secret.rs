//! `secret.random`: a value that nobody chose and nobody has to know.

use engine_agent::protocol::Mode;
use engine_core::compile::duration;
use engine_core::document::Object;
use engine_store::{StoreError, secrets};
use rand::RngExt as _;
use serde::Deserialize;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Did, Work};

/// The characters of a password: none that a shell, a URL or a configuration file takes for something else.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// Letters and digits.
    Letters,
    /// Bytes as hexadecimal digits.
    Hex,
    /// Bytes as base64 (RFC 4648, section 4).
    Base64,
}

#[derive(Debug, Deserialize)]
struct Inputs {
    form: Form,
    length: usize,
    lifetime: String,
}

/// Makes a value, and another one when its time is over or it is to be of another kind. It stays what it is otherwise.
pub(super) async fn random(work: &Work<'_>) -> Result<Did, StoreError> {
    if work.mode != Mode::Apply {
        return Ok(Did::nothing());
    }
    let now = OffsetDateTime::now_utc();
    let before = secrets::before(&work.shared.pool, work.job.vertex).await?;
    if let Some(before) = before.filter(|before| before.inputs == work.job.inputs)
        && before.renew_at.is_none_or(|at| at > now)
        && before.outputs.contains_key("value")
    {
        return Ok(Did::Told(before.outputs));
    }
    let wanted: Inputs = match work.read() {
        Ok(wanted) => wanted,
        Err(did) => return Ok(did),
    };
    let seconds = match duration::seconds(&wanted.lifetime) {
        Ok(seconds) => i64::try_from(seconds).unwrap_or(i64::MAX),
        Err(error) => return Ok(Did::failed("input-invalid", format!("`lifetime`: {error}"))),
    };
    let ends = now.checked_add(Duration::seconds(seconds)).and_then(|ends| ends.format(&Rfc3339).ok());
    let Some(renew_at) = ends else {
        return Ok(Did::failed("input-invalid", "`lifetime` is longer than there are years".to_owned()));
    };
    let value = make(&wanted);
    Ok(Did::Told(Object::from_iter([("value".to_owned(), json!(value)), ("renew_at".to_owned(), json!(renew_at))])))
}

fn make(wanted: &Inputs) -> String {
    let mut random = rand::rng();
    match wanted.form {
        Form::Letters => {
            (0..wanted.length).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
        }
        Form::Hex | Form::Base64 => {
            let bytes: Vec<u8> = (0..wanted.length).map(|_| random.random()).collect();
            if matches!(wanted.form, Form::Hex) { hex::encode(bytes) } else { STANDARD.encode(bytes) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_long_as_asked_for_and_never_the_same() {
        for (form, long) in [(Form::Letters, 24), (Form::Hex, 48), (Form::Base64, 32)] {
            let wanted = Inputs { form, length: 24, lifetime: "1d".to_owned() };
            let (one, two) = (make(&wanted), make(&wanted));
            assert_eq!((one.len(), two.len()), (long, long));
            assert_ne!(one, two);
        }
    }
}
