//! What a name means: a local of `uses`, a role, or an interface; and texts that are one expression.

use crate::catalog::Catalog;

/// What a supplier is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    /// A role of the catalog; its deployment role has the same name.
    Role(&'a str),
    /// An interface.
    Interface(&'a str),
    /// Nobody knows it.
    Unknown,
}

/// What a name that is no local means.
pub(super) fn global<'a>(catalog: &'a Catalog, name: &str) -> Named<'a> {
    if let Some((name, _)) = catalog.roles.get_key_value(name) {
        return Named::Role(name);
    }
    if let Some((name, _)) = catalog.interfaces.get_key_value(name) {
        return Named::Interface(name);
    }
    let provided = catalog.roles.values().flat_map(|role| &role.doc.provides).find(|provided| *provided == name);
    provided.map_or(Named::Unknown, |name| Named::Interface(name))
}

/// The expression of a text that is exactly `{{ EXPRESSION }}`.
pub(super) fn only_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let inner = inner.strip_prefix('-').unwrap_or(inner);
    let inner = inner.strip_suffix('-').unwrap_or(inner).trim();
    (!inner.contains("{{") && !inner.contains("}}") && !inner.is_empty()).then_some(inner)
}

/// The name in a text that is exactly `{{ NAME }}`.
pub(super) fn only_name(text: &str) -> Option<&str> {
    only_expression(text).filter(|name| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::{only_expression, only_name};

    #[test]
    fn a_text_that_is_one_expression_is_seen() {
        assert_eq!(only_name("{{ data_dir }}"), Some("data_dir"));
        assert_eq!(only_name("{{ a.b }}"), None);
        assert_eq!(only_expression("{{ a.b }}"), Some("a.b"));
        assert_eq!(only_expression("{{ a }}{{ b }}"), None);
        assert_eq!(only_expression("x {{ a }}"), None);
        assert_eq!(only_expression("{{}}"), None);
    }
}
