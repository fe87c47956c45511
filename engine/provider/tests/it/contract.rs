//! What every provider promises, stated once and run against all three.

use engine_core::document::Object;
use engine_provider::simulated::Simulated;
use engine_provider::ssh::Ssh;
use engine_provider::{NodeRequest, NodeStatus, Power, Provider};
use serde_json::{Value, json};

use crate::support::{Key, Sshd, TestLab};

/// Does the provider hold the machine, or has it only adopted it?
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Makes,
    Adopts,
}

async fn check(provider: &dyn Provider, kind: Kind, request: &NodeRequest) {
    let name = request.name.as_str();
    nothing_is_there(provider, kind, name).await;
    let mut wrong = request.clone();
    wrong.with.insert("colour".to_owned(), Value::from("red"));
    let error = provider.create(&wrong).await.expect_err("an unknown option is refused");
    assert_eq!(error.code(), "provider-option");
    assert!(error.to_string().starts_with(&format!("option `colour` of provider `{}`", provider.name())), "{error}");
    assert_eq!(provider.status(name).await.expect("a status"), NodeStatus::Absent, "a refused create makes nothing");

    let access = provider.create(request).await.expect("created");
    let running = NodeStatus::Running { access: access.clone() };
    assert_eq!(provider.status(name).await.expect("a status"), running);
    assert_eq!(provider.list().await.expect("a list"), [name]);
    access.address.parse::<std::net::IpAddr>().expect("the address is an IP address");
    assert_eq!(provider.create(request).await.expect("created again"), access, "a second create finds the first one's");
    assert_eq!(provider.list().await.expect("a list"), [name]);

    match kind {
        Kind::Makes => power_works(provider, name, &running).await,
        Kind::Adopts => {
            for power in [Power::On, Power::Off, Power::Reboot] {
                assert_eq!(provider.power(name, power).await.expect_err("refused").code(), "provider-unsupported");
            }
            assert_eq!(provider.console(name, 5).await.expect_err("refused").code(), "provider-unsupported");
        }
    }
    provider.destroy(name).await.expect("destroyed");
    nothing_is_there(provider, kind, name).await;
}

async fn nothing_is_there(provider: &dyn Provider, kind: Kind, name: &str) {
    assert_eq!(provider.status(name).await.expect("a status"), NodeStatus::Absent);
    assert!(provider.list().await.expect("a list").is_empty());
    provider.destroy(name).await.expect("what is not there is destroyed");
    if kind == Kind::Makes {
        for power in [Power::On, Power::Off, Power::Reboot] {
            assert_eq!(provider.power(name, power).await.expect_err("refused").code(), "provider-absent");
        }
        assert_eq!(provider.console(name, 5).await.expect_err("refused").code(), "provider-absent");
    }
}

async fn power_works(provider: &dyn Provider, name: &str, running: &NodeStatus) {
    for _ in 0..2 {
        provider.power(name, Power::Off).await.expect("off, and off again");
        assert_eq!(provider.status(name).await.expect("a status"), NodeStatus::Stopped);
    }
    assert_eq!(provider.power(name, Power::Reboot).await.expect_err("off").code(), "provider-failed");
    for _ in 0..2 {
        provider.power(name, Power::On).await.expect("on, and on again");
        assert_eq!(provider.status(name).await.expect("a status"), *running, "on again at the same place");
    }
    provider.power(name, Power::Reboot).await.expect("rebooted");
    assert_eq!(provider.status(name).await.expect("a status"), *running);
    let console = provider.console(name, 2).await.expect("a console");
    assert_eq!(console.lines().count(), 2, "{console}");
}

#[tokio::test]
async fn simulated_keeps_the_contract() {
    check(&Simulated::new(), Kind::Makes, &Key::new().request("a")).await;
}

#[tokio::test]
async fn ssh_keeps_the_contract_with_a_real_sshd() {
    let key = Key::new();
    let sshd = Sshd::start(&key);
    let folder = tempfile::tempdir().expect("a folder");
    let ssh = Ssh::new(folder.path().join("ssh.json"));
    let with = |value: Value| -> Object { value.as_object().expect("an object").clone() };
    let mut request = key.request("host-a");
    request.with = with(json!({"address": "127.0.0.1", "port": sshd.port, "host_key": sshd.host_key}));
    check(&ssh, Kind::Adopts, &request).await;

    // What it gives is enough to log in, and the host key is the one that was given.
    let access = ssh.create(&request).await.expect("adopted");
    assert_eq!(key.ssh(&access, "echo hello").expect("logged in"), "hello");
    // It knows its hosts after a restart.
    let again = Ssh::new(folder.path().join("ssh.json"));
    assert_eq!(again.status("host-a").await.expect("a status"), NodeStatus::Running { access });
    // One machine is one node.
    let mut twin = request.clone();
    twin.name = "host-b".to_owned();
    let error = ssh.create(&twin).await.expect_err("refused");
    assert!(error.to_string().ends_with("is node `host-a` already"), "{error}");
    // A host that does not answer is not adopted.
    sshd.stop();
    let quick = Ssh::new(folder.path().join("other.json")).answering_within(std::time::Duration::from_millis(200));
    let error = quick.create(&request).await.expect_err("nobody there");
    assert_eq!(error.code(), "provider-silent");
    assert!(quick.list().await.expect("a list").is_empty());
}

#[tokio::test]
async fn lab_keeps_the_contract_with_real_machines() {
    let test = TestLab::new();
    check(&test.lab, Kind::Makes, &Key::new().request("contract-1")).await;
    test.end().await;
}
