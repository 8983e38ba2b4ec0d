//! TLS by rustls with ring, from 1.2 on: the files of the configuration, or an authority of
//! the demo's own.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Datelike, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::config::{ClientCertificates, Tls};
use crate::error::{Error, Result};

/// Longer PEM files are not read.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// A client that does not finish its TLS handshake in this time is disconnected.
const HANDSHAKE_SECONDS_MAX: u64 = 10;
/// Names of the demo's server.
const DEMO_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long the demo's certificates are valid; some clients refuse more than 825 days.
const DEMO_DAYS: u32 = 800;
/// The demo's certificates are made again when they would expire within this time.
const DEMO_DAYS_LEFT_MIN: u32 = 30;
const DAY: Duration = Duration::from_secs(86_400);

/// The demo's authority: what clients trust, and what the server shows.
#[derive(Clone, Debug)]
pub struct DemoAuthority {
    /// Certificate of the authority, for clients.
    pub ca: PathBuf,
    pub server: Tls,
}

/// Makes ring the cryptography of the process; calling it again does nothing.
pub fn install() {
    // It fails only when a provider is there already, which is then ring.
    let _ = ring::default_provider().install_default();
}

/// Reads and checks the certificate chain and key that the server shows, and the authority of
/// those that it asks clients for.
///
/// # Errors
/// `InvalidArgument` naming the file that cannot be read, holds nothing of use, or does not
/// belong to the other.
pub fn server_config(files: &Tls) -> Result<ServerTlsConfig> {
    install();
    let certificate = read(&files.certificate)?;
    let key = read(&files.key)?;
    certified_key(files, &certificate, &key)?;
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .timeout(Duration::from_secs(HANDSHAKE_SECONDS_MAX));
    let Some(authority) = &files.client_ca else {
        return Ok(config);
    };
    let pem = read(authority)?;
    certificates(authority, &pem)?;
    Ok(config
        .client_ca_root(Certificate::from_pem(pem))
        .client_auth_optional(files.client_certificates == ClientCertificates::Optional))
}

/// The authority under `folder` (`ca.pem`, `server.pem`, `server.key`), made at first use and
/// again when it expires. The authority's own key is thrown away as soon as it has signed.
pub fn demo_authority(folder: &Path) -> Result<DemoAuthority> {
    install();
    let authority = DemoAuthority {
        ca: folder.join("ca.pem"),
        server: Tls {
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
            ..Tls::default()
        },
    };
    let horizon = SystemTime::now() + DAY * DEMO_DAYS_LEFT_MIN;
    if !is_usable(&authority, horizon) {
        make_demo_authority(folder, &authority, SystemTime::now())?;
    }
    Ok(authority)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    read_at_most(path, PEM_BYTES_MAX)
}

pub(crate) fn read_at_most(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let unreadable =
        |error: std::io::Error| Error::invalid(format!("TLS file `{}`: {error}", path.display()));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Error::invalid(format!(
            "TLS file `{}` is larger than {bytes_max} bytes; name a PEM file",
            path.display()
        )));
    }
    Ok(bytes)
}

pub(crate) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(Error::invalid(format!(
            "TLS file `{}` holds no certificate; it needs `-----BEGIN CERTIFICATE-----`",
            path.display()
        ))),
    }
}

/// The chain and key as rustls uses them, which checks that they belong together.
fn certified_key(files: &Tls, certificate: &[u8], key: &[u8]) -> Result<CertifiedKey> {
    let chain = certificates(&files.certificate, certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        Error::invalid(format!(
            "TLS file `{}` holds no private key; it needs `-----BEGIN PRIVATE KEY-----`, not \
             encrypted",
            files.key.display()
        ))
    })?;
    // The library's texts speak of the files' form only, never of the key itself.
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
        Error::invalid(format!(
            "TLS files `{}` and `{}` cannot be used together: {error}",
            files.certificate.display(),
            files.key.display()
        ))
    })
}

/// True where a client that trusts the authority accepts the server under all its names at
/// `instant`, and the key is the certificate's.
fn is_usable(authority: &DemoAuthority, instant: SystemTime) -> bool {
    verify(authority, instant).is_some()
}

fn verify(authority: &DemoAuthority, instant: SystemTime) -> Option<()> {
    let ca = certificates(&authority.ca, &read(&authority.ca).ok()?).ok()?;
    let certificate = read(&authority.server.certificate).ok()?;
    let key = read(&authority.server.key).ok()?;
    let server = certified_key(&authority.server, &certificate, &key).ok()?;
    let mut roots = RootCertStore::empty();
    roots.add(ca.into_iter().next()?).ok()?;
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .ok()?;
    let at = instant.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let at = UnixTime::since_unix_epoch(at);
    for name in DEMO_NAMES {
        let name = ServerName::try_from(name).ok()?;
        verifier
            .verify_server_cert(server.end_entity_cert().ok()?, &[], &name, &[], at)
            .ok()?;
    }
    Some(())
}

fn make_demo_authority(folder: &Path, authority: &DemoAuthority, now: SystemTime) -> Result<()> {
    let (ca, certificate, key) = sign_demo(now)
        .map_err(|error| Error::internal("the demo's certificates cannot be made", &error))?;
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::invalid(format!("cannot make `{}`: {error}", folder.display())))?;
    write(&authority.server.key, &key, 0o600)?;
    write(&authority.server.certificate, &certificate, 0o644)?;
    write(&authority.ca, &ca, 0o644)
}

/// PEM texts of the authority's certificate, and of the server's certificate and key.
fn sign_demo(now: SystemTime) -> std::result::Result<(String, String, String), rcgen::Error> {
    let valid = |params: &mut CertificateParams| {
        let midnight = |at: SystemTime| {
            let at = DateTime::<Utc>::from(at);
            // Months and days fit eight bits.
            rcgen::date_time_ymd(at.year(), at.month() as u8, at.day() as u8)
        };
        // Clocks of clients may be a little behind.
        params.not_before = midnight(now - DAY);
        params.not_after = midnight(now + DAY * DEMO_DAYS);
    };
    let mut ca = CertificateParams::default();
    valid(&mut ca);
    ca.distinguished_name = rcgen::DistinguishedName::new();
    ca.distinguished_name
        .push(DnType::CommonName, "Hubflight demo authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;

    let mut server = CertificateParams::new(DEMO_NAMES.map(str::to_owned))?;
    valid(&mut server);
    server.distinguished_name = rcgen::DistinguishedName::new();
    server
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    server.use_authority_key_identifier_extension = true;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &Issuer::from_params(&ca, &ca_key))?;
    Ok((ca_certificate.pem(), certificate.pem(), key.serialize_pem()))
}

/// Writes a file as a whole or not at all, never readable by more than `mode` says.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let unwritable = |error: std::io::Error| {
        Error::invalid(format!("cannot write `{}`: {error}", path.display()))
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    // What a crash left there may have other permissions.
    if temporary.exists() {
        std::fs::remove_file(&temporary).map_err(unwritable)?;
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn refusal(files: &Tls) -> String {
        match server_config(files) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_demo_authority_is_made_once_and_renewed_when_it_expires() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("tls");
        let authority = demo_authority(&folder).expect("made");
        let mode = std::fs::metadata(&authority.server.key)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        server_config(&authority.server).expect("usable");
        let text = || std::fs::read(&authority.ca).expect("there");
        let first = text();
        demo_authority(&folder).expect("still there");
        assert_eq!(text(), first, "made once");

        let now = SystemTime::now();
        assert!(is_usable(&authority, now + DAY * 790));
        assert!(!is_usable(&authority, now + DAY * 801), "expires");
        assert!(!is_usable(&authority, now - DAY * 2), "not valid yet");
        make_demo_authority(&folder, &authority, now - DAY * 790).expect("made");
        assert!(is_usable(&authority, now), "ten days are left");
        let old = text();
        demo_authority(&folder).expect("renewed");
        assert_ne!(text(), old);
        assert!(is_usable(&authority, now + DAY * 790));
    }

    #[test]
    fn a_broken_demo_authority_is_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = demo_authority(folder.path()).expect("made");
        let other = tempfile::tempdir().expect("a folder");
        let stranger = demo_authority(other.path()).expect("made");
        for (from, to) in [
            (&stranger.server.key, &authority.server.key),
            (&stranger.ca, &authority.ca),
        ] {
            std::fs::copy(from, to).expect("copied");
            assert!(!is_usable(&authority, SystemTime::now()));
            demo_authority(folder.path()).expect("made again");
            assert!(is_usable(&authority, SystemTime::now()));
        }
        std::fs::write(&authority.ca, "garbage").expect("written");
        demo_authority(folder.path()).expect("made again");
        assert!(is_usable(&authority, SystemTime::now()));
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = demo_authority(folder.path()).expect("made");
        let missing = Tls {
            certificate: folder.path().join("nothing.pem"),
            ..authority.server.clone()
        };
        assert!(refusal(&missing).contains("nothing.pem"));
        let swapped = Tls {
            certificate: authority.server.key.clone(),
            key: authority.server.certificate.clone(),
            ..Tls::default()
        };
        assert!(refusal(&swapped).contains("server.key` holds no certificate"));
        let clients = Tls {
            client_ca: Some(authority.server.key.clone()),
            ..authority.server.clone()
        };
        assert!(refusal(&clients).contains("server.key` holds no certificate"));
        let keyless = Tls {
            key: authority.ca.clone(),
            ..authority.server.clone()
        };
        assert!(refusal(&keyless).contains("ca.pem` holds no private key"));
        let mismatched = Tls {
            certificate: authority.ca.clone(),
            ..authority.server
        };
        let text = refusal(&mismatched);
        assert!(
            text.contains("ca.pem") && text.contains("server.key"),
            "{text}"
        );
        let huge = folder.path().join("huge.pem");
        let file = File::create(&huge).expect("made");
        file.set_len(PEM_BYTES_MAX + 1).expect("grown");
        let huge = Tls {
            certificate: huge,
            ..mismatched
        };
        assert!(refusal(&huge).contains("larger"));
    }
}
