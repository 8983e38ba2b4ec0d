//! A provider of the tests: its keys, its tokens, and what anybody could write instead.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hubflight_oidc::{ALGORITHMS, KeySet, Rules, Unverified, Verified, Wrong};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

/// The clock of the tests, in seconds since 1970.
pub const NOW: i64 = 1_800_000_000;
pub const ISSUER: &str = "https://login.example.org";
pub const HUB: &str = "https://hub.example.org";

/// ring makes no RSA keys: 2048 bits by openssl (PKCS#1), for these tests only.
const RSA: &[u8] = include_bytes!("rsa_of_tests.der");

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Keys of one party.
pub struct Signer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signer {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let p256 = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(p256, &random).expect("a key");
        let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        Self {
            rsa: RsaKeyPair::from_der(RSA).expect("a key"),
            p256: EcdsaKeyPair::from_pkcs8(p256, pkcs8.as_ref(), &random).expect("a key"),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("a key"),
        }
    }

    /// The public part, as published: `rsa`, `p256` or `ed`, which is the identifier too.
    pub fn jwk(&self, name: &str) -> Value {
        match name {
            "rsa" => {
                let parts: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
                json!({"kty": "RSA", "kid": name, "use": "sig", "n": encode(parts.n),
                       "e": encode(parts.e)})
            }
            "p256" => {
                let point = self.p256.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": name, "x": encode(&point[1..33]),
                       "y": encode(&point[33..])})
            }
            _ => json!({"kty": "OKP", "crv": "Ed25519", "kid": name,
                        "x": encode(self.ed.public_key())}),
        }
    }

    pub fn keys(&self) -> KeySet {
        let keys = ["rsa", "p256", "ed"].map(|name| self.jwk(name));
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).expect("keys")
    }

    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let mut signed = vec![0; self.rsa.public().modulus_len()];
        match algorithm {
            "RS256" => {
                let done = self
                    .rsa
                    .sign(&RSA_PKCS1_SHA256, &random, message, &mut signed);
                done.expect("signs");
                signed
            }
            "PS256" => {
                let done = self
                    .rsa
                    .sign(&RSA_PSS_SHA256, &random, message, &mut signed);
                done.expect("signs");
                signed
            }
            "ES256" => {
                let signed = self.p256.sign(&random, message).expect("signs");
                signed.as_ref().to_vec()
            }
            _ => self.ed.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of texts as they stand, signed by `algorithm` whatever the header says.
    pub fn token_of(&self, algorithm: &str, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signed = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", encode(signed))
    }

    /// A good token but for what `edit` does to its header and claims.
    pub fn token(&self, edit: impl Fn(&mut Value, &mut Value)) -> String {
        let (mut header, mut claims) = (header("ES256", "p256"), claims());
        edit(&mut header, &mut claims);
        self.token_of("ES256", &header.to_string(), &claims.to_string())
    }
}

pub fn header(algorithm: &str, key: &str) -> Value {
    json!({"alg": algorithm, "kid": key, "typ": "at+jwt"})
}

pub fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": HUB, "sub": "ada-7f", "client_id": "notebook", "acr": "mfa",
        "amr": ["pwd", "otp"], "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 600,
    })
}

pub fn rules() -> Rules {
    Rules {
        issuer: ISSUER.into(),
        audiences: vec![HUB.into()],
        clients: Vec::new(),
        types: vec!["at+jwt".into()],
        algorithms: ALGORITHMS.to_vec(),
        claim: "sub".into(),
        acr: vec!["mfa".into()],
        amr: vec!["otp".into(), "hwk".into()],
        leeway_seconds: 30,
        life_seconds_max: 3600,
    }
}

pub fn judge(text: &str, rules: &Rules, keys: &KeySet) -> Result<Verified, Wrong> {
    Unverified::read(text)?.verify(rules, keys, NOW)
}
