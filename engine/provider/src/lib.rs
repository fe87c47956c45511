//! Where nodes come from: lab, ssh, simulated.
