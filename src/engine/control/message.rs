//! [`Message`]: everything that travels on a control connection, to bytes and back. Decoding trusts nothing.

use super::hello::Hello;
use super::proof::NONCE;
use super::wire::{FLAG_DESCRIPTOR, FLAG_OPTIONAL, HEADER_BYTES, Header, Reader, Writer, broken, clip};
use super::{Attach, Fabric, KeyAsk};
use crate::limits::{REFUSAL_TEXT, REMOTE_KEY, WORKER_ADDRESS};
use crate::status::{Error, Result, Status};

/// Bytes that name a path whose frames come by a stream: nobody guesses them.
pub const TICKET: usize = 32;

/// Longest name of an abstract Unix socket, in bytes.
pub(super) const LOCAL_NAME: usize = 100;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// The number of each message on the wire; never reused.
        #[repr(u16)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Kind] = &[$(Kind::$name),*];

            /// The kind with this number.
            pub fn from_u16(number: u16) -> Option<Kind> {
                match number { $($number => Some(Kind::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// Who dials says who it is.
    Hello = 1,
    /// Who accepted answers.
    Welcome = 2,
    /// The handshake ends.
    Refused = 3,
    /// Who accepted asks for a proof of the shared secret.
    Challenge = 4,
    /// A proof.
    Proof = 5,
    /// Who dialled takes this connection as the link.
    Ready = 6,
    /// Are you there?
    Ping = 7,
    /// Yes.
    Pong = 8,
    /// The link ends.
    Bye = 9,
    /// A worker wants a path.
    Attach = 10,
    /// It has one.
    Attached = 11,
    /// It has none.
    AttachRefused = 12,
    /// A worker left a path.
    Detach = 13,
    /// More sessions may be opened.
    Credits = 14,
    /// More sessions are wanted.
    CreditsWanted = 15,
    /// No more sessions.
    CreditsRefused = 16,
    /// The memory behind a key is wanted.
    KeyAsk = 17,
    /// Here it is.
    KeyGrant = 18,
    /// It is not to be had.
    KeyRefused = 19,
    /// An import is no longer used.
    KeyDropped = 20,
    /// An export is void.
    KeyRevoked = 21,
    /// Short frames may come this way.
    Ring = 22,
    /// This connection carries a path's frames from now on.
    Stream = 23,
}

/// One message. A `route` on the wire is always the receiver's own, except in `Attach` and `Attached`, where each side
/// tells its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who dials says who it is.
    Hello(Box<Hello>),
    /// Who accepted answers; `local` names its abstract Unix socket, empty if there is none.
    Welcome {
        /// The accepting context.
        hello: Box<Hello>,
        /// Without the leading NUL.
        local: Vec<u8>,
    },
    /// The handshake ends.
    Refused {
        /// Why.
        status: Status,
        /// Why, for a person.
        text: String,
    },
    /// A proof of the shared secret is wanted.
    Challenge {
        /// Random.
        nonce: [u8; NONCE],
    },
    /// A proof of the shared secret.
    Proof {
        /// Random, of who dialled; of who accepted, the challenge's.
        nonce: [u8; NONCE],
        /// HMAC-SHA256.
        proof: [u8; NONCE],
    },
    /// This connection is the link.
    Ready {
        /// What carries its data.
        fabric: Fabric,
    },
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// The link ends: on purpose (`None`), or because of a failure.
    Bye {
        /// The failure.
        failure: Option<Status>,
        /// Why, for a person.
        text: String,
    },
    /// A worker wants a path.
    Attach {
        /// Names the question.
        request: u32,
        /// Its side.
        ours: Attach,
    },
    /// It has one.
    Attached {
        /// The question.
        request: u32,
        /// Sessions it may open.
        credits: u32,
        /// The answering side.
        ours: Attach,
    },
    /// It has none.
    AttachRefused {
        /// The question.
        request: u32,
        /// Why.
        status: Status,
        /// Why, for a person.
        text: String,
    },
    /// A worker left a path.
    Detach {
        /// The receiver's.
        route: u32,
        /// Why.
        status: Status,
    },
    /// More sessions may be opened.
    Credits {
        /// The receiver's.
        route: u32,
        /// How many.
        count: u32,
    },
    /// More sessions are wanted.
    CreditsWanted {
        /// The receiver's.
        route: u32,
    },
    /// No more sessions.
    CreditsRefused {
        /// The receiver's.
        route: u32,
        /// Why.
        status: Status,
    },
    /// The memory behind a key is wanted.
    KeyAsk {
        /// Names the question.
        request: u32,
        /// Which, with its secret.
        ask: KeyAsk,
    },
    /// Here it is.
    KeyGrant {
        /// The question.
        request: u32,
        /// Bytes.
        length: u64,
        /// Rights.
        rights: u32,
        /// Whether two descriptors travel with the message.
        descriptor: bool,
        /// Address and UCX remote key.
        rma: Option<(u64, Vec<u8>)>,
    },
    /// It is not to be had.
    KeyRefused {
        /// The question.
        request: u32,
        /// Why.
        status: Status,
    },
    /// An import is no longer used.
    KeyDropped {
        /// The receiver's export.
        export_id: u64,
    },
    /// An export is void.
    KeyRevoked {
        /// The sender's export.
        export_id: u64,
    },
    /// Short frames of the path may come by memory that both map; two descriptors travel with it: memory and bell.
    Ring {
        /// The receiver's.
        route: u32,
    },
    /// The first words of a connection that carries a path's frames and nothing else.
    Stream {
        /// As told to who dialled it.
        ticket: [u8; TICKET],
    },
}

/// What was decoded from the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Not all of it is there yet.
    Partial,
    /// A message.
    Message {
        /// It.
        message: Message,
        /// Bytes it took.
        bytes: usize,
    },
    /// A message of a newer minor version, to be ignored.
    Ignored {
        /// Whether two descriptors came with it.
        descriptor: bool,
        /// Bytes it took.
        bytes: usize,
    },
}

impl Message {
    /// Its number on the wire.
    pub fn kind(&self) -> Kind {
        match self {
            Message::Hello(_) => Kind::Hello,
            Message::Welcome { .. } => Kind::Welcome,
            Message::Refused { .. } => Kind::Refused,
            Message::Challenge { .. } => Kind::Challenge,
            Message::Proof { .. } => Kind::Proof,
            Message::Ready { .. } => Kind::Ready,
            Message::Ping => Kind::Ping,
            Message::Pong => Kind::Pong,
            Message::Bye { .. } => Kind::Bye,
            Message::Attach { .. } => Kind::Attach,
            Message::Attached { .. } => Kind::Attached,
            Message::AttachRefused { .. } => Kind::AttachRefused,
            Message::Detach { .. } => Kind::Detach,
            Message::Credits { .. } => Kind::Credits,
            Message::CreditsWanted { .. } => Kind::CreditsWanted,
            Message::CreditsRefused { .. } => Kind::CreditsRefused,
            Message::KeyAsk { .. } => Kind::KeyAsk,
            Message::KeyGrant { .. } => Kind::KeyGrant,
            Message::KeyRefused { .. } => Kind::KeyRefused,
            Message::KeyDropped { .. } => Kind::KeyDropped,
            Message::KeyRevoked { .. } => Kind::KeyRevoked,
            Message::Ring { .. } => Kind::Ring,
            Message::Stream { .. } => Kind::Stream,
        }
    }

    /// Whether two descriptors travel with it.
    pub fn has_descriptors(&self) -> bool {
        matches!(self, Message::KeyGrant { descriptor: true, .. } | Message::Ring { .. })
    }

    /// A refusal that fits: `text` is cut at the limit.
    pub fn refused(error: &Error) -> Message {
        Message::Refused { status: error.status, text: clip(&error.message, REFUSAL_TEXT).to_owned() }
    }

    /// The whole frame. `InvalidArgument` when a field is too long.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let optional = if self.kind() == Kind::Ring { FLAG_OPTIONAL } else { 0 };
        let descriptor = if self.has_descriptors() { FLAG_DESCRIPTOR } else { 0 };
        let mut out = Writer::new(self.kind() as u16, descriptor | optional);
        self.encode_body(&mut out);
        out.finish()
    }

    fn encode_body(&self, out: &mut Writer) {
        match self {
            Message::Hello(hello) => hello.encode(out),
            Message::Welcome { hello, local } => {
                out.bytes(local, LOCAL_NAME);
                hello.encode(out);
            }
            Message::Refused { status, text } => {
                out.failure(*status);
                out.bytes(text.as_bytes(), REFUSAL_TEXT);
            }
            Message::Challenge { nonce } => out.array(*nonce),
            Message::Stream { ticket } => out.array(*ticket),
            Message::Proof { nonce, proof } => {
                out.array(*nonce);
                out.array(*proof);
            }
            Message::Ready { fabric } => out.u8(*fabric as u8),
            Message::Ping | Message::Pong => {}
            Message::Bye { failure, text } => {
                out.u32(failure.map_or(0, |status| status as i32).cast_unsigned());
                out.bytes(text.as_bytes(), REFUSAL_TEXT);
            }
            Message::Attach { request, ours } => {
                out.u32(*request);
                encode_attach(ours, out);
            }
            Message::Attached { request, credits, ours } => {
                out.u32(*request);
                out.u32(*credits);
                encode_attach(ours, out);
            }
            Message::AttachRefused { request, status, text } => {
                out.u32(*request);
                out.failure(*status);
                out.bytes(text.as_bytes(), REFUSAL_TEXT);
            }
            Message::Detach { route, status } | Message::CreditsRefused { route, status } => {
                out.u32(*route);
                out.failure(*status);
            }
            Message::Credits { route, count } => {
                out.u32(*route);
                out.u32(*count);
            }
            Message::CreditsWanted { route } | Message::Ring { route } => out.u32(*route),
            Message::KeyAsk { request, ask } => {
                out.u32(*request);
                out.u8(ask.ways);
                out.u8(ask.fabric);
                out.u16(0);
                out.u64(ask.export_id);
                out.array(ask.secret);
            }
            Message::KeyGrant { request, length, rights, rma, .. } => {
                out.u32(*request);
                out.u32(*rights);
                out.u64(*length);
                if let Some((address, key)) = rma {
                    out.u64(*address);
                    out.bytes(key, REMOTE_KEY);
                }
            }
            Message::KeyRefused { request, status } => {
                out.u32(*request);
                out.failure(*status);
            }
            Message::KeyDropped { export_id } | Message::KeyRevoked { export_id } => out.u64(*export_id),
        }
    }

    /// Reads the frame at the beginning of `bytes`, which may be anything.
    pub fn decode(bytes: &[u8]) -> Result<Decoded> {
        let Some(header) = Header::decode(bytes)? else { return Ok(Decoded::Partial) };
        let total = HEADER_BYTES + header.length;
        let descriptor = header.flags & FLAG_DESCRIPTOR != 0;
        let Some(kind) = Kind::from_u16(header.kind) else {
            return match (header.flags & FLAG_OPTIONAL != 0, bytes.len() >= total) {
                (false, _) => Err(broken("a control message of an unknown kind")),
                (true, false) => Ok(Decoded::Partial),
                (true, true) => Ok(Decoded::Ignored { descriptor, bytes: total }),
            };
        };
        if descriptor && !matches!(kind, Kind::KeyGrant | Kind::Ring) || !descriptor && kind == Kind::Ring {
            return Err(broken("descriptors with a message that has none, or none with one that has"));
        }
        let Some(body) = bytes.get(HEADER_BYTES..total) else { return Ok(Decoded::Partial) };
        let message = Message::decode_body(kind, descriptor, body)?;
        Ok(Decoded::Message { message, bytes: total })
    }

    fn decode_body(kind: Kind, descriptor: bool, body: &[u8]) -> Result<Message> {
        let mut from = Reader::new(body);
        let message = match kind {
            // A newer minor version appends fields to these two: what follows is not read.
            Kind::Hello => return Ok(Message::Hello(Box::new(Hello::decode(&mut from)?))),
            Kind::Welcome => {
                let local = from.bytes(LOCAL_NAME)?.to_vec();
                return Ok(Message::Welcome { local, hello: Box::new(Hello::decode(&mut from)?) });
            }
            Kind::Refused => Message::Refused { status: from.failure()?, text: from.text(REFUSAL_TEXT)? },
            Kind::Challenge => Message::Challenge { nonce: from.array()? },
            Kind::Proof => Message::Proof { nonce: from.array()?, proof: from.array()? },
            Kind::Ready => {
                let fabric = Fabric::from_u8(from.u8()?).ok_or_else(|| broken("an unknown fabric"))?;
                Message::Ready { fabric }
            }
            Kind::Ping => Message::Ping,
            Kind::Pong => Message::Pong,
            Kind::Bye => Message::Bye { failure: decode_end(&mut from)?, text: from.text(REFUSAL_TEXT)? },
            Kind::Attach => Message::Attach { request: from.u32()?, ours: decode_attach(&mut from)? },
            Kind::Attached => Message::Attached {
                request: from.u32()?,
                credits: from.u32()?,
                ours: decode_attach(&mut from)?,
            },
            Kind::AttachRefused => Message::AttachRefused {
                request: from.u32()?,
                status: from.failure()?,
                text: from.text(REFUSAL_TEXT)?,
            },
            Kind::Detach => Message::Detach { route: from.u32()?, status: from.failure()? },
            Kind::Credits => Message::Credits { route: from.u32()?, count: from.u32()? },
            Kind::CreditsWanted => Message::CreditsWanted { route: from.u32()? },
            Kind::CreditsRefused => Message::CreditsRefused { route: from.u32()?, status: from.failure()? },
            Kind::KeyAsk => Message::KeyAsk { request: from.u32()?, ask: decode_ask(&mut from)? },
            Kind::KeyGrant => return decode_grant(descriptor, from, body.len()),
            Kind::KeyRefused => Message::KeyRefused { request: from.u32()?, status: from.failure()? },
            Kind::KeyDropped => Message::KeyDropped { export_id: from.u64()? },
            Kind::KeyRevoked => Message::KeyRevoked { export_id: from.u64()? },
            Kind::Ring => Message::Ring { route: from.u32()? },
            Kind::Stream => Message::Stream { ticket: from.array()? },
        };
        from.end()?;
        Ok(message)
    }
}

fn encode_attach(attach: &Attach, out: &mut Writer) {
    out.u32(attach.route);
    out.bytes(&attach.address, WORKER_ADDRESS);
}

fn decode_attach(from: &mut Reader<'_>) -> Result<Attach> {
    Ok(Attach { route: from.u32()?, address: from.bytes(WORKER_ADDRESS)?.to_vec() })
}

fn decode_end(from: &mut Reader<'_>) -> Result<Option<Status>> {
    match from.u32()?.cast_signed() {
        0 => Ok(None),
        number if number < 0 => Ok(Some(Status::from_i32(number).unwrap_or(Status::Protocol))),
        _ => Err(broken("a link ends with a status that is no error")),
    }
}

fn decode_ask(from: &mut Reader<'_>) -> Result<KeyAsk> {
    let (ways, fabric) = (from.u8()?, from.u8()?);
    if from.u16()? != 0 {
        return Err(broken("a reserved field is not zero"));
    }
    Ok(KeyAsk { ways, fabric, export_id: from.u64()?, secret: from.array()? })
}

/// The remote key is there when the body is longer than the fixed part.
fn decode_grant(descriptor: bool, mut from: Reader<'_>, body: usize) -> Result<Message> {
    const FIXED: usize = 16;
    let (request, rights, length) = (from.u32()?, from.u32()?, from.u64()?);
    let rma = if body > FIXED { Some((from.u64()?, from.bytes(REMOTE_KEY)?.to_vec())) } else { None };
    from.end()?;
    Ok(Message::KeyGrant { request, length, rights, descriptor, rma })
}
