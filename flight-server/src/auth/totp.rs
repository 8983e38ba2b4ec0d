//! Time-based one-time codes (RFC 6238): the second factor of a password.
//!
//! Six digits of HMAC-SHA-1 over steps of 30 seconds, which every authenticator has. A code is
//! good one step early and late, and once: the step of the last code that was accepted lies in
//! the store, so that no server of the hub takes a code or an older one again.

use chrono::{DateTime, Utc};
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use hubflight_tickets::{Sealer, random};
use sha1::Sha1;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

const DIGITS: usize = 6;
const STEP_SECONDS: i64 = 30;
/// Steps that a client's clock may be early or late.
const STEPS_OFF_MAX: i64 = 1;
/// RFC 4226 recommends 160 bits.
const SECRET_BYTES: usize = 20;

/// The secret that an authenticator shares with the hub. Never printed.
pub struct Secret(Zeroizing<[u8; SECRET_BYTES]>);

impl Secret {
    pub fn new() -> Result<Self> {
        Ok(Self(Zeroizing::new(random()?)))
    }

    /// As the store keeps it: sealed with its person, so that it opens for nobody else.
    pub fn seal(&self, sealer: &Sealer, person: &str) -> Result<Vec<u8>> {
        let plain = Zeroizing::new([&self.0[..], person.as_bytes()].concat());
        Ok(sealer.seal(&plain)?)
    }

    pub fn open(sealed: &[u8], sealer: &Sealer, person: &str) -> Result<Self> {
        let plain = sealer.open(sealed).map(Zeroizing::new);
        let secret = plain.as_ref().and_then(|plain| {
            let (secret, owner) = plain.split_first_chunk::<SECRET_BYTES>()?;
            (owner == person.as_bytes()).then(|| Self(Zeroizing::new(*secret)))
        });
        secret.ok_or_else(|| Error::internal("the secret of a second factor is unreadable", &""))
    }

    /// What an authenticator scans or is typed.
    pub fn uri(&self, person: &str) -> Zeroizing<String> {
        let secret = Zeroizing::new(BASE32_NOPAD.encode(&self.0[..]));
        let person: String = person.bytes().map(escaped).collect();
        Zeroizing::new(format!(
            "otpauth://totp/Hubflight:{person}?secret={}&issuer=Hubflight&algorithm=SHA1\
             &digits={DIGITS}&period={STEP_SECONDS}",
            secret.as_str()
        ))
    }

    /// The step that a code is for, if it is one of those around `now`. All are compared.
    pub fn step_of(&self, code: &str, now: DateTime<Utc>) -> Result<Option<i64>> {
        let current = now.timestamp().div_euclid(STEP_SECONDS);
        let mut found = None;
        for step in current - STEPS_OFF_MAX..=current + STEPS_OFF_MAX {
            let equal: Choice = self.code(step)?.as_bytes().ct_eq(code.as_bytes());
            if bool::from(equal) {
                found = Some(step);
            }
        }
        Ok(found)
    }

    /// RFC 4226, section 5.3, with the step as the counter.
    pub(super) fn code(&self, step: i64) -> Result<Zeroizing<String>> {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0[..])
            .map_err(|error| Error::internal("a key has the wrong length", &error))?;
        mac.update(&step.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        let offset = usize::from(hash[hash.len() - 1] & 0xf);
        let word = hash[offset..offset + 4]
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let code = (word & 0x7fff_ffff) % 10_u32.pow(DIGITS as u32);
        Ok(Zeroizing::new(format!("{code:0DIGITS$}")))
    }
}

/// A byte of a URI's path (RFC 3986, unreserved characters as they are).
fn escaped(byte: u8) -> String {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    }
}

/// Splits `password` and `code`, a blank or a colon between them. None where no code ends the
/// text.
pub fn split(text: &str) -> Option<(&str, &str)> {
    let (head, code) = text.split_at_checked(text.len().checked_sub(DIGITS)?)?;
    let password = head.strip_suffix([' ', ':'])?;
    code.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some((password, code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    fn at(seconds: i64) -> DateTime<Utc> {
        Utc.timestamp_opt(seconds, 0).single().expect("a time")
    }

    /// RFC 6238, appendix B: the last six of its eight digits.
    #[test]
    fn the_codes_are_those_of_the_standard() {
        let secret = Secret(Zeroizing::new(*b"12345678901234567890"));
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let step = secret.step_of(code, at(seconds)).expect("computed");
            assert_eq!(step, Some(seconds / STEP_SECONDS), "{seconds}");
            // The clocks may differ by a step and no more.
            for (off, good) in [(-60, false), (-30, true), (30, true), (60, false)] {
                let found = secret.step_of(code, at(seconds + off)).expect("computed");
                assert_eq!(found.is_some(), good, "{seconds} {off}");
            }
        }
        for wrong in ["", "28708", "2870820", "287083", "２８７０８２"] {
            let step = secret.step_of(wrong, at(59)).expect("computed");
            assert_eq!(step, None, "{wrong}");
        }
    }

    #[test]
    fn a_code_is_split_from_its_password() {
        for (text, parts) in [
            ("correct horse 123456", Some(("correct horse", "123456"))),
            ("a:b:123456", Some(("a:b", "123456"))),
            (" 123456", Some(("", "123456"))),
            ("123456", None),
            ("horse123456", None),
            ("horse 12345", None),
            ("horse 12345a", None),
            ("horse é123456", None),
            ("horse 12345é", None),
            ("", None),
        ] {
            assert_eq!(split(text), parts, "{text}");
        }
    }

    #[test]
    fn a_sealed_secret_opens_for_its_person_only() {
        let sealer = Sealer::new(&[1; 32], b"test");
        let secret = Secret::new().expect("random");
        let sealed = secret.seal(&sealer, "ada").expect("sealed");
        let opened = Secret::open(&sealed, &sealer, "ada").expect("opens");
        assert_eq!(opened.0, secret.0);
        assert!(Secret::open(&sealed, &sealer, "eve").is_err());
        assert!(Secret::open(&sealed, &Sealer::new(&[2; 32], b"test"), "ada").is_err());
        let uri = secret.uri("a+da@x");
        assert!(uri.starts_with("otpauth://totp/Hubflight:a%2Bda%40x?secret="));
    }
}
