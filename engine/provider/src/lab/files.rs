//! The files that make a copy of the base image one particular machine, written into its layer before it starts.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::lab::apt;
use crate::lab::command::{Doing, Trouble, run};
use crate::lab::state::NodeRecord;
use crate::lab::subnet::Subnet;

/// Writes them all; gives the public SSH host keys.
pub(crate) fn write(
    upper: &Path,
    name: &str,
    record: &NodeRecord,
    subnet: Subnet,
    mirror: Option<&str>,
) -> Result<Vec<String>, Trouble> {
    folder(upper, "", 0o755)?;
    for (path, mode) in [
        ("etc", 0o755),
        ("etc/ssh", 0o755),
        ("etc/apt", 0o755),
        ("etc/apt/apt.conf.d", 0o755),
        ("etc/systemd", 0o755),
        ("etc/systemd/network", 0o755),
    ] {
        folder(upper, path, mode)?;
    }
    put(upper, "etc/hostname", &format!("{name}\n"), 0o644)?;
    put(upper, "etc/hosts", &hosts(name, record.address), 0o644)?;
    put(upper, "etc/machine-id", &format!("{}\n", record.uuid.simple()), 0o444)?;
    put(upper, "etc/resolv.conf", &resolv_conf()?, 0o644)?;
    put(upper, "etc/systemd/network/10-plinth-lab.network", &network(record.address, subnet), 0o644)?;
    let gateway = subnet.gateway().to_string();
    put(upper, "etc/apt/apt.conf.d/90proxy", &apt::node_config(&apt::proxies(), &gateway), 0o644)?;
    if let Some(sources) = mirror {
        put(upper, "etc/apt/sources.list", sources, 0o644)?;
    }
    host_key(upper, name)
}

/// Who may log in as root. The machine must be off, or this its first start.
pub(crate) fn authorize(upper: &Path, keys: &[String]) -> Result<(), Trouble> {
    folder(upper, "root", 0o700)?;
    folder(upper, "root/.ssh", 0o700)?;
    put(upper, "root/.ssh/authorized_keys", &authorized_keys(keys), 0o600)
}

/// The file of those who may log in.
pub(crate) fn authorized_keys(keys: &[String]) -> String {
    let mut text = String::new();
    for key in keys {
        text.push_str(key.trim());
        text.push('\n');
    }
    text
}

/// The name servers of this machine that a node can reach.
pub(crate) fn resolv_conf() -> Result<String, Trouble> {
    let path = Path::new("/etc/resolv.conf");
    let text = fs::read_to_string(path).doing("reading", path)?;
    if !local_only(&text) {
        return Ok(text);
    }
    // systemd-resolved listens on loopback; the servers behind it are here.
    if let Ok(upstream) = fs::read_to_string("/run/systemd/resolve/resolv.conf")
        && !local_only(&upstream)
    {
        return Ok(upstream);
    }
    tracing::warn!("this machine's name servers listen on its loopback only; lab nodes will not resolve names");
    Ok(text)
}

fn local_only(text: &str) -> bool {
    !text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .any(|server| !matches!(server.trim(), server if server.starts_with("127.") || server == "::1"))
}

fn hosts(name: &str, address: Ipv4Addr) -> String {
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{address} {name}\n")
}

fn network(address: Ipv4Addr, subnet: Subnet) -> String {
    format!(
        "[Match]\nName=host0\n\n[Network]\nAddress={address}/{prefix}\nGateway={gateway}\nLinkLocalAddressing=no\n\
         IPv6AcceptRA=no\nLLDP=no\nEmitLLDP=no\n",
        prefix = subnet.prefix(),
        gateway = subnet.gateway(),
    )
}

fn host_key(upper: &Path, name: &str) -> Result<Vec<String>, Trouble> {
    let path = upper.join("etc/ssh/ssh_host_ed25519_key");
    let text = path.to_string_lossy();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", &format!("root@{name}"), "-f", &text])?;
    let public = path.with_extension("pub");
    let line = fs::read_to_string(&public).doing("reading", &public)?;
    Ok(vec![line.trim().to_owned()])
}

fn folder(upper: &Path, name: &str, mode: u32) -> Result<(), Trouble> {
    let path = upper.join(name);
    if !path.exists() {
        fs::DirBuilder::new().mode(mode).create(&path).doing("creating", &path)?;
    }
    // Regardless of the umask: a folder of this layer hides the mode that the image gives it.
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).doing("creating", &path)
}

fn put(upper: &Path, name: &str, text: &str, mode: u32) -> Result<(), Trouble> {
    let path = upper.join(name);
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(mode).open(&path).doing("creating", &path)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).doing("writing", &path)?;
    file.set_permissions(fs::Permissions::from_mode(mode)).doing("writing", &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_on_loopback_are_no_use_to_a_node() {
        assert!(local_only("nameserver 127.0.0.53\noptions edns0\n"));
        assert!(local_only("search example\n"));
        assert!(!local_only("nameserver 127.0.0.1\nnameserver 192.0.2.53\n"));
    }

    #[test]
    fn the_network_file_has_the_address_in_its_subnet() {
        let subnet: Subnet = "10.9.0.0/20".parse().expect("a subnet");
        let text = network(Ipv4Addr::new(10, 9, 3, 7), subnet);
        assert!(text.contains("Address=10.9.3.7/20\nGateway=10.9.0.1\n"), "{text}");
    }
}
