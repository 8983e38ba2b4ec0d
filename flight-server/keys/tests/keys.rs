//! Keys of a process apart, and what its socket is attacked with.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hubflight_keys::process::Keeper;
use hubflight_keys::{KeyError, Secrets};
use parking_lot::Mutex;

struct Bench {
    folder: tempfile::TempDir,
    traced: Arc<Mutex<Vec<String>>>,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    /// A process whose trace fails once it has `lines_max` lines.
    fn new(lines_max: usize) -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            traced: Arc::default(),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        };
        let _inside = bench.runtime.enter();
        let keeper = Keeper::bind(Secrets::new([7; 32]), &bench.socket(), None).unwrap();
        let traced = Arc::clone(&bench.traced);
        bench.runtime.spawn(keeper.serve(move |line| {
            let mut traced = traced.lock();
            if traced.len() >= lines_max {
                return Err(std::io::Error::other("full"));
            }
            traced.push(line.to_owned());
            Ok(())
        }));
        bench
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("keys.sock")
    }

    fn raw(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        // It may answer, and close, before it has read all.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }
}

#[test]
fn a_process_apart_gives_the_keys_of_the_file_and_traces_each() {
    let bench = Bench::new(100);
    let (near, far) = (Secrets::new([7; 32]), Secrets::of_process(&bench.socket()));
    for label in ["tickets", "pseudonyms é", "tickets"] {
        assert_eq!(far.derive(label).unwrap(), near.derive(label).unwrap());
    }
    assert_ne!(far.derive("a").unwrap(), far.derive("b").unwrap());
    let traced = bench.traced.lock().clone();
    let labels: Vec<&str> = traced
        .iter()
        .map(|line| line.splitn(4, ' ').last().unwrap())
        .collect();
    // The second "tickets" was remembered.
    assert_eq!(labels, ["tickets", "pseudonyms é", "a", "b"]);
    let pid = format!("pid={}", std::process::id());
    assert!(traced.iter().all(|line| line.contains(&pid)), "{traced:?}");
    // A path may have a seven in it.
    assert!(!format!("{far:?} {near:?}").contains("7, 7"));
}

#[test]
fn what_is_no_label_gives_no_key() {
    let bench = Bench::new(100);
    let long = [b"x".repeat(1_024), b"\n".to_vec()].concat();
    assert_eq!(bench.raw(&long).first(), Some(&b'K'), "the longest");
    let too_long = [b"x".repeat(1_025), b"\n".to_vec()].concat();
    let endless = vec![b'x'; 1 << 20];
    let requests: [&[u8]; 7] = [
        b"",
        b"\n",
        b"no end",
        b"a\tb\n",
        b"\xff\xfe\n",
        &too_long,
        &endless,
    ];
    for request in requests {
        let answer = bench.raw(request);
        let start = &request[..request.len().min(8)];
        // Nothing at all where it closed with the request unread.
        assert_ne!(answer.first(), Some(&b'K'), "{start:?}");
    }
    // One request a connection.
    assert_eq!(bench.raw(b"a\nb\nc\n").len(), 33);
    assert!(
        bench
            .traced
            .lock()
            .iter()
            .any(|line| line.contains("refused"))
    );
    let well = Secrets::of_process(&bench.socket()).derive("still there");
    assert!(well.is_ok(), "{well:?}");
}

#[test]
fn a_use_that_cannot_be_traced_gives_no_key() {
    let bench = Bench::new(1);
    let secrets = Secrets::of_process(&bench.socket());
    secrets.derive("first").unwrap();
    let error = secrets.derive("second").unwrap_err();
    assert!(error.to_string().contains("trace"), "{error}");
    // What was given is remembered.
    secrets.derive("first").unwrap();
}

#[test]
fn whoever_is_slow_holds_up_nobody() {
    let bench = Bench::new(100);
    let _idle: Vec<UnixStream> = (0..31)
        .map(|_| UnixStream::connect(bench.socket()).unwrap())
        .collect();
    assert!(Secrets::of_process(&bench.socket()).derive("a").is_ok());
}

#[test]
fn a_socket_is_taken_once_and_no_file_is_replaced() {
    let bench = Bench::new(100);
    let _inside = bench.runtime.enter();
    let bind = |socket: &Path| Keeper::bind(Secrets::new([1; 32]), socket, None);
    let refused = |socket: &Path| match bind(socket) {
        Err(KeyError::Process { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(refused(&bench.socket()).contains("another process"));
    let file = bench.folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    assert!(refused(&file).contains("another file"));
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    // One that a process left behind is.
    let left = bench.folder.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    bind(&left).unwrap();
    let gone = Secrets::of_process(&bench.folder.path().join("none")).derive("a");
    let said = gone.unwrap_err().to_string();
    assert!(
        said.contains("see that `flight-server keys` runs"),
        "{said}"
    );
}

#[test]
fn the_socket_is_its_owners_unless_another_user_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new(100);
    let mode = |socket: &Path| std::fs::metadata(socket).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&bench.socket()), 0o600);
    let _inside = bench.runtime.enter();
    let shared = bench.folder.path().join("shared.sock");
    let keeper = Keeper::bind(Secrets::new([1; 32]), &shared, Some(4_000_000)).unwrap();
    assert_eq!(mode(&shared), 0o666);
    drop(keeper);
}

/// As another user, which only root can become.
#[test]
fn another_user_is_refused_and_the_named_one_is_answered() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    let bench = Bench::new(100);
    if std::fs::metadata(bench.socket()).unwrap().uid() != 0 {
        eprintln!("not tried: only root becomes another user");
        return;
    }
    std::fs::set_permissions(bench.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let ask = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
               s.sendall(b'tickets\\n'); print(s.recv(600)[:1].decode())";
    for (named, answered) in [(NOBODY - 1, "E"), (NOBODY, "K")] {
        let socket = bench.folder.path().join(format!("{named}.sock"));
        let inside = bench.runtime.enter();
        let keeper = Keeper::bind(Secrets::new([7; 32]), &socket, Some(named)).unwrap();
        let traced = Arc::clone(&bench.traced);
        bench.runtime.spawn(keeper.serve(move |line| {
            traced.lock().push(line.to_owned());
            Ok(())
        }));
        drop(inside);
        let mut python = std::process::Command::new("python3");
        python
            .args(["-c", ask])
            .arg(&socket)
            .uid(NOBODY)
            .gid(NOBODY);
        let output = python.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(
            said,
            answered,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let traced = bench.traced.lock().join("\n");
    assert!(
        traced.contains("uid=65534") && traced.contains("refused: you are not"),
        "{traced}"
    );
}
