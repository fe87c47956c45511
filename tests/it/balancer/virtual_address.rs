//! Two balancers with one address: who has it may die, and clients find the other one at the same place.

use std::net::IpAddr;
use std::time::Instant;

use serde_json::Value;

use super::{PATIENCE, ZONE, client, put};
use crate::dns::lab::Address;
use crate::site::Site;

/// The balancer that has the address.
fn holder(site: &Site, address: IpAddr) -> Result<&'static str, String> {
    let has = |node: &&&str| {
        let words = ["exec", node, "--timeout", "5s", "--", "ip", "-o", "-4", "address"];
        String::from_utf8_lossy(&site.run(&words).stdout).contains(&format!(" {address}/32 "))
    };
    let found: Vec<_> = ["it-balancers-1", "it-balancers-2"].iter().filter(has).collect();
    match found[..] {
        [one] => Ok(one),
        _ => Err(format!("{found:?} have it")),
    }
}

#[test]
fn an_address_goes_over_when_its_balancer_stops_or_dies() {
    let at = Address::new(56);
    let mut site = Site::new(&[]);
    site.ok(&["lab", "up"]);
    site.start_with(&["--dns", &at.server()]);
    let lab = std::fs::read_to_string(site.data().join("lab/lab.json")).expect("the lab's settings");
    let lab: Value = serde_json::from_str(&lab).expect("JSON");
    let subnet = lab["subnet"].as_str().expect("a subnet");
    // Machines get theirs from the beginning of the subnet.
    let address = format!("{}.250", subnet.rsplit_once('.').expect("four numbers").0);
    site.apply(&format!(
        "deployment: it\nworkload: etcd-cluster\nparameters: {{resolvers: [{at}], virtual_address: {address}}}\n\
         nodes: {{members: {{provider: lab, count: 1}}, balancers: {{provider: lab, count: 2}}, clients: {{provider: lab, count: 1}}}}\n"
    ));
    site.until_active("it");
    let name = format!("etcd-balanced.{ZONE}");
    let records = site.json(&["dns", "records", ZONE]);
    let records = records.as_array().expect("records").iter();
    let found: Vec<&Value> = records.filter(|record| record["name"] == name).map(|record| &record["values"]).collect();
    assert_eq!(found, [&serde_json::json!([address])], "the name leads to the address that they share");

    let (own, address): (_, IpAddr) = (client(&site, true), address.parse().expect("an address"));
    let reached = |what: &str| {
        let began = Instant::now();
        site.until_so(what, || put(&own, address, &name));
        println!("{what} after {:?}", began.elapsed());
        assert!(began.elapsed() < 2 * PATIENCE, "{what} only after {:?}", began.elapsed());
        site.until_so("with one balancer", || holder(&site, address))
    };
    let first = reached("reached");
    site.ok(&["exec", first, "--", "systemctl", "stop", "haproxy.service"]);
    let second = reached("reached, with HAProxy of the first one stopped,");
    assert_ne!(first, second);
    site.ok(&["exec", first, "--", "systemctl", "start", "haproxy.service"]);
    site.until_so("well", || {
        let said = site.run(&["exec", first, "--", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/2379"]);
        if said.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said.stderr).into_owned()) }
    });
    assert_eq!(reached("reached, with both well,"), second, "who has it keeps it");
    let _ = site.run(&["exec", second, "--timeout", "5s", "--", "poweroff", "--force", "--force"]);
    assert_eq!(reached("reached, with the second one dead,"), first);
}
