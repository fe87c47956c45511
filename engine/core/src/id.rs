//! Ids are types: a node can not be passed where a job is wanted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

ids! {
    /// A machine, or the virtual node of a deployment.
    NodeId;
    /// A workload bound to nodes and parameter values.
    DeploymentId;
    /// A node role, a gather or a chooser: a vertex of the graph.
    VertexId;
    /// One attempt at one action of a node role. Survives a takeover by another engine.
    JobId;
    /// One running engine process.
    EngineId;
}
