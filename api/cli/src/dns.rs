//! `plinth dns`.

use std::process::ExitCode;

use engine_core::view::{RecordView, ZoneView};

use crate::args::DnsCommand;
use crate::output::{CliError, Context};
use crate::table::{self, Shown};

pub(crate) async fn dns(context: &Context, command: DnsCommand) -> Result<ExitCode, CliError> {
    match command {
        DnsCommand::Zones => {
            let all = context.client.zones().await?;
            context.print(&all, || all.iter().map(|zone| zone.name.clone()).collect(), || zones(&all))?;
        }
        DnsCommand::Records { zone } => {
            let all = context.client.records(zone.trim_end_matches('.')).await?;
            context.print(&all, || all.iter().map(|record| record.name.clone()).collect(), || records(&all))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn zones(all: &[ZoneView]) -> String {
    let row = |zone: &ZoneView| -> Vec<Shown> {
        let numbers = [zone.serial.to_string(), zone.names.to_string(), zone.ttl.to_string()];
        [zone.name.clone(), zone.deployment.clone()].into_iter().chain(numbers).map(Into::into).collect()
    };
    table::table(&["ZONE", "DEPLOYMENT", "SERIAL", "NAMES", "TTL"], all.iter().map(row).collect())
}

fn records(all: &[RecordView]) -> String {
    let row = |record: &RecordView| -> Vec<Shown> {
        let cells = [record.name.clone(), record.ttl.to_string(), record.kind.clone(), record.values.join(" ")];
        cells.into_iter().chain([record.node_role.clone()]).map(Into::into).collect()
    };
    table::table(&["NAME", "TTL", "KIND", "VALUE", "NODE ROLE"], all.iter().map(row).collect())
}
