//! Tokens that allow a read, as a SeaweedFS cluster with a read key gives them out: a JWT (RFC 7519) signed with HMAC-SHA256
//! that names one file id.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::status::{Error, Result, Status};

/// Longest read key, in bytes.
pub const KEY: usize = 1_024;

/// SeaweedFS's `jwt.signing.read.key`; wiped when the last copy goes.
#[derive(Clone)]
pub struct ReadKey(Arc<Zeroizing<Vec<u8>>>);

impl ReadKey {
    /// A key of 1 to 1,024 bytes: the text of the cluster's `security.toml`. Errors: `InvalidArgument`.
    pub fn new(bytes: &[u8]) -> Result<ReadKey> {
        if bytes.is_empty() || bytes.len() > KEY {
            return Err(Error::new(Status::InvalidArgument, "a read key has 1 to 1,024 bytes"));
        }
        Ok(ReadKey(Arc::new(Zeroizing::new(bytes.to_vec()))))
    }

    /// Whether `token` allows reads of the needle that `name` (`volume,key`, without `_N`) names, now. Errors:
    /// `Unauthorized`.
    pub fn check(&self, token: Option<&str>, name: &str) -> Result<()> {
        let token = token.ok_or_else(|| refused("there is none"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.check_at(token, name, now)
    }

    /// [`ReadKey::check`] at a time, in Unix seconds.
    fn check_at(&self, token: &str, name: &str, now: f64) -> Result<()> {
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| refused("it is no JWT"))?;
        let (head, claims) = signed.split_once('.').ok_or_else(|| refused("it is no JWT"))?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .map_err(|_| Error::new(Status::Internal, "HMAC takes keys of any length"))?;
        mac.update(signed.as_bytes());
        // Compares in constant time.
        mac.verify_slice(&decode(signature)?).map_err(|_| refused("its signature is wrong"))?;
        let head: Head = parse(head)?;
        if head.alg != "HS256" {
            return Err(refused("its algorithm is not HS256"));
        }
        let claims: Claims = parse(claims)?;
        if claims.exp.is_some_and(|at| now >= at) {
            return Err(refused("it has expired"));
        }
        if claims.nbf.is_some_and(|at| now < at) {
            return Err(refused("it is not valid yet"));
        }
        if claims.fid != name {
            return Err(refused("it is for another file id"));
        }
        Ok(())
    }
}

impl fmt::Debug for ReadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadKey(…)")
    }
}

#[derive(Deserialize)]
struct Head {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    fid: String,
    exp: Option<f64>,
    nbf: Option<f64>,
}

fn decode(part: &str) -> Result<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| refused("it is no JWT"))
}

fn parse<T: for<'a> Deserialize<'a>>(part: &str) -> Result<T> {
    serde_json::from_slice(&decode(part)?).map_err(|_| refused("it is no JWT"))
}

fn refused(why: &'static str) -> Error {
    Error::new(Status::Unauthorized, format!("the token does not allow this: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "3,01637037d6";

    fn key() -> ReadKey {
        ReadKey::new(b"your-256-bit-secret").unwrap()
    }

    fn sign(head: &str, claims: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(&key().0).unwrap();
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn claims(claims: &str) -> String {
        sign(r#"{"alg":"HS256","typ":"JWT"}"#, claims)
    }

    fn check(token: &str) -> std::result::Result<(), Status> {
        key().check_at(token, NAME, 1000.0).map_err(|error| error.status)
    }

    /// Made with another implementation (Python's `hmac`), so that both cannot be wrong in the same way.
    #[test]
    fn a_token_that_another_program_made() {
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3MDAwMDAwNjAsImZpZCI6IjMsMDE2MzcwMzdkNiJ9.\
                     5NYfjKJrPIoh7E_5ZKnrpi9pcozSSk0ZRCShLnD2v70";
        assert_eq!(key().check_at(token, NAME, 1_700_000_000.0).map_err(|error| error.status), Ok(()));
        assert!(key().check_at(token, NAME, 1_700_000_060.0).is_err(), "over");
    }

    #[test]
    fn times_and_file_ids() {
        let good = [
            r#"{"fid":"3,01637037d6"}"#,
            r#"{"fid":"3,01637037d6","exp":1001,"nbf":1000,"iat":5000,"iss":"x"}"#,
            r#"{"fid":"3,01637037d6","exp":1000.5,"nbf":null}"#,
        ];
        for text in good {
            assert_eq!(check(&claims(text)), Ok(()), "{text}");
        }
        let bad = [
            r#"{"fid":"3,01637037d6","exp":1000}"#,
            r#"{"fid":"3,01637037d6","exp":0}"#,
            r#"{"fid":"3,01637037d6","exp":"5000"}"#,
            r#"{"fid":"3,01637037d6","nbf":1001}"#,
            r#"{"fid":"3,01637037d6_1"}"#,
            r#"{"fid":"3,02637037d6"}"#,
            r#"{"fid":""}"#,
            r#"{"exp":5000}"#,
            r#"["fid"]"#,
            "",
        ];
        for text in bad {
            assert_eq!(check(&claims(text)), Err(Status::Unauthorized), "{text}");
        }
    }

    #[test]
    fn what_is_not_signed_with_this_key_by_this_algorithm_is_refused() {
        let good = claims(r#"{"fid":"3,01637037d6"}"#);
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(check(&String::from_utf8(bytes).unwrap()), Err(Status::Unauthorized), "byte {at}");
            assert_eq!(check(&good[..at]), Err(Status::Unauthorized), "cut at {at}");
        }
        for head in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{}"#, "x"] {
            assert_eq!(check(&sign(head, r#"{"fid":"3,01637037d6"}"#)), Err(Status::Unauthorized), "{head}");
        }
        let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
        assert_eq!(check(&unsigned), Err(Status::Unauthorized));
        assert_eq!(check(&format!("{good}=")), Err(Status::Unauthorized), "no padding in a JWT");
        let other = ReadKey::new(b"another").unwrap();
        assert!(other.check_at(&good, NAME, 1000.0).is_err());
        assert!(key().check(None, NAME).is_err(), "no token");
    }

    #[test]
    fn a_key_has_a_length_and_is_not_told() {
        assert!(ReadKey::new(b"").is_err() && ReadKey::new(&[1; KEY + 1]).is_err());
        assert!(!format!("{:?}", key()).contains("secret"));
    }
}
