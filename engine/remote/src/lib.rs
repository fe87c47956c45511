//! SSH: connect, install the agent, run and re-attach jobs.
