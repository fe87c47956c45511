//! `plinth plan --dry-run`.

use std::path::Path;
use std::process::ExitCode;

use engine_core::plan::dry_run::{DryRun, DryRunView};

use crate::args::Output;
use crate::drift::diffs;
use crate::output::{CliError, Context, document, print};

/// Asks the nodes what steps would change there, and prints it.
pub(crate) async fn dry_run(context: &Context, file: &Path) -> Result<ExitCode, CliError> {
    let all = context.client.dry_run(&document(file)?).await?;
    let places = || all.iter().flat_map(|one| &one.node_roles).map(place).collect();
    if context.output == Output::Markdown {
        print(&all.iter().map(markdown).collect::<Vec<_>>().join("\n"))?;
    } else {
        context.print(&all, places, || all.iter().map(text).collect())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn place(one: &DryRunView) -> String {
    format!("{}/{}", one.node, one.role)
}

fn text(of: &DryRun) -> String {
    if of.node_roles.is_empty() {
        return format!("{}: nothing runs again\n", of.deployment);
    }
    let mut text = String::new();
    for one in &of.node_roles {
        text += &match (&one.code, &one.message) {
            (Some(code), Some(message)) => format!("{}: [{code}] {message}\n", place(one)),
            _ if one.diffs.is_empty() => format!("{}: changes nothing that can be told before\n", place(one)),
            _ => format!("{}\n", place(one)),
        };
        text += &diffs(&one.diffs);
    }
    text
}

/// For a pull request: what differs stands in blocks that nothing in it can end.
fn markdown(of: &DryRun) -> String {
    let mut text = format!("### What would change on the nodes of `{}`\n", of.deployment);
    if of.node_roles.is_empty() {
        text += "\nNothing runs again.\n";
    }
    for one in &of.node_roles {
        text += &format!("\n`{}`", place(one));
        text += &match (&one.code, &one.message) {
            (Some(code), Some(message)) => format!(": [{code}] {}\n", message.replace('\n', " ")),
            _ if one.diffs.is_empty() => " changes nothing that can be told before.\n".to_owned(),
            _ => ":\n".to_owned(),
        };
        if !one.diffs.is_empty() {
            let block = diffs(&one.diffs);
            let fence = "`".repeat(longest_run(&block).max(2) + 1);
            text += &format!("\n{fence}diff\n{}{fence}\n", unindented(&block));
        }
    }
    text
}

/// Lines of a difference begin with their sign, so that they are coloured.
fn unindented(block: &str) -> String {
    let line = |line: &str| match line.strip_prefix("    ") {
        Some(differs) => format!("{differs}\n"),
        None => format!("# {}\n", line.trim_start()),
    };
    block.lines().map(line).collect()
}

/// The longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use engine_core::plan::dry_run::{DryRun, DryRunView};
    use engine_core::view::DriftDiff;

    use super::markdown;

    #[test]
    fn what_would_change_stands_in_blocks_that_it_can_not_end() {
        let diff = |text: &str| DriftDiff { step: "file".into(), what: "/etc/motd".into(), text: text.into() };
        let view = |node: &str, diffs, code: Option<&str>| {
            let (code, message) = (code.map(str::to_owned), code.map(|_| "no\nanswer".to_owned()));
            DryRunView { node: node.into(), role: "motd".into(), diffs, code, message }
        };
        let node_roles = vec![
            view("a", vec![diff("-old\n+```\n+## new\n")], None),
            view("b", Vec::new(), Some("node-unreachable")),
            view("c", Vec::new(), None),
        ];
        insta::assert_snapshot!(markdown(&DryRun { deployment: "blue".into(), node_roles }), @r"
        ### What would change on the nodes of `blue`

        `a/motd`:

        ````diff
        # file: /etc/motd
        -old
        +```
        +## new
        ````

        `b/motd`: [node-unreachable] no answer

        `c/motd` changes nothing that can be told before.
        ");
    }
}
