//! Signatures of tokens by ring: RS256, PS256, ES256 and EdDSA are verified, and nothing is
//! signed. There is no HMAC, so that a public key is never taken for a shared secret.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::error::Unspecified;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(unsupported()),
        rsa_pub_components_from_public_key: |_| Err(unsupported()),
        ec_pub_components_from_private_key: |_, _| Err(unsupported()),
        ed_pub_components_from_private_key: |_, _| Err(unsupported()),
        compute_digest: |_, _| Err(unsupported()),
    },
};

/// Gives the library its cryptography; calling it again does nothing.
pub(crate) fn install() {
    // It fails only when it was done before.
    let _ = PROVIDER.install_default();
}

fn unsupported() -> Error {
    new_error(ErrorKind::UnsupportedAlgorithm)
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(unsupported())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let algorithm = *algorithm;
    if !crate::token::ALGORITHMS.contains(&algorithm) {
        return Err(unsupported());
    }
    if key.family() != algorithm.family() {
        return Err(new_error(ErrorKind::InvalidKeyFormat));
    }
    let key = key.clone();
    Ok(Box::new(RingVerifier { algorithm, key }))
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature::Error> {
        let key = self.key.kind();
        let verified = match self.algorithm {
            Algorithm::RS256 => rsa(&RSA_PKCS1_2048_8192_SHA256, key, message, signed),
            Algorithm::PS256 => rsa(&RSA_PSS_2048_8192_SHA256, key, message, signed),
            Algorithm::ES256 => point(&ECDSA_P256_SHA256_FIXED, key, message, signed),
            Algorithm::EdDSA => point(&ED25519, key, message, signed),
            _ => Err(Unspecified),
        };
        verified.map_err(|Unspecified| signature::Error::new())
    }
}

fn rsa(
    parameters: &RsaParameters,
    key: &DecodingKeyKind,
    message: &[u8],
    signed: &[u8],
) -> Result<(), Unspecified> {
    let DecodingKeyKind::RsaModulusExponent { n, e } = key else {
        return Err(Unspecified);
    };
    RsaPublicKeyComponents { n, e }.verify(parameters, message, signed)
}

fn point(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &DecodingKeyKind,
    message: &[u8],
    signed: &[u8],
) -> Result<(), Unspecified> {
    let DecodingKeyKind::SecretOrDer(point) = key else {
        return Err(Unspecified);
    };
    UnparsedPublicKey::new(algorithm, point).verify(message, signed)
}
