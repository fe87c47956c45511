//! Wires the engine: the pass, the claimers, the reaper, supervision, configuration.
