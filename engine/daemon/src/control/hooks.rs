//! Web hooks.

use std::time::Instant;

use engine_core::hook;
use engine_core::view::{HookAdded, HookRequest, HookTest, HookView, Refusal, RefusalKind};
use engine_store::hooks::{self, Hook};
use engine_store::read;
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Control, store};
use crate::hooks as deliveries;
use crate::hooks::post::{PostError, Target};

impl Control {
    /// All hooks, by name.
    ///
    /// # Errors
    /// The database can not be read.
    pub async fn hooks(&self) -> Result<Vec<HookView>, Refusal> {
        hooks::all(&self.shared.pool).await.map_err(store)
    }

    /// Lets events be sent somewhere, from now on.
    ///
    /// # Errors
    /// Events can not be sent there, the secret is none, or the name is taken.
    pub async fn add_hook(&self, what: &HookRequest, by: &str) -> Result<HookAdded, Refusal> {
        let invalid = |code: &str, message: String| Refusal::new(RefusalKind::Invalid, code, message);
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !what.name.starts_with(|c: char| c.is_ascii_lowercase())
            || !what.name.chars().all(fits)
            || what.name.len() > 63
        {
            let message =
                format!("`{}` is no name: expected lower case letters, digits and dashes, a letter first", what.name);
            return Err(invalid("bad-hook", message));
        }
        let is_kind = |kind: &String| {
            let begin = kind.strip_suffix('*').unwrap_or(kind);
            kind == "*" || (!begin.is_empty() && begin.chars().all(|c| fits(c) || c == '.'))
        };
        if let Some(kind) = what.kinds.iter().find(|kind| !is_kind(kind)) {
            let message = format!("`{kind}` is no kind of events: expected one such as `node.up`, or `node.*`");
            return Err(invalid("bad-hook", message));
        }
        Target::new(&what.url, what.ca.as_deref()).map_err(|error| invalid(error.code(), error.to_string()))?;
        let key = match &what.secret {
            None => Zeroizing::new(rand::random::<[u8; 32]>().to_vec()),
            Some(text) => Zeroizing::new(hook::key(text).ok_or_else(|| {
                let expected = "expected `whsec_` and base64 of 24 to 64 bytes";
                invalid("bad-hook", format!("the secret is none that can sign: {expected}"))
            })?),
        };
        let id = Uuid::now_v7();
        let place = id.to_string();
        let sealed = self.shared.sealer.seal(&deliveries::place(&place), &key);
        let after = read::head(&self.shared.pool).await.map_err(store)?;
        let fresh = Hook {
            id,
            name: what.name.clone(),
            url: what.url.clone(),
            kinds: what.kinds.clone(),
            deployments: what.deployments.clone(),
            secret: sealed.bytes().to_vec(),
            ca: what.ca.clone(),
            after,
            failed: 0,
        };
        if !hooks::add(&self.shared.pool, &fresh, by).await.map_err(store)? {
            let message = format!("there is a hook `{}` already", what.name);
            return Err(Refusal::new(RefusalKind::Conflict, "duplicate-hook", message));
        }
        let all = self.hooks().await?;
        let hook = all.into_iter().find(|one| one.name == what.name).ok_or_else(|| unknown(&what.name))?;
        Ok(HookAdded { hook, secret: hook::secret(&key) })
    }

    /// Sends no more to a hook.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn remove_hook(&self, name: &str, by: &str) -> Result<(), Refusal> {
        if hooks::remove(&self.shared.pool, name, by).await.map_err(store)? { Ok(()) } else { Err(unknown(name)) }
    }

    /// Sends an event of kind `hook.test` to a hook, beside all others.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn test_hook(&self, name: &str, by: &str) -> Result<HookTest, Refusal> {
        let hook = hooks::named(&self.shared.pool, name).await.map_err(store)?.ok_or_else(|| unknown(name))?;
        let key = deliveries::key(&self.shared, &hook).map_err(store)?;
        let event = deliveries::trial(by);
        let id = format!("test_{}", Uuid::now_v7());
        let (began, body) = (Instant::now(), hook::body(&event).to_string());
        let sent = match Target::new(&hook.url, hook.ca.as_deref()) {
            Ok(target) => deliveries::send(&target, &key, &id, OffsetDateTime::now_utc(), &event.kind, body).await,
            Err(error) => Err(error),
        };
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (code, message) = sent.as_ref().err().map(|error| (error.code().to_owned(), error.to_string())).unzip();
        let status = sent.as_ref().ok().copied().or_else(|| sent.as_ref().err().and_then(PostError::status));
        Ok(HookTest { status, millis, code, message })
    }

    /// Goes past the event that a hook has failed to take; returns its number.
    ///
    /// # Errors
    /// There is no hook of this name, or nothing has failed.
    pub async fn skip_hook(&self, name: &str) -> Result<i64, Refusal> {
        let hook = hooks::named(&self.shared.pool, name).await.map_err(store)?.ok_or_else(|| unknown(name))?;
        let nothing = || {
            let message = format!("no delivery to hook `{name}` has failed since its last one");
            Refusal::new(RefusalKind::Conflict, "hook-not-failed", message)
        };
        if hook.failed == 0 {
            return Err(nothing());
        }
        let mut after = hook.after;
        loop {
            let page = read::outbox(&self.shared.pool, after, 200).await.map_err(store)?;
            let Some((last, _)) = page.last() else { return Err(nothing()) };
            after = *last;
            let wanted = |event: &_| hook::wants(&hook.kinds, &hook.deployments, event);
            let next = page.into_iter().find_map(|(seq, event)| event.filter(wanted).map(|_| seq));
            if let Some(event) = next {
                let done = hooks::skip(&self.shared.pool, &hook, event).await.map_err(store)?;
                return if done { Ok(event) } else { Err(nothing()) };
            }
        }
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(RefusalKind::NotFound, "unknown-hook", format!("there is no hook `{name}`"))
}
