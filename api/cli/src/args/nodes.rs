//! Arguments of `plinth node`.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

/// What can be done with nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List them.
    List,
    /// Show one with its node roles.
    Show {
        /// Its name.
        name: String,
    },
    /// Adopt the hosts that a file describes.
    #[command(after_help = "Example:\n  plinth node add docs/examples/ssh-nodes.yaml")]
    Add {
        /// Node documents; `-` is standard input.
        file: PathBuf,
    },
    /// Put a node aside: nothing begins on it, it is out of gathers, and nobody waits for it until it is back in.
    #[command(
        after_help = "What runs there ends. It counts as out of service in every budget; where there was no room for that, you are told.\n\n\
        Example:\n  plinth node aside blue-members-2"
    )]
    Aside {
        /// Its name.
        name: String,
    },
    /// Take a node back in that stood aside.
    #[command(after_help = "Example:\n  plinth node in blue-members-2")]
    In {
        /// Its name.
        name: String,
    },
    /// Give up a node that a deployment uses: it is dead, and never comes back.
    #[command(
        after_help = "Nothing is removed from it, nobody waits for it, and who gathers from its role goes on without it.\n\
        Apply the document again to have another one in its place.\n\nExample:\n  plinth node lost blue-members-2 --yes"
    )]
    Lost {
        /// Its name.
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Set labels of a node, and take others away. Whoever reads one runs again; `select` and rules see them.
    #[command(
        after_help = "Examples:\n  plinth node label rack1-a rack=7 ssd=true   numbers, true and false are what they look like\n  \
        plinth node label rack1-a pool-             takes it away"
    )]
    Label {
        /// Its name.
        name: String,
        /// `LABEL=VALUE`, or `LABEL-` to take it away.
        #[arg(required = true, value_parser = label, value_name = "LABEL")]
        labels: Vec<Label>,
    },
    /// Let go of a node that no deployment uses: its host keeps neither our agent nor our key.
    #[command(after_help = "Example:\n  plinth node remove rack1-a")]
    Remove {
        /// Its name.
        name: String,
        /// Without a word to its host: it is dead, or belongs to others by now. What is ours there stays there.
        #[arg(long)]
        force: bool,
    },
}

/// A label to be set, or taken away.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Label {
    /// It has this value.
    Set(String, Value),
    /// It has none.
    Remove(String),
}

fn label(text: &str) -> Result<Label, String> {
    let named = |name: &str| {
        if name.is_empty() { Err("expected LABEL=VALUE or LABEL-".to_owned()) } else { Ok(name.to_owned()) }
    };
    match (text.split_once('='), text.strip_suffix('-')) {
        (Some((name, value)), _) => {
            let plain =
                serde_json::from_str(value).ok().filter(|value: &Value| value.is_number() || value.is_boolean());
            Ok(Label::Set(named(name)?, plain.unwrap_or_else(|| Value::String(value.to_owned()))))
        }
        (None, Some(name)) => Ok(Label::Remove(named(name)?)),
        (None, None) => Err("expected LABEL=VALUE or LABEL-".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Label, label};

    #[test]
    fn labels_are_read_or_refused() {
        let set = |name: &str, value| Ok(Label::Set(name.to_owned(), value));
        assert_eq!(label("rack=7"), set("rack", json!(7)));
        assert_eq!(label("ssd=true"), set("ssd", json!(true)));
        assert_eq!(label("row=a=b"), set("row", json!("a=b")));
        assert_eq!(label("list=[1]"), set("list", json!("[1]")));
        assert_eq!(label("none="), set("none", json!("")));
        assert_eq!(label("rack-"), Ok(Label::Remove("rack".to_owned())));
        for wrong in ["", "-", "=", "rack", "=7"] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }
}
