//! Checkpoints as messages of syslog (RFC 5424), for a collector that the hub cannot reach into:
//! datagrams to a Unix socket or over UDP (RFC 5426), counted frames over TCP (RFC 6587, 3.4.1)
//! or TLS (RFC 5425).
//!
//! ```text
//! <109>1 2026-11-22T00:00:04.000123Z - hubflight 42 checkpoint [checkpoint@32473 size="42" root="…"] checkpoint log=… size=42 …
//! ```
//!
//! The message is [`checkpoint_line`], whole by itself, since many collectors drop the structured
//! data when they write lines. What the collector has nobody reads back: an auditor copies a line
//! from there into `admin audit verify --checkpoint`.

use std::fmt;
use std::io::{Error, ErrorKind};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use hubflight_audit::checkpoint_line;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};
use tokio_rustls::TlsConnector;

use super::witness::WAIT;
use crate::LedgerError;

/// Facility 13, log audit; severity 5, notice.
const PRIORITY: u8 = 13 * 8 + 5;
/// The number that RFC 5612 keeps for whoever has none of their own.
const ENTERPRISE: u32 = 32473;
/// How long a stream's other end may take to say that it did not want what it got.
const OBJECTION_WAIT: Duration = Duration::from_millis(500);

/// Where a collector listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogAddress {
    Unix(PathBuf),
    Udp(String),
    Tcp(String),
    /// Host, and host with port.
    Tls(String, String),
}

/// A collector of syslog.
#[derive(Clone)]
pub struct Syslog {
    address: SyslogAddress,
    tls: Option<Arc<ClientConfig>>,
}

impl FromStr for SyslogAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return match path.is_absolute() {
                true => Ok(SyslogAddress::Unix(path)),
                false => Err("the path of a socket begins with `/`, as in unix:/dev/log"),
            };
        }
        let wrong = "write unix:/dev/log, udp://host:514, tcp://host:601 or tls://host:6514";
        let (scheme, address) = text.split_once("://").ok_or(wrong)?;
        let (host, port) = address.rsplit_once(':').ok_or("its port is missing")?;
        if !matches!(port.parse::<u16>(), Ok(port) if port > 0) {
            return Err("its port is no number from 1 to 65535");
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if bare.is_empty() || bare.contains(['/', '@', ' ', '[', ']']) {
            return Err("its host is missing or is none");
        }
        match scheme {
            "udp" => Ok(SyslogAddress::Udp(address.to_owned())),
            "tcp" => Ok(SyslogAddress::Tcp(address.to_owned())),
            "tls" => Ok(SyslogAddress::Tls(bare.to_owned(), address.to_owned())),
            _ => Err(wrong),
        }
    }
}

impl fmt::Display for SyslogAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyslogAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            SyslogAddress::Udp(address) => write!(f, "udp://{address}"),
            SyslogAddress::Tcp(address) => write!(f, "tcp://{address}"),
            SyslogAddress::Tls(_, address) => write!(f, "tls://{address}"),
        }
    }
}

impl fmt::Display for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl fmt::Debug for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Syslog({self})")
    }
}

impl Syslog {
    /// `authority` are the certificates, in PEM, one of which has signed the collector's; only a
    /// collector over TLS has one, and it must.
    ///
    /// # Errors
    /// [`LedgerError::Witness`].
    pub fn new(address: SyslogAddress, authority: Option<&[u8]>) -> Result<Self, LedgerError> {
        let failure = |reason: &str| failure(&address, reason);
        let is_tls = matches!(address, SyslogAddress::Tls(..));
        let tls = match (is_tls, authority) {
            (false, None) => None,
            (false, Some(_)) => return Err(failure("only tls:// has an authority")),
            (true, None) => return Err(failure("tls:// needs the authority of its certificate")),
            (true, Some(pem)) => Some(trusting(pem).map_err(|error| failure(&error.to_string()))?),
        };
        Ok(Syslog { address, tls })
    }

    /// Refuses a collector that is not there. One of UDP is there if its name is known.
    pub(super) async fn open(&self) -> Result<(), LedgerError> {
        self.send(Vec::new()).await
    }

    /// Tells it checkpoints, in their order.
    pub(super) async fn tell(&self, checkpoints: &[(u64, String)]) -> Result<(), LedgerError> {
        let now = Utc::now();
        let messages = checkpoints.iter().map(|(_, note)| message(note, now));
        let messages: Option<Vec<_>> = messages.collect();
        let messages = messages.ok_or(LedgerError::Corrupt { what: "checkpoint" })?;
        self.send(messages).await
    }

    async fn send(&self, messages: Vec<String>) -> Result<(), LedgerError> {
        let sent = tokio::time::timeout(WAIT, self.deliver(messages)).await;
        let late = || Err(Error::new(ErrorKind::TimedOut, "it does not answer"));
        sent.unwrap_or_else(|_| late())
            .map_err(|error| failure(&self.address, error))
    }

    async fn deliver(&self, messages: Vec<String>) -> Result<(), Error> {
        match &self.address {
            SyslogAddress::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                for message in &messages {
                    socket.send(message.as_bytes()).await?;
                }
                Ok(())
            }
            SyslogAddress::Udp(address) => {
                let to = tokio::net::lookup_host(address).await?.next();
                let to = to.ok_or_else(|| Error::other("its host has no address"))?;
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(to).await?;
                for message in &messages {
                    socket.send(message.as_bytes()).await?;
                }
                Ok(())
            }
            SyslogAddress::Tcp(address) => {
                stream(TcpStream::connect(address).await?, messages).await
            }
            SyslogAddress::Tls(host, address) => {
                let tls = self.tls.clone().ok_or(ErrorKind::InvalidInput)?;
                let name = ServerName::try_from(host.clone()).map_err(Error::other)?;
                let tcp = TcpStream::connect(address).await?;
                stream(TlsConnector::from(tls).connect(name, tcp).await?, messages).await
            }
        }
    }
}

/// Writes counted frames, ends, and hears whether the other end objects: a connection of its own
/// for each time, since one that is kept may have lost its other end long ago.
async fn stream(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    messages: Vec<String>,
) -> Result<(), Error> {
    for message in messages {
        let frame = format!("{} {message}", message.len());
        stream.write_all(frame.as_bytes()).await?;
    }
    stream.flush().await?;
    stream.shutdown().await?;
    let objection = tokio::time::timeout(OBJECTION_WAIT, stream.read(&mut [0; 1])).await;
    match objection {
        // Over TLS some end without saying so, which is theirs to do.
        Ok(Err(error)) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(()),
    }
}

/// The message of a note; none of what is no note.
fn message(note: &str, now: DateTime<Utc>) -> Option<String> {
    let line = checkpoint_line(note)?;
    let field = |name: &str| {
        let word = line.split(' ').find_map(|word| word.strip_prefix(name));
        word.filter(|value| !value.contains(['"', '\\', ']']))
    };
    let (size, root) = (field("size=")?, field("root=")?);
    Some(format!(
        "<{PRIORITY}>1 {} - hubflight {} checkpoint \
         [checkpoint@{ENTERPRISE} size=\"{size}\" root=\"{root}\"] {line}",
        now.to_rfc3339_opts(SecondsFormat::Micros, true),
        std::process::id(),
    ))
}

fn trusting(pem: &[u8]) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(Error::other)?;
        roots.add(certificate).map_err(Error::other)?;
    }
    if roots.is_empty() {
        return Err(Error::other("its authority has no certificate in PEM"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn failure(address: &SyslogAddress, reason: impl ToString) -> LedgerError {
    LedgerError::Witness {
        place: address.to_string(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
