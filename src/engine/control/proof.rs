//! Proving a shared secret: a challenge, and an answer from each side that only who knows the secret can make for these
//! two hellos. The secret itself never travels.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::hello::Hello;
use super::wire::Writer;
use crate::status::{Error, Result, Status};

/// Bytes of a nonce, and of a proof.
pub(super) const NONCE: usize = 32;

/// Shortest secret, in bytes.
const SHORTEST: usize = 16;
/// Longest secret, in bytes.
const LONGEST: usize = 1_024;

/// A secret that two contexts share; wiped when the last copy goes.
#[derive(Clone)]
pub struct SharedSecret(Arc<Zeroizing<Vec<u8>>>);

impl SharedSecret {
    /// A secret of 16 to 1,024 bytes; take them from a generator of random bytes, not from a person.
    pub fn new(bytes: &[u8]) -> Result<SharedSecret> {
        if !(SHORTEST..=LONGEST).contains(&bytes.len()) {
            return Err(Error::new(Status::InvalidArgument, "a shared secret has 16 to 1,024 bytes"));
        }
        Ok(SharedSecret(Arc::new(Zeroizing::new(bytes.to_vec()))))
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(…)")
    }
}

/// Who proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Dialler,
    Acceptor,
}

/// Random bytes that nobody has seen.
pub(super) fn nonce() -> Result<[u8; NONCE]> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|_| Error::new(Status::Io, "the kernel gave no random bytes"))?;
    Ok(nonce)
}

/// What both sides have said before one of them proves something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    /// The acceptor's nonce.
    pub challenge: &'a [u8; NONCE],
    /// The dialler's nonce.
    pub answer: &'a [u8; NONCE],
    /// The dialler's hello.
    pub dialler: &'a Hello,
    /// The acceptor's hello; when the dialler proves, it does not have it yet.
    pub acceptor: Option<&'a Hello>,
}

/// The proof of one side.
pub(super) fn prove(secret: &SharedSecret, side: Side, said: &Said<'_>) -> Result<[u8; NONCE]> {
    let no_key = |_| Error::new(Status::Internal, "HMAC takes keys of any length");
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).map_err(no_key)?;
    mac.update(match side {
        Side::Dialler => b"rdma-engine 1 dialler\0",
        Side::Acceptor => b"rdma-engine 1 acceptor",
    });
    mac.update(said.challenge);
    mac.update(said.answer);
    for hello in [Some(said.dialler), said.acceptor].into_iter().flatten() {
        let mut bytes = Writer::new(0, 0);
        hello.encode(&mut bytes);
        let bytes = bytes.finish()?;
        mac.update(&(bytes.len() as u64).to_le_bytes());
        mac.update(&bytes);
    }
    Ok(mac.finalize().into_bytes().into())
}

/// Whether the proof is the right one, in a time that does not depend on how wrong it is.
pub(super) fn verify(secret: &SharedSecret, side: Side, said: &Said<'_>, proof: &[u8; NONCE]) -> Result<()> {
    let right: bool = prove(secret, side, said)?.ct_eq(proof).into();
    if right { Ok(()) } else { Err(Error::new(Status::PermissionDenied, "the shared secret is another one")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::control::ControlConfig;

    fn hello(uuid: u8) -> Hello {
        Hello::of(&ControlConfig::new([uuid; 16]))
    }

    #[test]
    fn a_proof_is_of_this_secret_this_side_these_nonces_and_these_hellos() {
        let secret = SharedSecret::new(b"sixteen bytes or more").unwrap();
        let (dialler, acceptor, other) = (hello(1), hello(2), hello(3));
        let (challenge, answer, stale) = ([1; NONCE], [2; NONCE], [3; NONCE]);
        let said =
            Said { challenge: &challenge, answer: &answer, dialler: &dialler, acceptor: Some(&acceptor) };
        let proof = prove(&secret, Side::Acceptor, &said).unwrap();
        verify(&secret, Side::Acceptor, &said, &proof).unwrap();
        let wrong = |secret: &SharedSecret, side, said: &Said<'_>| {
            assert_eq!(verify(secret, side, said, &proof).unwrap_err().status, Status::PermissionDenied);
        };
        wrong(&SharedSecret::new(b"sixteen bytes or morf").unwrap(), Side::Acceptor, &said);
        wrong(&secret, Side::Dialler, &said);
        wrong(&secret, Side::Acceptor, &Said { challenge: &stale, ..said });
        wrong(&secret, Side::Acceptor, &Said { answer: &stale, ..said });
        wrong(&secret, Side::Acceptor, &Said { dialler: &other, ..said });
        wrong(&secret, Side::Acceptor, &Said { acceptor: Some(&other), ..said });
        wrong(&secret, Side::Acceptor, &Said { acceptor: None, ..said });
        for at in 0..NONCE {
            let mut bad = proof;
            bad[at] ^= 1;
            assert!(verify(&secret, Side::Acceptor, &said, &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_secret_is_long_enough_and_not_told() {
        assert!(SharedSecret::new(&[0; 15]).is_err() && SharedSecret::new(&[0; 1025]).is_err());
        let secret = SharedSecret::new(b"do not tell anybody").unwrap();
        assert!(!format!("{secret:?}").contains("tell"));
    }
}
