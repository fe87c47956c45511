//! Reading a provider's options from a document.

use engine_core::document::Object;
use serde::de::DeserializeOwned;

use crate::ProviderError;

/// The options of one node, read one by one so that a message names the one that is wrong.
pub(crate) struct Options<'a> {
    provider: &'static str,
    with: &'a Object,
}

impl<'a> Options<'a> {
    /// Refuses options that are not among `known`.
    pub(crate) fn new(provider: &'static str, with: &'a Object, known: &[&str]) -> Result<Self, ProviderError> {
        let Some(unknown) = with.keys().find(|key| !known.contains(&key.as_str())) else {
            return Ok(Self { provider, with });
        };
        let reason = if known.is_empty() {
            "there is no such option; this provider has none".to_owned()
        } else {
            format!("there is no such option; there are: {}", known.join(", "))
        };
        Err(ProviderError::Option { provider, option: unknown.clone(), reason })
    }

    /// One option, if it is given.
    pub(crate) fn get<T: DeserializeOwned>(&self, option: &str) -> Result<Option<T>, ProviderError> {
        let Some(value) = self.with.get(option) else { return Ok(None) };
        match T::deserialize(value) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.wrong(option, error.to_string())),
        }
    }

    /// The error for a value of `option` that can not be used.
    pub(crate) fn wrong(&self, option: &str, reason: impl Into<String>) -> ProviderError {
        ProviderError::Option { provider: self.provider, option: option.to_owned(), reason: reason.into() }
    }
}
