//! The provider `ssh`: hosts that exist already and are only adopted.
//!
//! Options: `address` (an IP address or a name), `port`, `user`, `host_key` (one or several, OpenSSH one-line form).
//! Creating a node checks the options and that an SSH server answers; destroying it forgets the host and does not touch it.
//! Which hosts are adopted is kept in one small file, so an engine that starts again knows them; an engine elsewhere that
//! shares the database adopts them anew by the same options.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use engine_core::document::Object;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::options::Options;
use crate::{Access, NodeRequest, NodeStatus, Power, Provider, ProviderError, banner};

const NAME: &str = "ssh";

/// All options that there are.
const KNOWN: [&str; 4] = ["address", "port", "user", "host_key"];

/// A host that does not answer for so long is not adopted.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// Hosts that exist already.
pub struct Ssh {
    file: PathBuf,
    answers_within: Duration,
    /// Held while the file is read and replaced; one engine is one process.
    lock: Mutex<()>,
}

impl Ssh {
    /// Keeps what it has adopted in this file.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), answers_within: ANSWERS_WITHIN, lock: Mutex::new(()) }
    }

    /// The same, with another limit for a host to answer.
    #[must_use]
    pub fn answering_within(mut self, limit: Duration) -> Self {
        self.answers_within = limit;
        self
    }

    async fn read(&self) -> Result<BTreeMap<String, Access>, ProviderError> {
        let text = match tokio::fs::read(&self.file).await {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(self.failed("reading", error)),
        };
        serde_json::from_slice(&text).map_err(|error| self.failed("reading", error))
    }

    async fn write(&self, hosts: &BTreeMap<String, Access>) -> Result<(), ProviderError> {
        let text = serde_json::to_vec_pretty(hosts).expect("names and addresses are strings");
        let fresh = self.file.with_extension("new");
        if let Some(folder) = self.file.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(|error| self.failed("writing", error))?;
        }
        tokio::fs::write(&fresh, text).await.map_err(|error| self.failed("writing", error))?;
        tokio::fs::rename(&fresh, &self.file).await.map_err(|error| self.failed("writing", error))
    }

    fn failed(&self, doing: &'static str, error: impl std::fmt::Display) -> ProviderError {
        ProviderError::Failed {
            provider: NAME,
            doing,
            node: self.file.display().to_string(),
            reason: error.to_string(),
        }
    }

    /// The first of the host's addresses at which an SSH server answers.
    async fn find(&self, request: &NodeRequest, host: &Host) -> Result<IpAddr, ProviderError> {
        let options = Options::new(NAME, &request.with, &KNOWN)?;
        let target = (host.address.as_str(), host.port);
        let found: Vec<SocketAddr> = match tokio::net::lookup_host(target).await {
            Ok(found) => found.collect(),
            Err(error) => return Err(options.wrong("address", format!("`{}` is not found: {error}", host.address))),
        };
        let mut reason = String::from("the name has no address");
        for address in &found {
            match banner::wait(*address, self.answers_within, || None).await {
                Ok(_) => return Ok(address.ip()),
                Err(error) => reason = error.to_string(),
            }
        }
        let address = format!("{}:{}", host.address, host.port);
        Err(ProviderError::Silent { node: request.name.clone(), address, limit: self.answers_within, reason })
    }
}

/// The options, checked.
#[derive(Debug, PartialEq)]
struct Host {
    address: String,
    port: u16,
    user: String,
    host_keys: Vec<String>,
}

/// One key or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Host {
    fn parse(with: &Object) -> Result<Self, ProviderError> {
        let options = Options::new(NAME, with, &KNOWN)?;
        let address: String = options
            .get("address")?
            .ok_or_else(|| options.wrong("address", "is needed: the IP address or the name of the host"))?;
        if address.is_empty() || address.contains(|char: char| char.is_whitespace() || char == '/' || char == '@') {
            return Err(options.wrong("address", format!("`{address}` is neither an IP address nor a host name")));
        }
        let port = options.get("port")?.unwrap_or(22);
        if port == 0 {
            return Err(options.wrong("port", "is a number from 1 to 65535"));
        }
        let user: String = options.get("user")?.unwrap_or_else(|| "root".to_owned());
        if !is_user(&user) {
            return Err(options.wrong("user", format!("`{user}` is no name of a user")));
        }
        let host_keys = match options.get("host_key")? {
            None => Vec::new(),
            Some(OneOrMore::One(key)) => vec![key],
            Some(OneOrMore::More(keys)) => keys,
        };
        if let Some(wrong) = host_keys.iter().find(|key| !is_key(key)) {
            let reason = format!("`{wrong}` is no public key; expected one line such as `ssh-ed25519 AAAA…`");
            return Err(options.wrong("host_key", reason));
        }
        Ok(Self { address, port, user, host_keys: host_keys.iter().map(|key| key.trim().to_owned()).collect() })
    }
}

fn is_user(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_key(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let (Some(kind), Some(data)) = (words.next(), words.next()) else { return false };
    // Every key begins with the length of its kind's name, three zero bytes and one more, which is `AAAA` in base64.
    (kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-"))
        && data.starts_with("AAAA")
        && data.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
        && !line.trim().contains('\n')
}

#[async_trait]
impl Provider for Ssh {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn create(&self, request: &NodeRequest) -> Result<Access, ProviderError> {
        let host = Host::parse(&request.with)?;
        let address = self.find(request, &host).await?.to_string();
        let access =
            Access { address, port: host.port, user: host.user, host_keys: host.host_keys, facts: Object::new() };
        let _lock = self.lock.lock().await;
        let mut hosts = self.read().await?;
        let same = |other: &Access| other.address == access.address && other.port == access.port;
        if let Some((name, _)) = hosts.iter().find(|(name, other)| **name != request.name && same(other)) {
            let reason = format!("{}:{} is node `{name}` already", access.address, access.port);
            return Err(ProviderError::Option { provider: NAME, option: "address".to_owned(), reason });
        }
        hosts.insert(request.name.clone(), access.clone());
        self.write(&hosts).await?;
        Ok(access)
    }

    async fn status(&self, node: &str) -> Result<NodeStatus, ProviderError> {
        // Whether a host that is not ours is switched on is not ours to know; who wants to talk to it will see.
        Ok(match self.read().await?.remove(node) {
            Some(access) => NodeStatus::Running { access },
            None => NodeStatus::Absent,
        })
    }

    async fn power(&self, _node: &str, power: Power) -> Result<(), ProviderError> {
        let what = match power {
            Power::On => "switch on a host that it only adopted",
            Power::Off => "switch off a host that it only adopted",
            Power::Reboot => "reboot a host that it only adopted",
        };
        Err(ProviderError::Unsupported { provider: NAME, what })
    }

    async fn console(&self, _node: &str, _lines: usize) -> Result<String, ProviderError> {
        Err(ProviderError::Unsupported { provider: NAME, what: "read the console of a host that it only adopted" })
    }

    async fn destroy(&self, node: &str) -> Result<(), ProviderError> {
        let _lock = self.lock.lock().await;
        let mut hosts = self.read().await?;
        if hosts.remove(node).is_some() {
            self.write(&hosts).await?;
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<String>, ProviderError> {
        Ok(self.read().await?.into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(with: serde_json::Value) -> Result<Host, String> {
        Host::parse(with.as_object().expect("an object")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_address_is_enough() {
        let host = parse(json!({"address": "192.0.2.7"})).expect("options");
        assert_eq!((host.port, host.user.as_str(), host.host_keys.len()), (22, "root", 0));
    }

    #[test]
    fn wrong_options_are_named() {
        for (with, expect) in [
            (json!({}), "option `address` of provider `ssh`: is needed"),
            (json!({"address": 7}), "option `address` of provider `ssh`: invalid type"),
            (json!({"address": "root@a"}), "option `address` of provider `ssh`: `root@a` is neither"),
            (json!({"address": "a", "port": 0}), "option `port` of provider `ssh`: is a number from 1"),
            (json!({"address": "a", "port": 70000}), "option `port` of provider `ssh`: invalid value"),
            (json!({"address": "a", "user": "-o x"}), "option `user` of provider `ssh`: `-o x` is no name"),
            (json!({"address": "a", "host_key": "x"}), "option `host_key` of provider `ssh`: `x` is no public key"),
            (json!({"address": "a", "adress": "b"}), "option `adress` of provider `ssh`: there is no such option"),
        ] {
            let error = parse(with.clone()).expect_err("refused");
            assert!(error.starts_with(expect), "{with}: {error}");
        }
    }

    #[test]
    fn one_key_or_several() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJy root@a";
        assert_eq!(parse(json!({"address": "a", "host_key": key})).expect("one").host_keys, [key]);
        assert_eq!(parse(json!({"address": "a", "host_key": [key, key]})).expect("two").host_keys, [key, key]);
    }
}
