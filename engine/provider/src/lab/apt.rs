//! Where the lab's machines get their packages from: the same mirror that this machine uses.
//!
//! Nothing is assumed about a mirror. What the host's apt is told to use for the suite is used for the base image and
//! inside the nodes, with the host's proxy.

use std::fs;
use std::path::Path;

use crate::lab::command::{Trouble, attempt};

/// One stanza of apt's sources, as far as a lab needs it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Source {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
    binary: bool,
}

/// Where the packages of one suite come from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mirror {
    /// What debootstrap is given.
    pub(crate) uri: String,
    /// `sources.list` of the nodes.
    pub(crate) sources: String,
}

impl Mirror {
    /// A mirror that the caller names; it has to carry the suite itself, updates are not looked for.
    pub(crate) fn given(uri: &str, suite: &str) -> Self {
        Self { uri: uri.to_owned(), sources: format!("deb {uri} {suite} main\n") }
    }

    /// What this machine's apt uses for `suite`.
    pub(crate) fn of_host(suite: &str) -> Result<Self, Trouble> {
        choose(&host_sources(), suite).ok_or_else(|| {
            Trouble::Needs(format!(
                "a mirror of Debian {suite}, and this machine's apt sources name none: add one under \
                 /etc/apt/sources.list.d, or give the lab a mirror"
            ))
        })
    }
}

fn host_sources() -> Vec<Source> {
    let mut sources = fs::read_to_string("/etc/apt/sources.list").map(|text| one_line(&text)).unwrap_or_default();
    let mut files: Vec<_> =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|ext| ext.to_str()) {
            Some("list") => sources.extend(one_line(&text)),
            Some("sources") => sources.extend(deb822(&text)),
            _ => {}
        }
    }
    sources
}

/// The one-line format: `deb [options] uri suite component…`.
fn one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(one_source).collect()
}

fn one_source(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(str::to_owned),
        binary: kind == "deb",
    })
}

/// The stanza format of `.sources` files.
fn deb822(text: &str) -> Vec<Source> {
    let mut stanzas = vec![Vec::<(String, String)>::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let stanza = stanzas.last_mut().expect("there is always a stanza");
        if line.trim().is_empty() {
            stanzas.push(Vec::new());
        } else if line.starts_with(char::is_whitespace) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            stanza.push((key.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    stanzas.iter().filter(|stanza| !stanza.is_empty()).filter_map(|stanza| stanza_source(stanza)).collect()
}

fn stanza_source(stanza: &[(String, String)]) -> Option<Source> {
    let value = |key: &str| stanza.iter().find(|(have, _)| have == key).map(|(_, value)| value.as_str());
    let words = |key: &str| value(key).unwrap_or("").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if matches!(value("enabled"), Some("no" | "false" | "0")) {
        return None;
    }
    Some(Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: value("signed-by").map(str::to_owned),
        binary: words("types").iter().any(|kind| kind == "deb"),
    })
}

/// The distribution's own entries for the suite, its updates and its security updates. Others that happen to call their
/// suite by the same name are signed by a key of their own, which is how they are told apart.
fn choose(sources: &[Source], suite: &str) -> Option<Mirror> {
    let wanted = [suite.to_owned(), format!("{suite}-updates"), format!("{suite}-security")];
    let mut uri = None;
    let mut lines = String::new();
    for source in sources.iter().filter(|source| source.binary && source.components.iter().any(|c| c == "main")) {
        if source.signed_by.as_ref().is_some_and(|key| !key.contains("debian-archive")) {
            continue;
        }
        let reachable = source.uris.iter().filter(|uri| uri.starts_with("http://") || uri.starts_with("https://"));
        for (address, suite) in reachable.flat_map(|uri| source.suites.iter().map(move |suite| (uri, suite))) {
            if !wanted.contains(suite) {
                continue;
            }
            if *suite == wanted[0] && uri.is_none() {
                uri = Some(address.clone());
            }
            let line = format!("deb {address} {suite} main\n");
            if !lines.contains(&line) {
                lines.push_str(&line);
            }
        }
    }
    Some(Mirror { uri: uri?, sources: lines })
}

/// The proxies on this machine as `(apt's option, url)`: apt's own, else those of the environment, which apt heeds too.
pub(crate) fn proxies() -> Vec<(&'static str, String)> {
    const OPTIONS: [(&str, &str); 2] =
        [("http_proxy", "Acquire::http::Proxy"), ("https_proxy", "Acquire::https::Proxy")];
    let arguments = OPTIONS.map(|(name, option)| [name, option]).concat();
    let text = attempt("apt-config", &[&["shell"], arguments.as_slice()].concat())
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let own = |name| shell_value(&text, name);
    let environment = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
    OPTIONS
        .iter()
        .filter_map(|&(name, option)| Some((option, own(name).or_else(|| environment(name))?)))
        .filter(|(_, url)| url != "DIRECT")
        .collect()
}

/// The value of `name='value'` in what `apt-config shell` prints.
fn shell_value(text: &str, name: &str) -> Option<String> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .map(|value| value.trim_matches('\'').to_owned())
        .filter(|value| !value.is_empty())
}

/// apt's configuration inside a node: the host's proxies, where one on the host's loopback is reached by the bridge.
pub(crate) fn node_config(proxies: &[(&'static str, String)], gateway: &str) -> String {
    let mut text = String::new();
    for (option, url) in proxies {
        let url = url.replace("//localhost", &format!("//{gateway}")).replace("//127.0.0.1", &format!("//{gateway}"));
        text.push_str(option);
        text.push_str(" \"");
        text.push_str(&url);
        text.push_str("\";\n");
    }
    text
}

/// Does this host verify what it downloads with the distribution's keys? Without them debootstrap would not.
pub(crate) fn keyring() -> Option<&'static Path> {
    let path = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
    path.exists().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, sources: &str, expect: Option<(&str, &str)>) {
        let mut all = one_line(list);
        all.extend(deb822(sources));
        let expect = expect.map(|(uri, sources)| Mirror { uri: uri.to_owned(), sources: sources.to_owned() });
        assert_eq!(choose(&all, "bookworm"), expect);
    }

    #[test]
    fn reads_the_stanza_format() {
        check(
            "",
            "# the archive\nTypes: deb deb-src\nURIs: http://mirror.test/debian\nSuites: bookworm\n bookworm-updates\n\
             Components: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\n\
             Types: deb\nURIs: http://mirror.test/security\nSuites: bookworm-security\nComponents: main\n",
            Some((
                "http://mirror.test/debian",
                "deb http://mirror.test/debian bookworm main\ndeb http://mirror.test/debian bookworm-updates main\n\
                 deb http://mirror.test/security bookworm-security main\n",
            )),
        );
    }

    #[test]
    fn reads_the_one_line_format() {
        check(
            "# deb http://off.test bookworm main\ndeb-src http://src.test bookworm main\n\
             deb [arch=amd64 signed-by=/x/debian-archive-keyring.gpg] https://mirror.test/debian bookworm main # why\n",
            "",
            Some(("https://mirror.test/debian", "deb https://mirror.test/debian bookworm main\n")),
        );
    }

    #[test]
    fn passes_over_what_is_not_the_archive() {
        check(
            "deb [signed-by=/x/tool.gpg] https://tool.test bookworm main\ndeb cdrom:[x]/ bookworm main\n\
             deb https://other.test bookworm stable\ndeb https://next.test trixie main\n",
            "Types: deb\nEnabled: no\nURIs: http://off.test\nSuites: bookworm\nComponents: main\n",
            None,
        );
    }

    #[test]
    fn a_proxy_on_the_host_is_reached_by_the_bridge() {
        let text = "http_proxy='http://127.0.0.1:3142/'\nhttps_proxy=''\n";
        assert_eq!(shell_value(text, "http_proxy"), Some("http://127.0.0.1:3142/".to_owned()));
        assert_eq!(shell_value(text, "https_proxy"), None);
        assert_eq!(
            node_config(&[("Acquire::http::Proxy", "http://localhost:3142".to_owned())], "10.213.7.1"),
            "Acquire::http::Proxy \"http://10.213.7.1:3142\";\n"
        );
    }
}
