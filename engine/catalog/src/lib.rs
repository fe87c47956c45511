//! Reads bundles of roles, workloads and schemas into core's types, with diagnostics.
//!
//! Every problem of every document is found in one go, each with its file, line, column and the path in the document.
//! A document that has errors is left out of the catalog. The core bundle is compiled in, so that the engine works
//! wherever its binary is. Deliberately absent: anything that needs a server, a node or the network.

mod archive;
mod bundle;
mod check;
mod document;
mod load;
mod preset;
mod report;
mod scaffold;
mod setting;
mod types;
mod yaml;

pub use bundle::{Folder, core_bundle};
pub use check::paths::check;
pub use document::{Kind, ReadDeployment, read_deployments, read_nodes, schema};
pub use load::{Loaded, load, load_folders};
pub use scaffold::{scaffold_bundle, scaffold_role};
pub use setting::{Setting, read_settings};
pub use yaml::written;
