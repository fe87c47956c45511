//! Changes that others ask for (RFC 2136), signed (RFC 8945): who may, what is asked for, and what comes of it. Who writes it
//! down is not its concern.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::dnssec::DnsSecError;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigError;
use hickory_proto::rr::{TSigResponseContext, TSigner};

use crate::name::Name;
use crate::update::{Key, KeyError};
use crate::zones::{Data, Kind, Zones};

/// A key, and what its holder may change.
#[derive(Clone, Debug)]
pub struct Grant {
    name: Name,
    key: Key,
    below: Name,
}

impl Grant {
    /// The key of this name and secret (hmac-sha256, in base64) may change `below` and the names below that.
    ///
    /// # Errors
    /// A secret that is none.
    pub fn new(name: Name, secret: &str, below: Name) -> Result<Self, KeyError> {
        Ok(Self { key: Key::new(name.as_str(), secret)?, name, below })
    }

    /// The name of the key.
    pub fn name(&self) -> &Name {
        &self.name
    }
}

/// What is answered to a change (RFC 2136, section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It is done.
    Done,
    /// The message is crooked.
    Format,
    /// It could not be written down.
    Failed,
    /// A name is to be in use and is not.
    NoSuchName,
    /// Names that the key may not change, or kinds that we do not have.
    Refused,
    /// A name is in use and is not to be.
    NameThere,
    /// Records are there that are not to be.
    SetThere,
    /// Records are not there that are to be.
    NoSuchSet,
    /// A zone that is not ours, or a key that nobody has.
    NotAuthorized,
    /// A name that is not in the zone.
    NotInZone,
}

impl From<Code> for ResponseCode {
    fn from(code: Code) -> Self {
        match code {
            Code::Done => Self::NoError,
            Code::Format => Self::FormErr,
            Code::Failed => Self::ServFail,
            Code::NoSuchName => Self::NXDomain,
            Code::Refused => Self::Refused,
            Code::NameThere => Self::YXDomain,
            Code::SetThere => Self::YXRRSet,
            Code::NoSuchSet => Self::NXRRSet,
            Code::NotAuthorized => Self::NotAuth,
            Code::NotInZone => Self::NotZone,
        }
    }
}

/// What the holder of a key asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Where.
    pub zone: Name,
    /// With this key.
    pub key: Name,
    /// What the key may change.
    below: Name,
    wants: Vec<Want>,
    edits: Vec<Edit>,
}

/// What is to be so before (RFC 2136, section 2.4). Kinds by their numbers, for there are more than we have.
#[derive(Clone, Debug)]
enum Want {
    Used(Name),
    Unused(Name),
    Some(Name, u16),
    None(Name, u16),
    Exactly(Name, Kind, BTreeSet<Data>),
}

/// What is to be changed (RFC 2136, section 2.5).
#[derive(Clone, Debug)]
enum Edit {
    Add(Name, u32, Data),
    Remove(Name, Data),
    RemoveSet(Name, u16),
    RemoveName(Name),
}

/// All that a name has of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// It is of the key that asks.
    pub own: bool,
    /// How long it may be kept, in seconds.
    pub ttl: u32,
    /// Never empty.
    pub values: BTreeSet<Data>,
}

/// What there is, by name and kind.
pub type Sets = BTreeMap<(Name, Kind), Held>;

impl Asked {
    /// The names that it is about; what they have decides what comes of it.
    pub fn names(&self) -> BTreeSet<&Name> {
        let wanted = self.wants.iter().map(|want| match want {
            Want::Used(name)
            | Want::Unused(name)
            | Want::Some(name, _)
            | Want::None(name, _)
            | Want::Exactly(name, ..) => name,
        });
        let edited = self.edits.iter().map(|edit| match edit {
            Edit::Add(name, ..) | Edit::Remove(name, _) | Edit::RemoveSet(name, _) | Edit::RemoveName(name) => name,
        });
        wanted.chain(edited).collect()
    }

    /// Makes it so in what there is, all of it or nothing. What others have is theirs.
    ///
    /// # Errors
    /// What is not as it is wanted, or not for this key to change.
    pub fn apply(&self, sets: &mut Sets) -> Result<(), Code> {
        self.wants.iter().try_for_each(|want| self.wanted(want, sets))?;
        let mut after = sets.clone();
        self.edits.iter().try_for_each(|edit| self.edit(edit, &mut after))?;
        *sets = after;
        Ok(())
    }

    fn wanted(&self, want: &Want, sets: &Sets) -> Result<(), Code> {
        let any = |name: &Name| self.built_in(name) || of(sets, name).next().is_some();
        let some = |name: &Name, kind: u16| {
            of(sets, name).any(|((_, has), _)| has.code() == kind)
                || *name == self.zone && [Kind::Soa.code(), Kind::Ns.code()].contains(&kind)
        };
        match want {
            Want::Used(name) if !any(name) => Err(Code::NoSuchName),
            Want::Unused(name) if any(name) => Err(Code::NameThere),
            Want::Some(name, kind) if !some(name, *kind) => Err(Code::NoSuchSet),
            Want::None(name, kind) if some(name, *kind) => Err(Code::SetThere),
            Want::Exactly(name, kind, values) => {
                let has = sets.get(&(name.clone(), *kind)).map(|held| &held.values);
                if has == Some(values) { Ok(()) } else { Err(Code::NoSuchSet) }
            }
            _ => Ok(()),
        }
    }

    fn edit(&self, edit: &Edit, sets: &mut Sets) -> Result<(), Code> {
        match edit {
            Edit::Add(name, ttl, data) => {
                self.may(name)?;
                let fresh = || Held { own: true, ttl: *ttl, values: BTreeSet::new() };
                let held = sets.entry((name.clone(), data.kind())).or_insert_with(fresh);
                own(held)?;
                // All records of a set live equally long (RFC 2181, section 5.2).
                held.ttl = *ttl;
                held.values.insert(data.clone());
            }
            Edit::Remove(name, data) => {
                self.may(name)?;
                let key = (name.clone(), data.kind());
                if let Some(held) = sets.get_mut(&key) {
                    own(held)?;
                    held.values.remove(data);
                    if held.values.is_empty() {
                        sets.remove(&key);
                    }
                }
            }
            Edit::RemoveSet(name, kind) => self.remove(name, sets, |has| has.code() == *kind)?,
            Edit::RemoveName(name) => self.remove(name, sets, |_| true)?,
        }
        Ok(())
    }

    fn remove(&self, name: &Name, sets: &mut Sets, goes: impl Fn(Kind) -> bool) -> Result<(), Code> {
        self.may(name)?;
        let keys: Vec<_> = of(sets, name).filter(|((_, kind), _)| goes(*kind)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            if let Some(held) = sets.remove(&key) {
                own(&held)?;
            }
        }
        Ok(())
    }

    /// Names outside of what the key was given for, and those of the server itself, are nobody's to change.
    fn may(&self, name: &Name) -> Result<(), Code> {
        if name.is_in(&self.below) && !self.is_server(name) { Ok(()) } else { Err(Code::Refused) }
    }

    fn is_server(&self, name: &Name) -> bool {
        name.as_str().strip_prefix("ns.") == Some(self.zone.as_str())
    }

    fn built_in(&self, name: &Name) -> bool {
        *name == self.zone || self.is_server(name)
    }
}

fn of<'a>(sets: &'a Sets, name: &Name) -> impl Iterator<Item = (&'a (Name, Kind), &'a Held)> {
    let name = name.clone();
    sets.range((name.clone(), Kind::A)..).take_while(move |((of, _), _)| *of == name)
}

fn own(held: &Held) -> Result<(), Code> {
    if held.own { Ok(()) } else { Err(Code::Refused) }
}

/// Who writes changes down.
pub trait Changes: Send + Sync + 'static {
    /// Does what is asked for. Durable when it says `Done`, and answered from then on.
    fn change(&self, asked: Asked) -> impl Future<Output = Code> + Send;
}

/// Nobody does: every change is refused.
#[derive(Clone, Copy, Debug)]
pub struct Unchanged;

impl Changes for Unchanged {
    async fn change(&self, _: Asked) -> Code {
        Code::Refused
    }
}

/// Does this packet ask for a change?
pub(crate) fn is_change(packet: &[u8]) -> bool {
    packet.len() >= 12 && packet[2] & 0xf8 == 5 << 3
}

/// A change that is signed by whom it should be, and how its answer is signed.
struct Opened {
    asked: Result<Asked, Code>,
    message: Message,
    signer: TSigner,
    mac: Vec<u8>,
}

/// Answers a packet that asks for a change: one with a whole header.
pub async fn answer(zones: &RwLock<Zones>, packet: &[u8], changes: &impl Changes) -> Vec<u8> {
    let now = now();
    let opened = open(&zones.read().unwrap_or_else(PoisonError::into_inner), packet, now);
    let (code, message, context) = match opened {
        Ok(Opened { asked, message, signer, mac }) => {
            let code = match asked {
                Ok(asked) => changes.change(asked).await,
                Err(code) => code,
            };
            let context = TSigResponseContext::new(message.metadata.id, now, signer, mac, None);
            (code, Some(message), Some(context))
        }
        Err(Closed { code, message, context }) => (code, message.map(|message| *message), context),
    };
    let Some(message) = message else { return crooked(packet) };
    written(&message, code, context).unwrap_or_else(|| crooked(packet))
}

/// A change that is not even looked at, and what is said to it.
struct Closed {
    code: Code,
    message: Option<Box<Message>>,
    context: Option<TSigResponseContext>,
}

/// Whose change it is (RFC 8945, section 5.2).
fn open(zones: &Zones, packet: &[u8], now: u64) -> Result<Opened, Closed> {
    let Ok(message) = Message::from_vec(packet) else {
        return Err(Closed { code: Code::Format, message: None, context: None });
    };
    let id = message.metadata.id;
    let closed = |code, message, context| Err(Closed { code, message: Some(Box::new(message)), context });
    let Some(signature) = message.signature.as_deref().cloned() else {
        // Without a signature nobody changes anything.
        return closed(Code::Refused, message, None);
    };
    let unknown = |message| {
        let context = TSigResponseContext::unknown_key(id, now, signature.name.clone());
        closed(Code::NotAuthorized, message, Some(context))
    };
    let Ok(zone) = read::zone(&message) else { return unknown(message) };
    let named = |grant: &&Grant| *grant.key.0.signer_name() == signature.name;
    let grant = zones.grants(&zone).and_then(|grants| grants.iter().find(named)).cloned();
    let Some(Grant { name, key: Key(signer), below }) = grant else { return unknown(message) };
    // No clock ever said that, and the range around it would begin before all time.
    if signature.data.time < u64::from(signature.data.fudge) {
        return closed(Code::Format, message, None);
    }
    match signer.verify_message_byte(packet, None, true) {
        Ok(_) => {}
        Err(DnsSecError::TsigWrongKey) => return unknown(message),
        Err(_) => {
            let context = TSigResponseContext::bad_signature(id, now, signer);
            return closed(Code::NotAuthorized, message, Some(context));
        }
    }
    let mac = signature.data.mac;
    if signature.data.time.abs_diff(now) > u64::from(signature.data.fudge) {
        let context = TSigResponseContext::new(id, now, signer, mac, Some(TsigError::BadTime));
        return closed(Code::NotAuthorized, message, Some(context));
    }
    let asked = read::asked(&message, zone, name, below);
    Ok(Opened { asked, message, signer, mac })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The answer to a message that can not be read: its header, and that.
fn crooked(packet: &[u8]) -> Vec<u8> {
    let mut answer = packet[..2].to_vec();
    answer.extend_from_slice(&[0x80 | packet[2] & 0x79, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    answer
}

fn written(asked: &Message, code: Code, context: Option<TSigResponseContext>) -> Option<Vec<u8>> {
    let mut answer = Message::query();
    answer.metadata.id = asked.metadata.id;
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.op_code = OpCode::Update;
    answer.metadata.response_code = code.into();
    answer.add_queries(asked.queries.iter().cloned());
    if let Some(context) = context {
        let bytes = answer.to_vec().ok()?;
        answer.signature = Some(context.sign(&bytes).ok()?);
    }
    answer.to_vec().ok()
}

#[cfg(test)]
mod tests;
