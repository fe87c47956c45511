//! Reads bundles of roles, workloads and schemas into core's types, with diagnostics.
