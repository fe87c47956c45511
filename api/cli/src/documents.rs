//! Commands that read and write documents, with no engine.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory as _;
use engine_catalog::Kind;
use serde_json::json;

use crate::args::{Args, Output};
use crate::output::{CliError, print};

/// `plinth check`.
pub(crate) fn check(paths: &[PathBuf], output: Output) -> Result<ExitCode, CliError> {
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(CliError::NoSuchPath { path: missing.clone() });
    }
    let found = engine_catalog::check(paths);
    let errors = found.iter().filter(|one| one.is_error()).count();
    match output {
        Output::Table => {
            let mut text = String::new();
            for one in &found {
                text += &format!("{one}\n");
            }
            print(&text)?;
            eprintln!("{errors} errors, {} warnings", found.len() - errors);
        }
        Output::Name => {
            let mut codes: Vec<&str> = found.iter().map(|one| one.code.as_str()).collect();
            codes.dedup();
            print(&codes.iter().map(|code| format!("{code}\n")).collect::<String>())?;
        }
        structured => crate::output::structured(&found, structured)?,
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `plinth schema`.
pub(crate) fn schema(kind: Kind) -> Result<ExitCode, CliError> {
    print(engine_catalog::schema(kind))?;
    print("\n")?;
    Ok(ExitCode::SUCCESS)
}

/// `plinth new role`.
pub(crate) fn new_role(name: &str, into: &Path, output: Output) -> Result<ExitCode, CliError> {
    if !is_name(name) {
        return Err(CliError::BadName { name: name.to_owned() });
    }
    let mut files = engine_catalog::scaffold_role(name);
    if !into.join("bundle.yaml").exists() {
        let folder = into.file_name().map(|folder| folder.to_string_lossy().into_owned());
        let bundle = folder.filter(|folder| is_name(folder)).unwrap_or_else(|| name.to_owned());
        files.insert("bundle.yaml".to_owned(), engine_catalog::scaffold_bundle(&bundle));
    }
    if let Some(there) = files.keys().map(|file| into.join(file)).find(|path| path.exists()) {
        return Err(CliError::Exists { path: there });
    }
    for (file, text) in &files {
        let path = into.join(file);
        let failed = |source| CliError::Write { path: path.clone(), source };
        fs::create_dir_all(path.parent().unwrap_or(into)).map_err(failed)?;
        let mut new = fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        new.write_all(text.as_bytes()).map_err(failed)?;
    }
    let paths: Vec<String> = files.keys().map(|file| into.join(file).display().to_string()).collect();
    match output {
        Output::Table | Output::Name => print(&paths.iter().map(|path| format!("{path}\n")).collect::<String>())?,
        structured => crate::output::structured(&paths, structured)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn is_name(text: &str) -> bool {
    let shaped = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    shaped && text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.ends_with('-')
}

/// `plinth version`.
pub(crate) fn version(output: Output) -> Result<ExitCode, CliError> {
    let version = env!("CARGO_PKG_VERSION");
    match output {
        Output::Table => print(&format!("plinth {version}\n"))?,
        Output::Name => print(&format!("{version}\n"))?,
        structured => crate::output::structured(&json!({"version": version}), structured)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `plinth completion`.
pub(crate) fn completion(shell: clap_complete::Shell) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "plinth", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
