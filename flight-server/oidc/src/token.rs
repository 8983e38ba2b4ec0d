//! One token, from its text to what it proves.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde::de::IgnoredAny;

use crate::crypto;
use crate::json::Object;
use crate::keys::KeySet;

/// Longer texts are no tokens and are not decoded.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longer identifiers of keys are nobody's.
pub(crate) const KEY_ID_BYTES_MAX: usize = 256;
/// OpenID Connect Core, section 2: `sub` has at most 255 characters.
const SUBJECT_CHARS_MAX: usize = 255;
/// What tokens may be signed with: asymmetric, and what ring verifies.
pub const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::EdDSA,
];
/// Header parameters that bring a key or lead to one. No provider needs them for a key that it
/// publishes.
const KEYS_IN_HEADERS: [&str; 3] = ["jku", "jwk", "x5u"];

/// What a provider's tokens must be.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `iss`, letter by letter.
    pub issuer: String,
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// Clients whose tokens are accepted (`azp`, `client_id`); any where empty, as long as the
    /// token is for one audience only.
    pub clients: Vec<String>,
    /// `typ` of the header, without `application/`.
    pub types: Vec<String>,
    /// Some of [`ALGORITHMS`].
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the person.
    pub claim: String,
    /// `acr` must be one of these; without meaning where empty.
    pub acr: Vec<String>,
    /// `amr` must hold one of these; without meaning where empty.
    pub amr: Vec<String>,
    /// How far the provider's clock may be ahead, in seconds. None is given at the end of a token.
    pub leeway_seconds: i64,
    /// Longest time between `iat` and `exp`, in seconds.
    pub life_seconds_max: i64,
}

/// Why a token is refused: for the hub's log, never for whoever showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is no JWT of three parts with distinct names")]
    Malformed,
    #[error("its algorithm is not accepted, or not that of its key")]
    Algorithm,
    #[error("its `typ` is not accepted")]
    Type,
    #[error("it has critical header parameters, which nobody here understands")]
    Critical,
    #[error("it brings a key or the address of one")]
    KeyInHeader,
    #[error("the provider has no such key")]
    UnknownKey,
    #[error("its signature is not that of its key")]
    Signature,
    #[error("it is another issuer's")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("it was issued to a client that is not listed")]
    Client,
    #[error("it is not valid yet")]
    Early,
    #[error("it has ended")]
    Expired,
    #[error("it would live too long")]
    Life,
    #[error("it proves no second factor")]
    SecondFactor,
    #[error("its claim `{0}` is missing or of another form")]
    Claim(&'static str),
    #[error("it names nobody")]
    Subject,
}

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whom, at the issuer.
    pub subject: String,
    /// When it ends, in seconds since 1970.
    pub expires: i64,
}

/// A token that nobody has believed yet.
#[derive(Debug)]
pub struct Unverified<'a> {
    text: &'a str,
    header: Object,
    claims: Object,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Wrong`] where it cannot be one that is accepted, whatever its keys.
    pub fn read(text: &'a str) -> Result<Self, Wrong> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Wrong::TooLong);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Wrong::Malformed);
        };
        let object = |part: &str| Object::read(&URL_SAFE_NO_PAD.decode(part).ok()?);
        let header = object(header).ok_or(Wrong::Malformed)?;
        let claims = object(claims).ok_or(Wrong::Malformed)?;
        if header.has("crit") {
            return Err(Wrong::Critical);
        }
        if KEYS_IN_HEADERS.iter().any(|name| header.has(name)) {
            return Err(Wrong::KeyInHeader);
        }
        Ok(Self {
            text,
            header,
            claims,
        })
    }

    /// Who says that they issued it.
    pub fn issuer(&self) -> &str {
        self.claims.text("iss").unwrap_or_default()
    }

    /// Which key it says that it was signed with.
    ///
    /// # Errors
    /// [`Wrong::UnknownKey`] where it does not say.
    pub fn key_id(&self) -> Result<&str, Wrong> {
        let id = self.header.text("kid").unwrap_or_default();
        match id.is_empty() || id.len() > KEY_ID_BYTES_MAX {
            true => Err(Wrong::UnknownKey),
            false => Ok(id),
        }
    }

    /// What it proves at `now` (seconds since 1970), by the provider's keys and the hub's rules.
    ///
    /// # Errors
    /// The first rule that it breaks; those that need no key are looked at after the signature,
    /// so that nobody learns of them who has none.
    pub fn verify(&self, rules: &Rules, keys: &KeySet, now: i64) -> Result<Verified, Wrong> {
        self.verify_signature(rules, keys)?;
        self.check_receivers(rules)?;
        let expires = self.check_times(rules, now)?;
        self.check_factors(rules)?;
        let subject = self.claims.text(&rules.claim).unwrap_or_default();
        let is_name = !subject.is_empty()
            && subject.chars().count() <= SUBJECT_CHARS_MAX
            && !subject.chars().any(char::is_control);
        match is_name {
            true => Ok(Verified {
                subject: subject.to_owned(),
                expires,
            }),
            false => Err(Wrong::Subject),
        }
    }

    /// The library decides on the signature, the issuer and the audience, for one algorithm.
    fn verify_signature(&self, rules: &Rules, keys: &KeySet) -> Result<(), Wrong> {
        let algorithm = self.header.text("alg").unwrap_or_default();
        let algorithm: Algorithm = algorithm.parse().map_err(|_| Wrong::Algorithm)?;
        if !ALGORITHMS.contains(&algorithm) || !rules.algorithms.contains(&algorithm) {
            return Err(Wrong::Algorithm);
        }
        let id = self.key_id()?;
        let Some(key) = keys.find(id, algorithm) else {
            return Err(match keys.has(id) {
                true => Wrong::Algorithm,
                false => Wrong::UnknownKey,
            });
        };
        let mut validation = Validation::new(algorithm);
        // Times are judged by the caller's clock.
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["iss", "aud"]);
        validation.set_issuer(&[&rules.issuer]);
        validation.set_audience(&rules.audiences);
        crypto::install();
        let decoded = jsonwebtoken::decode::<IgnoredAny>(self.text, key, &validation);
        decoded.map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => Wrong::Signature,
            ErrorKind::InvalidIssuer => Wrong::Issuer,
            ErrorKind::InvalidAudience => Wrong::Audience,
            ErrorKind::MissingRequiredClaim(name) if name == "iss" => Wrong::Issuer,
            ErrorKind::MissingRequiredClaim(_) => Wrong::Audience,
            ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => Wrong::Algorithm,
            _ => Wrong::Malformed,
        })?;
        Ok(())
    }

    /// Type, issuer, audiences and client, beyond what the library asks.
    fn check_receivers(&self, rules: &Rules) -> Result<(), Wrong> {
        let said = self.header.text("typ").ok_or(Wrong::Type)?;
        let said = said.to_ascii_lowercase();
        let said = said.strip_prefix("application/").unwrap_or(&said);
        if !rules
            .types
            .iter()
            .any(|kind| kind.eq_ignore_ascii_case(said))
        {
            return Err(Wrong::Type);
        }
        // The library would take a list that the issuer is in.
        if self.issuer() != rules.issuer {
            return Err(Wrong::Issuer);
        }
        let audiences = self.claims.texts("aud").ok_or(Wrong::Audience)?;
        let mut named = false;
        for claim in ["azp", "client_id"] {
            if !self.claims.has(claim) {
                continue;
            }
            let client = self.claims.text(claim).ok_or(Wrong::Client)?;
            if !rules.clients.is_empty() && !rules.clients.iter().any(|listed| listed == client) {
                return Err(Wrong::Client);
            }
            named = true;
        }
        // What others may hold too must come from a client that is known (OpenID Connect Core,
        // section 3.1.3.7).
        let must_be_listed = !rules.clients.is_empty() || audiences.len() > 1;
        match must_be_listed && (rules.clients.is_empty() || !named) {
            true => Err(Wrong::Client),
            false => Ok(()),
        }
    }

    /// Gives when it ends.
    fn check_times(&self, rules: &Rules, now: i64) -> Result<i64, Wrong> {
        let seconds = |name| self.claims.seconds(name).ok_or(Wrong::Claim(name));
        let (issued, expires) = (seconds("iat")?, seconds("exp")?);
        let latest = now.saturating_add(rules.leeway_seconds);
        let begins = match self.claims.has("nbf") {
            true => seconds("nbf")?,
            false => issued,
        };
        if expires <= now {
            return Err(Wrong::Expired);
        }
        if issued > latest || begins > latest {
            return Err(Wrong::Early);
        }
        let life = expires.saturating_sub(issued);
        match life > 0 && life <= rules.life_seconds_max {
            true => Ok(expires),
            false => Err(Wrong::Life),
        }
    }

    fn check_factors(&self, rules: &Rules) -> Result<(), Wrong> {
        let listed = |list: &[String], said: &str| list.iter().any(|item| item == said);
        let acr = self.claims.text("acr");
        let by_acr = rules.acr.is_empty() || acr.is_some_and(|acr| listed(&rules.acr, acr));
        let amr = self.claims.texts("amr").unwrap_or_default();
        let by_amr = rules.amr.is_empty() || amr.iter().any(|said| listed(&rules.amr, said));
        // A provider for which nothing is listed proves nothing.
        let asked = !rules.acr.is_empty() || !rules.amr.is_empty();
        match asked && by_acr && by_amr {
            true => Ok(()),
            false => Err(Wrong::SecondFactor),
        }
    }
}
