//! `plinth new role NAME`: a role to begin with, which loads and runs as it stands.

use std::collections::BTreeMap;

/// The `bundle.yaml` of a new bundle.
pub fn scaffold_bundle(name: &str) -> String {
    format!("bundle: {name}\nversion: 1.0.0\nneeds: {{core: ^1}}\n")
}

/// The files of a new role by their path in the bundle.
pub fn scaffold_role(name: &str) -> BTreeMap<String, String> {
    let role = format!(
        "role: {name}
version: 1.0.0
about: What is there once this role is active, in one sentence.
runs: node
milestone: true
requires: [node-base]
supports: {{os: [debian-12], arch: [amd64]}}
inputs:
  greeting: {{schema: {{type: string}}, default: hello, about: What the file says.}}
outputs:
  path: {{schema: {{$ref: types/path}}, value: /etc/{name}.conf}}
apply:
  - file: {{path: /etc/{name}.conf, template: {name}.conf, mode: \"0644\"}}
check:
  - run: {{script: check.sh}}
"
    );
    let template = "# Written by plinth; changes are overwritten.\ngreeting = {{ greeting }}\n".to_owned();
    let check = format!(
        "# Inputs are in the environment. A status other than 0 fails the check.\ngrep -q \"^greeting = $greeting\\$\" /etc/{name}.conf\n"
    );
    BTreeMap::from([
        (format!("roles/{name}/role.yaml"), role),
        (format!("roles/{name}/templates/{name}.conf"), template),
        (format!("roles/{name}/scripts/check.sh"), check),
    ])
}
