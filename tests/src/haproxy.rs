//! What a HAProxy says by its runtime API.

use engine_agent::haproxy::{Server, servers, variable};

/// Tables as HAProxy writes them, cut to a few columns, and other answers.
pub fn seeds() -> Vec<Vec<u8>> {
    let table = "# pxname,svname,qcur,scur,status,check_status,addr,last_chk,\n\
                 b,one,0,0,UP,L7OK,10.0.0.1:80,\"fine, \"\"all\"\" of it\",\n\
                 b,two,,3,DRAIN,* L4OK,[fd00::2]:80,,\nb,three,,0,MAINT,,10.0.0.3:80,,\n\n";
    let others = ["# pxname,svname\nb,one\n", "No such backend.\n", "proc.plinth_b: type=str value=<abc>\n\n", "\n"];
    [table].iter().chain(&others).map(|text| text.as_bytes().to_vec()).collect()
}

/// A table that is read says the same when it is written again; a server that is up says so in two columns; a variable is part of what
/// was said. Returns whether there was a server.
///
/// # Panics
/// When something of that does not hold.
pub fn check(bytes: &[u8]) -> bool {
    let said = String::from_utf8_lossy(bytes);
    if let Some(value) = variable(&said) {
        assert!(said.contains(&format!(" value=<{value}>")));
        assert_eq!(variable(&format!("proc.x: type=str value=<{value}>\n\n")).as_ref(), Some(&value));
    }
    let Some(found) = servers(&said) else { return false };
    assert_eq!(servers(&table(&found)).as_ref(), Some(&found));
    for server in &found {
        assert!(
            !server.is_up() || (server.status == "UP" && server.check.ends_with("OK") | server.check.ends_with("OKC"))
        );
        assert!(!(server.is_up() && (server.may_serve() || server.is_in_maintenance())), "{server:?}");
    }
    !found.is_empty()
}

fn table(servers: &[Server]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let line = |server: &Server| {
        let Server { name, address, status, check, sessions } = server;
        let cells = [quoted(address), sessions.to_string(), quoted(check), quoted(name), quoted(status)];
        format!("{}\n", cells.join(","))
    };
    let lines: String = servers.iter().map(line).collect();
    format!("# addr,scur,check_status,svname,status\n{lines}")
}
