//! Checks of a balancer that stands: what another hand broke is found, also where HAProxy itself sees nothing wrong.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::site::Site;

const SERVICE: &str = "etcd-balancer-service";
const BALANCER: &str = "etcd-balancer";

struct Balancer<'a> {
    site: &'a Site,
    node: &'a str,
}

impl Balancer<'_> {
    fn run(&self, script: &str) -> String {
        self.site.ok(&["exec", self.node, "--", "bash", "-c", script])
    }

    /// What HAProxy says to this, by its socket.
    fn tell(&self, command: &str) -> String {
        let talk = "my $s = IO::Socket::UNIX->new(\"/run/haproxy/admin.sock\") or die $!; print $s \"$ARGV[0]\\n\"; print while <$s>";
        self.run(&format!("perl -MIO::Socket::UNIX -e '{talk}' '{command}'"))
    }

    /// Connections that each member has had.
    fn had(&self) -> BTreeMap<String, u64> {
        let said = self.tell("show stat etcd 4 -1");
        let lines = || said.lines().filter_map(|line| line.split_once("etcd,").map(|(_, rest)| rest));
        // Without the name of the backend: the server, two of queues, two of sessions now, their limit, and all that there were.
        let all = lines().map(|line| line.split(',').collect::<Vec<_>>());
        all.map(|cells| (cells[0].to_owned(), cells[6].parse().expect("a number"))).collect()
    }

    /// What checks of both say now, and why.
    fn verdicts(&self) -> [(String, String); 2] {
        [SERVICE, BALANCER].map(|role| {
            let said = self.site.run(&["drift", "it", "--node", self.node, "--role", role, "-o", "json"]);
            let drift: Value = serde_json::from_slice(&said.stdout).expect("JSON");
            let found = &drift["node_roles"][0];
            let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
            (text("verdict"), format!("{} {}", text("message"), found["diffs"]))
        })
    }

    fn is_well(&self) {
        self.site.until_so("well", || {
            let said = self.verdicts();
            if said.iter().all(|(verdict, _)| verdict == "conform") { Ok(()) } else { Err(format!("{said:?}")) }
        });
    }
}

/// Leaves it as it was.
pub(super) fn find_what_another_hand_broke(site: &Site, node: &str) {
    let it = Balancer { site, node };
    let before = it.had();
    it.is_well();
    let after = it.had();
    assert_eq!(before.len(), 3, "{before:?}");
    assert!(before.iter().all(|(member, had)| after[member] > *had), "each had its turn: {before:?} {after:?}");

    // Every member is up, and nobody gets to one.
    it.tell("disable frontend etcd-in");
    let [service, balancer] = it.verdicts();
    assert!(service.0 == "drifted" && service.1.contains("nobody listens at port 2379"), "{service:?}");
    assert!(balancer.0 == "drifted" && balancer.1.contains("curl"), "{balancer:?}");
    it.tell("enable frontend etcd-in");
    it.is_well();

    // One takes no traffic; the cluster answers through the others.
    it.tell("set server etcd/it-members-1 state maint");
    let [service, balancer] = it.verdicts();
    assert!(service.0 == "drifted" && service.1.contains("MAINT"), "{service:?}");
    assert_eq!(balancer.0, "conform", "{balancer:?}");
    it.tell("set server etcd/it-members-1 state ready");
    it.is_well();

    // Whoever is trusted here is somebody else: HAProxy has read the file long ago, who comes next does not get through.
    it.run("cp /etc/haproxy/etcd/ca.pem /root/ca.pem; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
            -subj /CN=other -keyout /dev/null -out /etc/haproxy/etcd/ca.pem 2>/dev/null");
    let said = it.verdicts();
    assert!(said.iter().all(|(verdict, _)| verdict == "drifted"), "{said:?}");
    assert!(said[0].1.contains("verify"), "{said:?}");
    it.run("cat /root/ca.pem >/etc/haproxy/etcd/ca.pem; rm /root/ca.pem");
    it.is_well();
}
