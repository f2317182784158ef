//! The dialling side of proving a shared secret: our proof for the peer's challenge, then the peer's own.

use super::message::Message;
use super::proof::{self, NONCE, Said, Side};
use super::reactor::Core;
use crate::status::{Error, Result, Status};

/// How far the proof is.
#[derive(Debug, Default)]
pub(super) enum Proving {
    /// Nobody has asked.
    #[default]
    Unasked,
    /// We have proved it: challenge and our nonce.
    Answered([u8; NONCE], [u8; NONCE]),
    /// The peer has answered; its proof counts with its hello.
    Both([u8; NONCE], [u8; NONCE], [u8; NONCE]),
}

/// What a message of the handshake means.
pub(super) enum Proved {
    /// Say this, if anything, and wait for the next one.
    Wait(Option<Message>),
    /// It is not about secrets, and as much is proved as there must be.
    Enough,
}

impl Proving {
    /// Takes a message of the peer. `UNAUTHORIZED`: one side has a secret and the other has none; `PERMISSION_DENIED`: it
    /// is another one.
    pub fn take(&mut self, message: &Message, core: &Core) -> Result<Proved> {
        let secret = core.shared.config.secret.as_ref();
        match (&*self, message) {
            (Proving::Unasked, Message::Challenge { nonce }) => {
                let none = "the peer asks for a shared secret: give the context the same one";
                let secret = secret.ok_or_else(|| Error::new(Status::Unauthorized, none))?;
                let answer = proof::nonce()?;
                let said = Said { challenge: nonce, answer: &answer, dialler: &core.hello, acceptor: None };
                let proof = proof::prove(secret, Side::Dialler, &said)?;
                *self = Proving::Answered(*nonce, answer);
                Ok(Proved::Wait(Some(Message::Proof { nonce: answer, proof })))
            }
            (Proving::Answered(challenge, answer), Message::Proof { nonce, proof }) if nonce == challenge => {
                *self = Proving::Both(*challenge, *answer, *proof);
                Ok(Proved::Wait(None))
            }
            (Proving::Both(challenge, answer, proof), Message::Welcome { hello, .. }) => {
                let secret = secret.ok_or_else(|| Error::from(Status::Internal))?;
                let acceptor = Some(&**hello);
                let said = Said { challenge, answer, dialler: &core.hello, acceptor };
                proof::verify(secret, Side::Acceptor, &said, proof)?;
                Ok(Proved::Enough)
            }
            (_, Message::Refused { .. }) => Ok(Proved::Enough),
            (Proving::Unasked, Message::Welcome { .. }) if secret.is_none() => Ok(Proved::Enough),
            (_, Message::Welcome { .. }) => {
                let text = "the peer does not prove the shared secret: give its context the same one";
                Err(Error::new(Status::Unauthorized, text))
            }
            _ => Err(Error::new(Status::Protocol, "the peer answers a hello with something else")),
        }
    }
}
