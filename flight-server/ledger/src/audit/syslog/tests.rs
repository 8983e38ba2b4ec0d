//! Against sockets that listen.

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use hubflight_audit::{Checkpoint, Signer, checkpoint_notes};

fn checkpoints() -> (Signer, Vec<(u64, String)>) {
    let signer = Signer::of_hub(&[1; 32]).expect("a signer");
    let checkpoints = [7, 9].map(|size| {
        let checkpoint = Checkpoint {
            size,
            root: [size as u8; 32],
            at: Utc::now(),
            seal: None,
        };
        (size, checkpoint.sign(&signer))
    });
    (signer, checkpoints.into())
}

fn syslog(address: &str, authority: Option<&[u8]>) -> Syslog {
    let address = address.parse().expect(address);
    Syslog::new(address, authority).expect("usable")
}

/// The messages of counted frames.
fn frames(mut bytes: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .position(|byte| *byte == b' ')
            .expect("counted");
        let count = std::str::from_utf8(&bytes[..space]).expect("a number");
        let count: usize = count.parse().expect("a number");
        let (message, rest) = bytes[space + 1..].split_at(count);
        messages.push(String::from_utf8(message.to_vec()).expect("a text"));
        bytes = rest;
    }
    messages
}

fn check(messages: &[String]) {
    let (signer, told) = checkpoints();
    assert_eq!(messages.len(), told.len(), "{messages:?}");
    for (message, (size, _)) in messages.iter().zip(told) {
        assert!(message.starts_with("<109>1 2"), "{message}");
        assert!(!message.contains('\n'), "{message}");
        let note = &checkpoint_notes(message).expect(message)[0];
        let signed = Checkpoint::open(note, signer.key()).expect("signed");
        assert_eq!(signed.size, size);
    }
}

async fn listener(scheme: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let port = listener.local_addr().expect("bound").port();
    (listener, format!("{scheme}://localhost:{port}"))
}

#[tokio::test]
async fn over_udp() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("listens");
    let port = socket.local_addr().expect("bound").port();
    let syslog = syslog(&format!("udp://127.0.0.1:{port}"), None);
    syslog.open().await.expect("there");
    syslog.tell(&checkpoints().1).await.expect("told");
    let mut messages = Vec::new();
    for _ in 0..2 {
        let mut bytes = vec![0; 4096];
        let length = socket.recv(&mut bytes).await.expect("received");
        messages.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    check(&messages);
}

#[tokio::test]
async fn over_tcp() {
    let (listener, address) = listener("tcp").await;
    let syslog = syslog(&address, None);
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("read");
        bytes
    });
    syslog.tell(&checkpoints().1).await.expect("told");
    check(&frames(&heard.await.expect("ends")));
    let away = syslog.tell(&checkpoints().1).await;
    away.expect_err("nobody listens");
}

/// A collector that hangs up without reading has not taken it.
#[tokio::test]
async fn a_stream_that_is_cut_is_an_error() {
    let (listener, address) = listener("tcp").await;
    let cut = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::time::sleep(Duration::from_millis(100)).await;
        // What was not read makes the end a reset.
        drop(stream);
    });
    let told = syslog(&address, None).tell(&checkpoints().1).await;
    told.expect_err("reset");
    cut.await.expect("ends");
}

#[tokio::test]
async fn over_tls_to_whom_the_authority_knows_only() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = made.signing_key.serialize_der();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            key.try_into().expect("a key"),
        )
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listener("tls").await;
    let heard = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let refused = acceptor.accept(tcp).await;
        refused.expect_err("the client hangs up");
        let (tcp, _) = listener.accept().await.expect("a connection");
        let mut stream = acceptor.accept(tcp).await.expect("a handshake");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("read");
        bytes
    });
    let stranger = syslog(&address, Some(other.cert.pem().as_bytes()));
    let refused = stranger.tell(&checkpoints().1).await;
    refused.expect_err("another authority");
    let syslog = syslog(&address, Some(made.cert.pem().as_bytes()));
    syslog.tell(&checkpoints().1).await.expect("told");
    check(&frames(&heard.await.expect("ends")));
}

#[test]
fn addresses() {
    for good in [
        "unix:/dev/log",
        "udp://127.0.0.1:514",
        "tcp://[::1]:601",
        "tls://logs.example.org:6514",
    ] {
        let address: SyslogAddress = good.parse().expect(good);
        assert_eq!(address.to_string(), good);
    }
    for wrong in [
        "",
        "/dev/log",
        "unix:",
        "unix:dev/log",
        "udp://host",
        "udp://host:0",
        "tcp://host:65536",
        "tcp://:601",
        "tls://a b:6514",
        "tls://user@host:6514",
        "tls://host/path:6514",
        "http://host:80",
        "tcp:host:601",
    ] {
        assert!(wrong.parse::<SyslogAddress>().is_err(), "{wrong}");
    }
}

#[test]
fn an_authority_is_for_tls() {
    let tls: SyslogAddress = "tls://host:6514".parse().expect("an address");
    let tcp: SyslogAddress = "tcp://host:601".parse().expect("an address");
    let made = rcgen::generate_simple_self_signed(["host".to_owned()]).expect("made");
    let pem = made.cert.pem();
    Syslog::new(tls.clone(), Some(pem.as_bytes())).expect("usable");
    Syslog::new(tcp.clone(), None).expect("usable");
    for (address, authority) in [
        (tls.clone(), None),
        (tls, Some("nothing".as_bytes())),
        (tcp, Some(pem.as_bytes())),
    ] {
        assert!(Syslog::new(address, authority).is_err());
    }
}
