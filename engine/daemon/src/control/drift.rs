//! Checks that people ask for.

use engine_core::view::{Moved, Refusal, RefusalKind};
use engine_store::ask::Asked;
use engine_store::drift::{self, Which};
use engine_store::snapshot;

use super::{Control, store, unknown_deployment};

impl Control {
    /// Asks for checks of a deployment: all node roles that have steps, or those of one role, on one node. They begin as
    /// soon as there is room; what they find is read with [`engine_store::read::drift`].
    ///
    /// # Errors
    /// There is no such deployment, or it has no such node role.
    pub async fn check(&self, name: &str, role: Option<&str>, node: Option<&str>, by: &str) -> Result<Moved, Refusal> {
        let contents = snapshot::contents(&self.shared.pool, name).await.map_err(store)?;
        let Some(contents) = contents else { return Err(unknown_deployment(name)) };
        let mut roles = Vec::new();
        for (deployment_role, hash) in contents {
            let content = self.shared.role(&hash).await.map_err(store)?;
            if !content.doc.is_noop() && role.is_none_or(|role| role == deployment_role) {
                roles.push(deployment_role);
            }
        }
        let which = Which { roles, node: node.map(str::to_owned) };
        match drift::ask(&self.shared.pool, name, &which, by).await.map_err(store)? {
            Asked::Done(node_roles) => {
                self.shared.beside.notify_waiters();
                Ok(Moved { node_roles })
            }
            Asked::NoDeployment => Err(unknown_deployment(name)),
            Asked::NoNodeRole => {
                let message = format!("deployment `{name}` has no node role with steps like that");
                Err(Refusal::new(RefusalKind::NotFound, "unknown-node-role", message))
            }
        }
    }
}
