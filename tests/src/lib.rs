//! End to end on real parts, simulation by seed, house rules.
