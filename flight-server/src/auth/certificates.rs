//! Certificates that clients show. The handshake of TLS proves that a client has the key of the
//! one that it shows; here it is judged, again at each call and while statements run: by the
//! authority, the time, the use, and the list of those that were revoked. Whom it stands for is
//! told by its fingerprint alone: nothing that an authority writes into a certificate names
//! anybody here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use hubflight_store::Identity;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest, Sha256};

use crate::config::Tls;
use crate::error::{Error, Result};
use crate::tls;

/// How often the file of revoked certificates is looked at.
const CRL_LOOK_EVERY: Duration = Duration::from_millis(500);

/// Larger files of revoked certificates are not read: their signature is checked with each
/// certificate, at some milliseconds a megabyte.
const CRL_BYTES_MAX: u64 = 8 << 20;

/// A certificate as a client showed it, with those that lead to its authority.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown {
    pub identity: Identity,
    /// DER, its own first.
    chain: Arc<Vec<Vec<u8>>>,
}

impl Shown {
    /// None where nothing was shown.
    pub fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let own = chain.first()?;
        Some(Self {
            identity: Identity::certificate(&Sha256::digest(own).into()),
            chain: Arc::new(chain.iter().map(|der| der.to_vec()).collect()),
        })
    }
}

/// Judges certificates by an authority and its lists.
#[derive(Debug)]
pub struct Judge {
    roots: Arc<RootCertStore>,
    crl: Option<PathBuf>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    verifier: Arc<dyn ClientCertVerifier>,
    looked: Instant,
    stamp: Option<Stamp>,
}

/// What tells that a file was written again.
type Stamp = (SystemTime, u64);

impl Judge {
    /// None where the hub asks for no certificates.
    ///
    /// # Errors
    /// `InvalidArgument` naming the file that cannot be used.
    pub fn new(files: &Tls) -> Result<Option<Self>> {
        let Some(authority) = &files.client_ca else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in tls::certificates(authority, &tls::read(authority)?)? {
            roots.add(certificate).map_err(|error| {
                let path = authority.display();
                Error::invalid(format!("TLS file `{path}` holds no authority: {error}"))
            })?;
        }
        let roots = Arc::new(roots);
        let crl = files.client_crl.clone();
        // A list that is written meanwhile is read once more.
        let stamp = crl.as_deref().and_then(stamp);
        let current = Current {
            verifier: verifier(&roots, crl.as_deref())?,
            looked: Instant::now(),
            stamp,
        };
        Ok(Some(Self {
            roots,
            crl,
            current: Mutex::new(current),
        }))
    }

    /// Whether a certificate is good for a client at `now`; else why not, for the hub's log.
    pub fn judge(&self, shown: &Shown, now: DateTime<Utc>) -> Result<(), String> {
        let chain: Vec<_> = shown
            .chain
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let (own, others) = chain.split_first().ok_or("there is none")?;
        let seconds = u64::try_from(now.timestamp()).map_err(|error| error.to_string())?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let judged = self.verifier().verify_client_cert(own, others, now);
        judged.map(|_| ()).map_err(|error| error.to_string())
    }

    /// What judges by the lists as they are now. Where a new file cannot be used the last lists
    /// count, until their next update was due.
    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let mut current = self.current.lock();
        if self.crl.is_some() && current.looked.elapsed() >= CRL_LOOK_EVERY {
            current.looked = Instant::now();
            let stamp = self.crl.as_deref().and_then(stamp);
            if stamp != current.stamp {
                match verifier(&self.roots, self.crl.as_deref()) {
                    Ok(verifier) => current.verifier = verifier,
                    Err(error) => tracing::warn!(%error, "the last lists count"),
                }
                current.stamp = stamp;
            }
        }
        Arc::clone(&current.verifier)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len()))
}

fn verifier(roots: &Arc<RootCertStore>, crl: Option<&Path>) -> Result<Arc<dyn ClientCertVerifier>> {
    let provider = Arc::new(ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider);
    let mut about = "TLS file of `client_ca`".to_owned();
    if let Some(path) = crl {
        about = format!("TLS file `{}`", path.display());
        let pem = tls::read_at_most(path, CRL_BYTES_MAX)?;
        let lists: std::result::Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(&pem).collect();
        let lists = lists.ok().filter(|lists| !lists.is_empty()).ok_or_else(|| {
            Error::invalid(format!(
                "{about} holds no list of revoked certificates; it needs `-----BEGIN X509 CRL-----`"
            ))
        })?;
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    builder
        .build()
        .map_err(|error| Error::invalid(format!("{about} cannot be used: {error}")))
}

#[cfg(test)]
mod tests;
