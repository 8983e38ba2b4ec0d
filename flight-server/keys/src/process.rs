//! The master secret with a process apart, which hands out single keys over a Unix socket.
//!
//! ```text
//!  hub ── label, line feed ──▶ key process       one request a connection
//!  hub ◀── `K`, 32 bytes ───── key process       or `E` and why not, as text
//! ```
//!
//! Who takes over the hub gets the keys that it has asked for, and no other but under the eyes of
//! whoever reads the trace: a use that cannot be traced gives no key. The kernel tells who asks
//! (SO_PEERCRED); nobody but the process's own user, or the one that it was told, is answered.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::{KEY_BYTES, Key, KeyError, KeyProvider, LABEL_BYTES_MAX, Secrets};

/// How long one request may take. The hub waits for it on the thread that needs the key.
const REQUEST_SECONDS_MAX: Duration = Duration::from_secs(2);
/// Requests that are answered at a time.
const REQUESTS_MAX: usize = 32;
/// Requests of other users that are refused at a time.
const STRANGERS_MAX: usize = 2;
/// Length of a refusal that is read.
const REFUSAL_BYTES_MAX: u64 = 512;
/// Keys that a hub remembers: those of each project, each space and each package that waits.
const KEPT_MAX: usize = 4_096;
const GIVEN: u8 = b'K';
const REFUSED: u8 = b'E';

/// The hub's end.
pub struct KeyProcess {
    socket: PathBuf,
    kept: Mutex<HashMap<String, Key>>,
}

impl std::fmt::Debug for KeyProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyProcess({})", self.socket.display())
    }
}

impl KeyProcess {
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            kept: Mutex::default(),
        }
    }

    fn ask(&self, label: &str) -> std::io::Result<Result<Key, String>> {
        let mut stream = Blocking::connect(&self.socket)?;
        stream.set_read_timeout(Some(REQUEST_SECONDS_MAX))?;
        stream.set_write_timeout(Some(REQUEST_SECONDS_MAX))?;
        stream.write_all(format!("{label}\n").as_bytes())?;
        let mut given = [0];
        stream.read_exact(&mut given)?;
        if given == [GIVEN] {
            let mut key = Key::default();
            stream.read_exact(&mut key[..])?;
            return Ok(Ok(key));
        }
        let mut why = Vec::new();
        stream.take(REFUSAL_BYTES_MAX).read_to_end(&mut why)?;
        Ok(Err(String::from_utf8_lossy(&why).into_owned()))
    }
}

impl KeyProvider for KeyProcess {
    fn derive(&self, label: &str) -> Result<Key, KeyError> {
        if let Some(key) = self.kept.lock().get(label) {
            return Ok(key.clone());
        }
        let failed = |reason| KeyError::Process {
            socket: self.socket.clone(),
            reason,
        };
        let answer = self.ask(label).map_err(|error| {
            failed(format!("{error}; see that `flight-server keys` runs there"))
        })?;
        let key = answer.map_err(failed)?;
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(label.to_owned(), key.clone());
        Ok(key)
    }
}

/// The process's end.
pub struct Keeper {
    secrets: Secrets,
    listener: UnixListener,
    /// Users that are answered.
    users: [u32; 2],
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    /// Listens on a new socket, for the process's own user and `also`. A socket that nobody
    /// listens on any more is replaced.
    ///
    /// # Errors
    /// [`KeyError::Process`] where it cannot listen there, or another process does.
    pub fn bind(secrets: Secrets, socket: &Path, also: Option<u32>) -> Result<Self, KeyError> {
        let failed = |reason: String| KeyError::Process {
            socket: socket.to_owned(),
            reason,
        };
        let io = |error: std::io::Error| failed(error.to_string());
        if Blocking::connect(socket).is_ok() {
            return Err(failed("another process listens there; end it first".into()));
        }
        match std::fs::symlink_metadata(socket) {
            Ok(there) if std::os::unix::fs::FileTypeExt::is_socket(&there.file_type()) => {
                std::fs::remove_file(socket).map_err(io)?;
            }
            Ok(_) => return Err(failed("this is another file; name a new one".into())),
            Err(_) => {}
        }
        let listener = UnixListener::bind(socket).map_err(io)?;
        let mode = if also.is_some() { 0o666 } else { 0o600 };
        std::fs::set_permissions(socket, PermissionsExt::from_mode(mode)).map_err(io)?;
        let own = std::fs::metadata(socket).map_err(io)?.uid();
        Ok(Self {
            secrets,
            listener,
            users: [own, also.unwrap_or(own)],
        })
    }

    /// Answers until it is dropped; `trace` is given a line for each use, before its key.
    pub async fn serve(self, trace: impl FnMut(&str) -> std::io::Result<()> + Send + 'static) {
        let trace = Arc::new(Mutex::new(trace));
        let places = Arc::new(Semaphore::new(REQUESTS_MAX));
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of files, say: others may end meanwhile.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let is_known = stream
                .peer_cred()
                .is_ok_and(|peer| self.users.contains(&peer.uid()));
            let place = match is_known {
                true => Arc::clone(&places).acquire_owned().await.ok(),
                // They take no place from who is answered, and are turned away where there is none.
                false => Arc::clone(&strangers).try_acquire_owned().ok(),
            };
            let Some(place) = place else { continue };
            let (secrets, users, trace) = (self.secrets.clone(), self.users, Arc::clone(&trace));
            tokio::spawn(async move {
                let traced = move |line: &str| (trace.lock())(line);
                let request = answer(stream, &secrets, users, traced);
                // Who is slow or goes away is told nothing.
                let _ = tokio::time::timeout(REQUEST_SECONDS_MAX, request).await;
                drop(place);
            });
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    secrets: &Secrets,
    users: [u32; 2],
    trace: impl Fn(&str) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let peer = stream.peer_cred()?;
    // Read first: who writes to a closed socket is told nothing.
    let asked = match label(&mut stream).await? {
        asked if users.contains(&peer.uid()) => asked,
        _ => Err("you are not the user that it answers"),
    };
    let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let who = format!("{at} uid={} pid={}", peer.uid(), peer.pid().unwrap_or(0));
    let key = match &asked {
        Err(why) => {
            // Nothing is given: a trace that fails loses no use of a key.
            let _ = trace(&format!("{who} refused: {why}"));
            Err((*why).to_owned())
        }
        Ok(label) => trace(&format!("{who} {label}"))
            .map_err(|_| "its trace cannot be written, and no key is given without".to_owned())
            .and_then(|()| secrets.derive(label).map_err(|error| error.to_string())),
    };
    match key {
        Ok(key) => {
            stream.write_all(&[GIVEN]).await?;
            stream.write_all(&key[..KEY_BYTES]).await?;
        }
        Err(why) => {
            stream.write_all(&[REFUSED]).await?;
            stream.write_all(why.as_bytes()).await?;
        }
    }
    stream.shutdown().await
}

/// One line of printable text.
async fn label(stream: &mut UnixStream) -> std::io::Result<Result<String, &'static str>> {
    let mut read = Vec::new();
    let mut limited = stream.take(LABEL_BYTES_MAX as u64 + 1);
    loop {
        let byte = match limited.read_u8().await {
            Ok(byte) => byte,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Ok(Err("a label is a line of at most 1024 bytes"));
            }
            Err(error) => return Err(error),
        };
        if byte == b'\n' {
            break;
        }
        read.push(byte);
    }
    let text = String::from_utf8(read).ok();
    let text = text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
    Ok(text.ok_or("a label is printable text"))
}
