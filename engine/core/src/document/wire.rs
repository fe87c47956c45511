//! `from:`, parsed: `[each | map | one] SUPPLIER.OUTPUT[.path] [in GROUP]`, `node.FACT`, `deployment.FIELD`,
//! `import NAME.OUTPUT`, `at ROLE.OUTPUT`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which instances of the supplier are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The instance on this node, or on the virtual node.
    Own,
    /// All instances, as an array ordered by node name.
    Each,
    /// All instances, as an object keyed by node name.
    Map,
    /// The one instance that the chooser keeps.
    One,
    /// The instance on the node chosen by `at`.
    At,
    /// An export of another deployment.
    Import,
}

/// A parsed wire. `supplier` may be `node` or `deployment`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wire {
    /// Which instances.
    pub scope: Scope,
    /// A role, an interface, a local name of `uses`, `node`, `deployment`, or the name of an import.
    pub supplier: String,
    /// The output, fact or field; missing means all outputs of an interface.
    pub output: Option<String>,
    /// Further keys into the value.
    pub path: Vec<String>,
    /// Only instances in this group.
    pub group: Option<String>,
}

/// Why a text is not a wire.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a wire: {reason}")]
pub struct WireError {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Wire {
    /// Does it read facts of nodes, not outputs of a role?
    pub fn reads_node(&self) -> bool {
        self.supplier == "node" && self.scope != Scope::Import
    }

    /// Does it read the deployment itself?
    pub fn reads_deployment(&self) -> bool {
        self.supplier == "deployment" && self.scope == Scope::Own
    }
}

impl FromStr for Wire {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        let fail = |reason: &str| WireError { text: text.to_owned(), reason: reason.to_owned() };
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let scope = match words.first().copied() {
            Some("each") => Scope::Each,
            Some("map") => Scope::Map,
            Some("one") => Scope::One,
            Some("at") => Scope::At,
            Some("import") => Scope::Import,
            Some(_) => Scope::Own,
            None => return Err(fail("it is empty")),
        };
        if scope != Scope::Own {
            words.remove(0);
        }
        let group = match words.as_slice() {
            [_] => None,
            [_, "in", group] => Some((*group).to_owned()),
            [] => return Err(fail("the supplier is missing")),
            _ => return Err(fail("expected [each | map | one | at | import] SUPPLIER.OUTPUT [in GROUP]")),
        };
        if group.is_some() && !matches!(scope, Scope::Each | Scope::Map | Scope::One) {
            return Err(fail("`in GROUP` goes with `each`, `map` or `one`"));
        }
        let mut parts = words[0].split('.').map(str::to_owned);
        let supplier = parts.next().unwrap_or_default();
        let output = parts.next();
        let path: Vec<String> = parts.collect();
        if supplier.is_empty() || output.as_deref() == Some("") || path.iter().any(String::is_empty) {
            return Err(fail("a part between the dots is empty"));
        }
        let wire = Self { scope, supplier, output, path, group };
        if wire.output.is_none() && (wire.reads_node() || wire.reads_deployment() || scope == Scope::Import) {
            return Err(fail("it names no fact, field or output"));
        }
        if wire.supplier == "deployment" && scope != Scope::Own {
            return Err(fail("there is only one deployment: drop the scope word"));
        }
        if wire.reads_node() && matches!(scope, Scope::One) {
            return Err(fail("`one` chooses among instances of a role, not among nodes"));
        }
        Ok(wire)
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = match self.scope {
            Scope::Own => "",
            Scope::Each => "each ",
            Scope::Map => "map ",
            Scope::One => "one ",
            Scope::At => "at ",
            Scope::Import => "import ",
        };
        write!(f, "{scope}{}", self.supplier)?;
        for part in self.output.iter().chain(&self.path) {
            write!(f, ".{part}")?;
        }
        match &self.group {
            Some(group) => write!(f, " in {group}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Wire;

    #[test]
    fn wires_read_and_print_alike() {
        for text in [
            "node.address",
            "map node.address",
            "each etcd-identity.member",
            "etcd-identity.member.peer_url",
            "one etcd.client_url in members",
            "at etcd.server_tls_files",
            "import store.endpoints",
            "deployment.name",
            "container-runtime",
        ] {
            assert_eq!(text.parse::<Wire>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "each", "node", "a..b", "x.y in g", "each x.y of g", "map deployment.name", "one node.name"] {
            assert!(text.parse::<Wire>().is_err(), "{text}");
        }
    }
}
