//! What is done on this machine without an engine: the lab, and the engine's database.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use engine_daemon::equipment;
use engine_store::backup;
use engine_store::connect::Target;
use engine_store::embedded::{Embedded, EmbeddedConfig, Stopped};
use serde::Serialize;

use crate::args::{DatabaseAt, DatabaseCommand, LabCommand, Output};
use crate::output::{CliError, print, structured};
use crate::serve::ServeError;

fn data_dir(given: Option<PathBuf>) -> PathBuf {
    given.unwrap_or_else(api_client::endpoint::data_dir)
}

/// `plinth lab`.
pub(crate) fn lab(command: LabCommand) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            LabCommand::Up { data } => equipment::lab(&data_dir(data), tell).prepare().await,
            LabCommand::Down { data, purge } => equipment::lab(&data_dir(data), tell).teardown(purge).await,
        }
        .map_err(ServeError::Provider)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn tell(line: &str) {
    eprintln!("{line}");
}

/// What was written or read.
#[derive(Serialize)]
struct Copied {
    /// Size of the file.
    bytes: u64,
    /// The newest migration in it.
    schema: i64,
}

/// `plinth database`.
pub(crate) fn database(command: DatabaseCommand, output: Output) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match command {
            DatabaseCommand::Stop { data } => stop(&data_dir(data)).await.map(|()| None),
            DatabaseCommand::Backup { file, at } => {
                with(at, async |target, _| backup::backup(&target, &file, None).await).await.map(Some)
            }
            DatabaseCommand::Restore { file, at } => {
                with(at, async |target, _| backup::restore(&target, &file, None).await).await.map(Some)
            }
            DatabaseCommand::Move { to, at } => {
                with(at, async |target, data| backup::move_between(&target, &Target::url(&to)?, None, data).await)
                    .await
                    .map(|()| None)
            }
        }
    })?;
    let Some(done) = done else { return Ok(ExitCode::SUCCESS) };
    let copied = Copied { bytes: done.bytes, schema: done.schema };
    match output {
        Output::Json | Output::Yaml => structured(&copied, output)?,
        _ => print(&format!("{} bytes, schema {}\n", copied.bytes, copied.schema))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Joining is the way to stop what nobody uses: the last user to leave ends it.
async fn stop(data: &Path) -> Result<(), ServeError> {
    let how = Embedded::start(EmbeddedConfig::new(data.join("postgres"))).await?.stop().await?;
    if how == Stopped::LeftToOthers {
        tell("an engine uses it; it goes on");
    }
    Ok(())
}

/// Works with a database: the one named, or the private one, started for as long as it takes.
async fn with<T>(
    at: DatabaseAt,
    work: impl AsyncFnOnce(Target, &Path) -> Result<T, engine_store::StoreError>,
) -> Result<T, ServeError> {
    let data = data_dir(at.data);
    if let Some(url) = &at.database {
        return Ok(work(Target::url(url)?, &data).await?);
    }
    let embedded = Embedded::start(EmbeddedConfig::new(data.join("postgres"))).await?;
    let done = work(embedded.target(), &data).await;
    embedded.stop().await?;
    Ok(done?)
}
