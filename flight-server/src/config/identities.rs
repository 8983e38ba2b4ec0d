//! `[[oidc]]`, and whom its subjects and client certificates stand for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use data_encoding::HEXLOWER_PERMISSIVE;
use hubflight_oidc::{ALGORITHMS, KeyLimits, Rules};
use hubflight_store::Identity;
use serde::Deserialize;

use super::{ClientCertificates, Config, PersonConfig};
use crate::error::{Error, Result};

/// A clock that is further off is wrong.
const LEEWAY_SECONDS_MAX: u32 = 120;
/// A token cannot be withdrawn: one that lives longer is none for this hub.
const LIFE_SECONDS_MAX: u32 = 12 * 3600;
/// Between two fetches of keys, whatever tokens come.
const KEYS_PAUSE: Duration = Duration::from_secs(10);
/// Keys that the provider removed count no longer than this after it cannot be reached.
const KEYS_SECONDS_MAX: u32 = 24 * 3600;
/// Names that persons may change, or that a provider gives to another person later.
const CLAIMS_NOT_TRUSTED: [&str; 8] = [
    "email",
    "preferred_username",
    "username",
    "upn",
    "unique_name",
    "name",
    "nickname",
    "phone_number",
];

/// An OIDC provider whose access tokens let persons in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// As its tokens and its discovery document have it, letter by letter. Plain `http` on
    /// loopback only.
    pub issuer: String,
    /// What its tokens for this hub have in `aud`.
    pub audiences: Vec<String>,
    /// Clients whose tokens are accepted; needed where tokens are for several audiences.
    #[serde(default)]
    pub clients: Vec<String>,
    /// The claim that names the person and never another one: `sub`, or as stable an identifier.
    #[serde(default = "sub")]
    pub claim: String,
    /// Values of `acr` that prove a second factor.
    #[serde(default)]
    pub acr: Vec<String>,
    /// Values of `amr` that prove a second factor; one of them is enough.
    #[serde(default)]
    pub amr: Vec<String>,
    /// `typ` of its access tokens: `at+jwt` (RFC 9068), or what an older provider writes there.
    #[serde(default = "access_token")]
    pub types: Vec<String>,
    #[serde(default = "algorithms")]
    pub algorithms: Vec<String>,
    /// How far its clock may be ahead of the hub's.
    #[serde(default = "leeway")]
    pub leeway_seconds: u32,
    /// Longest accepted time from `iat` to `exp`.
    #[serde(default = "hour")]
    pub life_seconds_max: u32,
    /// How long fetched keys count while the provider answers.
    #[serde(default = "minutes")]
    pub keys_refresh_seconds: u32,
    /// How long they count when it does not.
    #[serde(default = "hour")]
    pub keys_seconds_max: u32,
    /// PEM file of the authority that signed its TLS certificate; the system's ones without.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

fn sub() -> String {
    "sub".into()
}

fn access_token() -> Vec<String> {
    vec!["at+jwt".into()]
}

fn algorithms() -> Vec<String> {
    ALGORITHMS.map(|algorithm| format!("{algorithm:?}")).into()
}

fn leeway() -> u32 {
    30
}

fn minutes() -> u32 {
    300
}

fn hour() -> u32 {
    3600
}

impl Oidc {
    fn validate(&self) -> Result<()> {
        let wrong = |problem: String| Err(self.wrong(&problem));
        if !is_safe(&self.issuer) || self.issuer.contains(['?', '#']) {
            return wrong(
                "write the `https` address that its tokens have as `iss`; plain `http` \
                          is for loopback only"
                    .into(),
            );
        }
        if self.audiences.is_empty() || self.audiences.contains(&String::new()) {
            return wrong("name the `audiences` that its tokens for this hub have".into());
        }
        if self.acr.is_empty() && self.amr.is_empty() {
            return wrong(
                "a password alone is not enough: name the values of `acr` or `amr` that its \
                 tokens have after a second factor"
                    .into(),
            );
        }
        if CLAIMS_NOT_TRUSTED.contains(&self.claim.as_str()) || self.claim.is_empty() {
            return wrong(format!(
                "`claim` is `{}`, which a person may change or another one may be given; use \
                 `sub`, or an identifier that the provider never gives twice",
                self.claim
            ));
        }
        if self.types.is_empty() {
            return wrong("name the `types` of its access tokens, as `at+jwt`".into());
        }
        let bounds = [
            ("leeway_seconds", self.leeway_seconds, 0, LEEWAY_SECONDS_MAX),
            (
                "life_seconds_max",
                self.life_seconds_max,
                1,
                LIFE_SECONDS_MAX,
            ),
            (
                "keys_refresh_seconds",
                self.keys_refresh_seconds,
                1,
                self.keys_seconds_max,
            ),
            (
                "keys_seconds_max",
                self.keys_seconds_max,
                1,
                KEYS_SECONDS_MAX,
            ),
        ];
        for (name, value, least, most) in bounds {
            if value < least || value > most {
                return wrong(format!("`{name}` is {value}; write {least} to {most}"));
            }
        }
        self.rules().map(|_| ())
    }

    /// What its tokens must be.
    pub fn rules(&self) -> Result<Rules> {
        let algorithm = |name: &String| {
            let mut accepted = ALGORITHMS.into_iter();
            let found = accepted.find(|known| format!("{known:?}") == *name);
            found.ok_or_else(|| {
                self.wrong(&format!(
                    "algorithm `{name}` is not accepted; there are {}",
                    algorithms().join(", ")
                ))
            })
        };
        Ok(Rules {
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            clients: self.clients.clone(),
            types: self.types.clone(),
            algorithms: self
                .algorithms
                .iter()
                .map(algorithm)
                .collect::<Result<_>>()?,
            claim: self.claim.clone(),
            acr: self.acr.clone(),
            amr: self.amr.clone(),
            leeway_seconds: self.leeway_seconds.into(),
            life_seconds_max: self.life_seconds_max.into(),
        })
    }

    pub fn key_limits(&self) -> KeyLimits {
        KeyLimits {
            refresh: Duration::from_secs(self.keys_refresh_seconds.into()),
            life: Duration::from_secs(self.keys_seconds_max.into()),
            pause: KEYS_PAUSE.min(Duration::from_secs(self.keys_refresh_seconds.into())),
        }
    }

    /// An error that says which provider it is about.
    pub fn wrong(&self, problem: &str) -> Error {
        Error::invalid(format!("oidc `{}`: {problem}", self.issuer))
    }
}

/// True for `https`, and for `http` to this machine itself.
pub fn is_safe(address: &str) -> bool {
    let Ok(address) = reqwest::Url::parse(address) else {
        return false;
    };
    let host = address.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = literal.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let is_plain = address.username().is_empty() && address.password().is_none();
    match address.scheme() {
        "https" => !host.is_empty() && is_plain,
        "http" => is_loopback && is_plain,
        _ => false,
    }
}

impl Config {
    pub(super) fn validate_providers(&self) -> Result<()> {
        for (index, provider) in self.oidc.iter().enumerate() {
            provider.validate()?;
            let mut before = self.oidc.iter().take(index);
            if before.any(|other| other.issuer == provider.issuer) {
                return Err(provider.wrong("it is listed twice; keep one"));
            }
        }
        Ok(())
    }

    pub(super) fn validate_client_certificates(&self) -> Result<()> {
        let required = Some(ClientCertificates::Required);
        let tls = self.server.tls.as_ref();
        let asks = tls.is_some_and(|tls| tls.client_ca.is_some());
        let demands = tls.map(|tls| tls.client_certificates) == required
            || self
                .listeners
                .iter()
                .any(|other| other.client_certificates == required);
        if demands && !asks {
            return Err(Error::invalid(
                "`client_certificates` is `required` without `server.tls.client_ca`: name the \
                 PEM file of the authority that signs them",
            ));
        }
        if tls.is_some_and(|tls| tls.client_crl.is_some()) && !asks {
            return Err(Error::invalid(
                "`server.tls.client_crl` lists revoked certificates of no `server.tls.client_ca`: \
                 name the authority",
            ));
        }
        Ok(())
    }

    /// Whom each subject and certificate of the file stands for.
    ///
    /// # Errors
    /// `InvalidArgument` naming a person whose identity is written wrongly, is of no provider,
    /// or is another person's too.
    pub fn identities(&self) -> Result<BTreeMap<Identity, String>> {
        let mut all = BTreeMap::new();
        for person in &self.persons {
            let wrong =
                |problem: &str| Error::invalid(format!("person `{}`: {problem}", person.id));
            let subject = self.subject(person).map_err(|problem| wrong(&problem))?;
            let certificates = self
                .certificates(person)
                .map_err(|problem| wrong(&problem))?;
            for identity in subject.into_iter().chain(certificates) {
                let text = identity.subject.clone();
                if all.insert(identity, person.id.clone()).is_some() {
                    return Err(wrong(&format!(
                        "`{text}` is listed twice; it stands for one person, once"
                    )));
                }
            }
        }
        Ok(all)
    }

    fn subject(&self, person: &PersonConfig) -> Result<Option<Identity>, String> {
        let Some(subject) = &person.subject else {
            return match &person.issuer {
                Some(_) => Err("it has an `issuer` and no `subject`; write both".into()),
                None => Ok(None),
            };
        };
        if subject.is_empty() || subject.chars().any(char::is_control) {
            return Err("its `subject` is no name; write it as the provider does".into());
        }
        let issuer = match (&person.issuer, self.oidc.as_slice()) {
            (None, [only]) => &only.issuer,
            (None, []) => return Err("its `subject` is of no provider; add an `[[oidc]]`".into()),
            (None, _) => {
                return Err("say with `issuer` which `[[oidc]]` its `subject` is of".into());
            }
            (Some(named), providers) => match providers.iter().find(|one| one.issuer == *named) {
                Some(provider) => &provider.issuer,
                None => return Err(format!("`{named}` is the `issuer` of no `[[oidc]]`")),
            },
        };
        Ok(Some(Identity {
            issuer: issuer.clone(),
            subject: subject.clone(),
        }))
    }

    fn certificates(&self, person: &PersonConfig) -> Result<Vec<Identity>, String> {
        let tls = self.server.tls.as_ref();
        if !person.certificates.is_empty() && tls.is_none_or(|tls| tls.client_ca.is_none()) {
            return Err(
                "its `certificates` are looked at by nobody; name their authority as \
                 `server.tls.client_ca`"
                    .into(),
            );
        }
        let identity = |text: &String| {
            fingerprint(text)
                .map(|sha256| Identity::certificate(&sha256))
                .ok_or_else(|| {
                    format!(
                        "certificate `{text}`: write `sha256:` and 64 hexadecimal digits, as \
                         `openssl x509 -noout -fingerprint -sha256` shows them"
                    )
                })
        };
        person.certificates.iter().map(identity).collect()
    }
}

/// `sha256:` and the digits, with or without colons between the bytes.
fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?.replace(':', "");
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVIDER: &str = "[[oidc]]\nissuer = 'https://login.example.org'\naudiences = ['hub']\n";

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn a_provider_is_safe_and_proves_a_second_factor() {
        parse(&format!("{PROVIDER}amr = ['otp']")).expect("complete");
        let error = parse(PROVIDER).expect_err("no second factor");
        assert!(error.contains("`acr` or `amr`"), "{error}");
        for (line, said) in [
            ("claim = 'email'", "`email`"),
            ("claim = 'preferred_username'", "may change"),
            ("claim = ''", "claim"),
            ("algorithms = ['HS256']", "`HS256`"),
            ("algorithms = ['none']", "`none`"),
            ("leeway_seconds = 121", "leeway_seconds"),
            ("life_seconds_max = 0", "life_seconds_max"),
            ("life_seconds_max = 50000", "life_seconds_max"),
            ("keys_refresh_seconds = 7200", "keys_refresh_seconds"),
            ("types = []", "types"),
            ("secret = 'x'", "secret"),
        ] {
            let error = parse(&format!("{PROVIDER}amr = ['otp']\n{line}")).expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
        for (issuer, good) in [
            ("https://login.example.org/realms/hub", true),
            ("http://127.0.0.1:4000", true),
            ("http://[::1]:4000", true),
            ("http://localhost:4000", false),
            ("http://login.example.org", false),
            ("http://127.0.0.1.example.org", false),
            ("https://u:p@login.example.org", false),
            ("https://login.example.org/?x", false),
            ("file:///etc/passwd", false),
            ("login.example.org", false),
            ("", false),
        ] {
            let text = format!("[[oidc]]\nissuer = '{issuer}'\naudiences = ['hub']\nacr = ['x']");
            assert_eq!(parse(&text).is_ok(), good, "{issuer}");
        }
    }

    #[test]
    fn a_subject_is_of_one_provider_and_one_person() {
        let one = format!("{PROVIDER}amr = ['otp']\n");
        let two = format!("{one}{}amr = ['otp']\n", PROVIDER.replace("login", "other"));
        let ada = "[[person]]\nid = 'ada'\nsubject = '7f'\n";
        let config = parse(&format!("{one}{ada}")).expect("one provider");
        let identities = config.identities().expect("valid");
        let (identity, person) = identities.first_key_value().expect("one");
        assert_eq!(identity.issuer, "https://login.example.org");
        assert_eq!((identity.subject.as_str(), person.as_str()), ("7f", "ada"));
        for (text, said) in [
            (one.repeat(2), "listed twice"),
            (ada.to_owned(), "`[[oidc]]`"),
            (format!("{two}{ada}"), "which `[[oidc]]`"),
            (
                format!("{one}{ada}issuer = 'https://evil.example'"),
                "issuer",
            ),
            (
                format!("{one}{ada}[[person]]\nid = 'eve'\nsubject = '7f'"),
                "twice",
            ),
            (
                format!("{one}[[person]]\nid = 'eve'\nsubject = ''"),
                "no name",
            ),
            (
                format!("{one}[[person]]\nid = 'eve'\nissuer = 'x'"),
                "write both",
            ),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(said), "{text}: {error}");
        }
        let apart = format!(
            "{two}{ada}issuer = 'https://other.example.org'\n\
                             [[person]]\nid = 'eve'\nsubject = '7f'\n\
                             issuer = 'https://login.example.org'"
        );
        assert_eq!(
            parse(&apart)
                .expect("two")
                .identities()
                .expect("valid")
                .len(),
            2
        );
    }

    #[test]
    fn a_certificate_is_written_as_openssl_shows_it() {
        let tls = "[server.tls]\ncertificate = 'c'\nkey = 'k'\nclient_ca = 'ca'\n";
        let plain = "ab".repeat(32);
        let openssl = ["AB"; 32].join(":");
        let person =
            |text: &str| format!("[[person]]\nid = 'ada'\ncertificates = ['sha256:{text}']");
        for text in [&plain, &openssl] {
            let config = parse(&format!("{tls}{}", person(text))).expect("a fingerprint");
            let identities = config.identities().expect("valid");
            let identity = identities.keys().next().expect("one");
            assert_eq!(*identity, Identity::certificate(&[0xab; 32]));
        }
        for text in [
            "",
            "ab",
            &plain[1..],
            &format!("{plain}ab"),
            &plain.replace('a', "g"),
        ] {
            let error = parse(&format!("{tls}{}", person(text))).expect_err(text);
            assert!(error.contains("64 hexadecimal"), "{error}");
        }
        let error = parse(&person(&plain)).expect_err("no authority");
        assert!(error.contains("client_ca"), "{error}");
        let both = format!(
            "{tls}{}\n{}",
            person(&plain),
            person(&openssl).replace("ada", "eve")
        );
        assert!(parse(&both).expect_err("twice").contains("twice"));
    }

    #[test]
    fn certificates_are_demanded_only_where_they_can_be_judged() {
        let tls = "[server]\nflight = '127.0.0.1:1'\n[server.tls]\ncertificate = 'c'\nkey = 'k'\n";
        let demand = "client_certificates = 'required'";
        parse(&format!("{tls}{demand}")).expect_err("no authority");
        parse(&format!("{tls}client_crl = 'x'")).expect_err("no authority");
        parse(&format!("{tls}{demand}\nclient_ca = 'ca'")).expect("judged");
        let listener = format!("[[listener]]\nflight = '127.0.0.1:2'\nzone = 'inside'\n{demand}");
        parse(&format!("{tls}{listener}")).expect_err("no authority");
        parse(&format!("{tls}client_ca = 'ca'\n{listener}")).expect("judged");
    }
}
