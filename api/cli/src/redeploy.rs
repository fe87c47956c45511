//! `plinth redeploy`.

use std::process::ExitCode;

use engine_core::request::RedeployRequest;

use crate::args::{Redeploy, Until};
use crate::deploy::{show, told};
use crate::output::{CliError, Context, confirm};
use crate::status;

/// Shows what it does, asks, and does it.
pub(crate) async fn redeploy(context: &Context, what: &Redeploy) -> Result<ExitCode, CliError> {
    let plan = context.client.plan_redeploy(&what.name, &what.nodes).await?;
    show(context, std::slice::from_ref(&plan))?;
    if !plan.plan.is_allowed() {
        return Err(CliError::Refused);
    }
    if !what.yes {
        confirm(&match what.nodes.as_slice() {
            [] => format!("Redeploy {}?", what.name),
            nodes => format!("Redeploy {} of {}?", nodes.join(", "), what.name),
        })?;
    }
    let request = RedeployRequest { nodes: what.nodes.clone(), revision: Some(plan.revision), approve: what.approve };
    let applied = context.client.redeploy(&what.name, &request).await?;
    told(context, &[applied])?;
    if what.wait {
        status::follow(context, &what.name, Until::Active, None).await?;
    }
    Ok(ExitCode::SUCCESS)
}
