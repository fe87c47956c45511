//! What the lab promises beyond the contract.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use engine_provider::lab::{Lab, LabConfig};
use engine_provider::{NodeStatus, Power, Provider};

use crate::support::{Key, TestLab, eventually, output, traces};

#[tokio::test]
async fn a_node_is_a_machine_of_its_own_and_leaves_no_trace() {
    let test = TestLab::new();
    let key = Key::new();
    test.lab.prepare().await.expect("prepared");
    let start = Instant::now();
    let access = test.lab.create(&key.request("solo")).await.expect("created");
    eprintln!("measured: one node in {:?}", start.elapsed());
    // Name, address and identity are its own; the host key is the one that was promised (ssh checks it).
    let said =
        key.ssh(&access, "hostname; cat /etc/machine-id; getent hosts solo; cat /proc/1/comm").expect("logged in");
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(
        (words[0], words[2], words[3], words[4]),
        ("solo", access.address.as_str(), "solo", "systemd"),
        "{said}"
    );
    assert_ne!(words[1], fs::read_to_string("/etc/machine-id").unwrap_or_default().trim());
    let wait = "systemctl is-system-running --wait; systemctl --failed --no-legend";
    assert_eq!(key.ssh(&access, wait).expect("all units are up"), "running");
    // It is a node that only its key opens.
    assert!(Key::new().ssh(&access, "true").expect_err("a stranger").contains("Permission denied"));
    // Its services are its own: nobody else's processes are in its control groups.
    let groups = key.ssh(&access, "cat /proc/1/cgroup").expect("logged in");
    assert!(groups.contains("/init.scope"), "{groups}");

    let start = Instant::now();
    test.lab.destroy("solo").await.expect("destroyed");
    eprintln!("measured: destroyed in {:?}", start.elapsed());
    assert!(!test.config.dir.join("nodes/solo").exists());
    let left: Vec<String> = traces(&format!("vb-{}", test.id()), &test.config.dir)
        .into_iter()
        .filter(|line| !line.starts_with("folder"))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "traces of the node");
    test.end().await;
}

#[tokio::test]
async fn three_at_once_reach_each_other_and_the_packages() {
    let test = TestLab::new();
    let key = Key::new();
    test.lab.prepare().await.expect("prepared");
    let start = Instant::now();
    let requests = ["a", "b", "c"].map(|name| key.request(name));
    let (a, b, c) =
        tokio::join!(test.lab.create(&requests[0]), test.lab.create(&requests[1]), test.lab.create(&requests[2]));
    let nodes = [a.expect("a"), b.expect("b"), c.expect("c")];
    eprintln!("measured: three nodes at once in {:?}", start.elapsed());
    let addresses: std::collections::BTreeSet<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    assert_eq!(addresses.len(), 3, "each has an address of its own");
    for node in &nodes {
        for address in &addresses {
            key.ssh(node, &format!("ping -c 1 -W 5 {address}")).expect("they reach each other");
        }
    }
    // A service stopped in one runs on in the others.
    key.ssh(&nodes[0], "systemctl stop systemd-networkd.socket systemd-networkd").expect("stopped");
    let running = "systemctl is-active systemd-networkd";
    assert_eq!(key.ssh(&nodes[1], running).expect("active"), "active");
    // By NAT and the host's mirror it installs packages, and the next node finds them in its cache.
    let install = "apt-get -qq update && apt-get -qq install --download-only netcat-openbsd >/dev/null && echo done";
    assert_eq!(key.ssh(&nodes[1], install).expect("packages"), "done");
    let next = test.lab.create(&key.request("d")).await.expect("created");
    let offline = "ls /var/cache/apt/archives/*.deb && apt-get -qq install --no-download netcat-openbsd >/dev/null && \
                   nc -h 2>&1 | head -1";
    assert!(key.ssh(&next, offline).expect("no download needed").contains("OpenBSD netcat"));
    test.end().await;
}

#[tokio::test]
async fn a_reboot_from_inside_comes_back_and_a_poweroff_stays_off() {
    let test = TestLab::new();
    let key = Key::new();
    let access = test.lab.create(&key.request("phoenix")).await.expect("created");
    let started = "ps -o lstart= -p 1";
    let before = key.ssh(&access, started).expect("logged in");
    key.ssh(&access, "echo kept >/root/file; sync").expect("written");
    // The connection may end before the command does.
    let _ = key.ssh(&access, "systemctl reboot");
    let after = eventually("the node is back with a new init", Duration::from_mins(3), || {
        key.ssh(&access, started).ok().filter(|now| *now != before)
    });
    assert_ne!(before, after);
    assert_eq!(key.ssh(&access, "cat /root/file").expect("logged in"), "kept");
    assert!(matches!(test.lab.status("phoenix").await.expect("a status"), NodeStatus::Running { .. }));
    let _ = key.ssh(&access, "systemctl poweroff");
    let mut status = test.lab.status("phoenix").await.expect("a status");
    let deadline = Instant::now() + Duration::from_mins(2);
    while status != NodeStatus::Stopped && Instant::now() < deadline {
        status = test.lab.status("phoenix").await.expect("a status");
    }
    assert_eq!(status, NodeStatus::Stopped);
    test.lab.power("phoenix", Power::On).await.expect("on again");
    assert_eq!(key.ssh(&access, "cat /root/file").expect("the same host key"), "kept");
    test.end().await;
}

#[tokio::test]
async fn machines_outlive_the_engine_and_survive_a_broken_one() {
    let test = TestLab::new();
    let key = Key::new();
    let access = test.lab.create(&key.request("stays")).await.expect("created");
    // Another engine over the same folder finds it running, and does not start a second one.
    let other = Lab::new(test.config.clone());
    assert_eq!(other.status("stays").await.expect("a status"), NodeStatus::Running { access: access.clone() });
    assert_eq!(other.create(&key.request("stays")).await.expect("found"), access);
    // Asked again with another key, it lets that one in.
    let second = Key::new();
    other.create(&second.request("stays")).await.expect("found");
    assert!(second.ssh(&access, "true").is_ok());
    // Killed from outside it is off, whatever its pid file says, and a create brings it back.
    let folder = test.config.dir.join("nodes/stays");
    let pid = fs::read_to_string(folder.join("pid")).expect("a pid file");
    let pid = pid.split_whitespace().next().expect("a pid").to_owned();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().expect("kill starts").success());
    let deadline = Instant::now() + Duration::from_secs(30);
    while other.status("stays").await.expect("a status") != NodeStatus::Stopped {
        assert!(Instant::now() < deadline, "the machine is still there");
    }
    assert!(folder.join("pid").exists(), "nobody cleaned up, it was killed");
    assert_eq!(other.create(&key.request("stays")).await.expect("started again"), access);
    // A node whose making was interrupted is made anew.
    let record = fs::read_to_string(folder.join("node.json")).expect("a record");
    other.power("stays", Power::Off).await.expect("off");
    let mut value: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    value["ready"] = serde_json::Value::Null;
    fs::write(folder.join("node.json"), value.to_string()).expect("written");
    assert_eq!(other.status("stays").await.expect("a status"), NodeStatus::Absent);
    let remade = other.create(&key.request("stays")).await.expect("made anew");
    assert_eq!(remade.address, access.address);
    assert_ne!(remade.host_keys, access.host_keys);
    assert!(key.ssh(&remade, "true").is_ok());
    test.end().await;
}

#[tokio::test]
async fn two_labs_live_side_by_side() {
    let (one, two) = (TestLab::new(), TestLab::new());
    let (a, b) = tokio::join!(one.lab.prepare(), two.lab.prepare());
    a.expect("one");
    b.expect("two");
    assert_ne!(one.id(), two.id());
    let bridges = output("ip", &["-o", "-4", "address"]);
    for id in [one.id(), two.id()] {
        assert!(bridges.contains(&format!("plb-{id}")), "{bridges}");
    }
    let forward = || fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("a setting").trim().to_owned();
    assert_eq!(forward(), "1");
    one.end().await;
    assert_eq!(forward(), "1", "the other lab still needs it");
    assert!(output("iptables", &["-w", "-t", "nat", "-S"]).contains(&two.id()));
    two.end().await;
}

#[tokio::test]
async fn bad_names_and_settings_are_clear_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let lab = Lab::new(LabConfig::new(folder.path().join("lab")));
    let error = lab.create(&Key::new().request("Big")).await.expect_err("refused");
    assert_eq!(error.code(), "provider-name");
    assert!(lab.list().await.expect("a list").is_empty());
    let config =
        LabConfig { mirror: Some("http://127.0.0.1:1/none".to_owned()), ..LabConfig::new(folder.path().join("l")) };
    let config = LabConfig { cache: folder.path().join("cache"), ..config };
    let error = Lab::new(config.clone()).prepare().await.expect_err("no such mirror");
    assert_eq!(error.code(), "provider-failed");
    assert!(error.to_string().contains("debootstrap"), "{error}");
    assert!(
        !fs::read_dir(&config.cache)
            .expect("a cache")
            .flatten()
            .any(|entry| { entry.file_name().to_string_lossy().starts_with("image-bookworm") })
    );
    let lab = Lab::new(LabConfig { subnet: Some("127.0.0.0/24".to_owned()), ..config });
    lab.teardown(true).await.expect("nothing much to take away");
    assert!(!folder.path().join("cache").exists());
}
