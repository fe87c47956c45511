//! Names: zones in memory, the server that answers from them, and questions to servers.
//!
//! The server is authoritative and nothing else: it asks nobody and hands out no zone as a whole. Changes are taken from those
//! who sign them with a key that was given for that (RFC 2136, RFC 8945). What an answer costs is bounded by what it can hold. Whoever fills the zones is not its concern. Servers of others
//! are told by signed updates (RFC 2136, RFC 8945), or by the API of PowerDNS.

mod answer;
mod ask;
mod change;
mod error;
mod name;
mod powerdns;
mod serve;
mod text;
mod update;
mod zones;

pub use answer::{Over, answer};
pub use ask::{Seen, ask};
pub use change::{Asked, Changes, Code, Grant, Held, Sets, Unchanged, answer as answer_change};
pub use error::DnsError;
pub use name::{Name, NameError, reverse_zone};
pub use powerdns::{ApiKey, ApiKeyError, replace};
pub use serve::{Answered, Server};
pub use text::Text;
pub use update::{Key, KeyError, RecordSet, Sent, update};
pub use zones::{Data, Kind, Zones, serial};
