//! The description of the API is what the code makes of it.

use std::path::Path;

/// `PLINTH_UPDATE=1` writes it.
#[test]
fn the_description_in_the_tree_is_up_to_date() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    let made = api_server::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("PLINTH_UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == made, "docs/reference/openapi.json is not what the code makes; PLINTH_UPDATE=1 writes it");
}

#[test]
fn everything_but_the_probes_needs_the_token() {
    let description = serde_json::to_value(api_server::openapi()).unwrap();
    assert_eq!(description["openapi"], "3.1.0");
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() > 25, "{}", paths.len());
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let closed = operation.get("security").is_some();
            let open = !path.starts_with("/api/v1/") && path != "/metrics";
            assert_eq!(closed, !open, "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path} says what it does");
        }
    }
}
