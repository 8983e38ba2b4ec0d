//! Certificates of other authorities, other times, other uses and of nobody; and what ends one.

use chrono::TimeDelta;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use tonic::metadata::MetadataMap;

use super::*;
use crate::auth::tests::{basic, bearer, opened, rights};
use crate::auth::{Authenticator, Login, Method, Peer};
use crate::error::ErrorKind;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// How a certificate differs from a good one of a client.
struct Wanted {
    serial: u64,
    uses: Vec<ExtendedKeyUsagePurpose>,
    years: (i32, i32),
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            serial: 1,
            uses: vec![ExtendedKeyUsagePurpose::ClientAuth],
            years: (2000, 2100),
        }
    }
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, wanted: Wanted) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(wanted.serial));
        params.extended_key_usages = wanted.uses;
        params.not_before = rcgen::date_time_ymd(wanted.years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(wanted.years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("signed");
        signed.der().clone()
    }

    /// A list that revokes these, good until a year.
    fn list(&self, serials: &[u64], year: i32) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("signed");
        list.pem().expect("written")
    }
}

fn judge(folder: &std::path::Path, authority: &Authority, crl: Option<&str>) -> Result<Judge> {
    std::fs::write(folder.join("ca.pem"), &authority.pem).expect("written");
    if let Some(crl) = crl {
        std::fs::write(folder.join("crl.pem"), crl).expect("written");
    }
    let files = Tls {
        client_ca: Some(folder.join("ca.pem")),
        client_crl: crl.map(|_| folder.join("crl.pem")),
        ..Tls::default()
    };
    Ok(Judge::new(&files)?.expect("asked for"))
}

fn over(certificate: &CertificateDer<'static>) -> Peer {
    Peer {
        certificates: Some(Arc::new(vec![certificate.clone()])),
        ..Peer::from("192.0.2.7:1")
    }
}

async fn stands_for(
    auth: &Authenticator,
    certificate: &CertificateDer<'_>,
    person: &str,
) -> Identity {
    let shown = Shown::new(std::slice::from_ref(certificate)).expect("one");
    let mut write = auth.store.change_rights().await.expect("begins");
    let added = write.add_identity(&shown.identity, person).await;
    added.expect("added");
    write.commit().await.expect("written");
    shown.identity
}

#[tokio::test]
async fn only_a_good_certificate_of_somebody_lets_in() {
    let folder = tempfile::tempdir().expect("folder");
    let (authority, other) = (Authority::new(), Authority::new());
    let mut auth = opened(&folder).await;
    auth.certificates = Some(judge(folder.path(), &authority, None).expect("usable"));
    let (none, now) = (MetadataMap::new(), Utc::now());
    let good = authority.sign(Wanted::default());
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let wrong = [
        ("another authority's", other.sign(Wanted::default())),
        (
            "expired",
            authority.sign(Wanted {
                years: (2000, 2020),
                ..Wanted::default()
            }),
        ),
        (
            "not yet",
            authority.sign(Wanted {
                years: (2090, 2100),
                ..Wanted::default()
            }),
        ),
        (
            "a server's",
            authority.sign(Wanted {
                uses: vec![server.clone()],
                ..Wanted::default()
            }),
        ),
    ];
    for certificate in wrong
        .iter()
        .map(|(_, certificate)| certificate)
        .chain([&good])
    {
        stands_for(&auth, certificate, "ada").await;
    }
    let ada = auth
        .authenticate(&none, over(&good), now)
        .await
        .expect("ada");
    assert_eq!(ada.person.id, "ada");
    let by_certificate = Login {
        method: Method::Certificate,
        second_factor: true,
    };
    assert_eq!(ada.standing.login, by_certificate);
    let both = authority.sign(Wanted {
        uses: vec![server, ExtendedKeyUsagePurpose::ClientAuth],
        ..Wanted::default()
    });
    stands_for(&auth, &both, "ada").await;
    auth.authenticate(&none, over(&both), now)
        .await
        .expect("for clients too");
    let unknown = ("nobody's", authority.sign(Wanted::default()));
    let right = basic("ada", "correct horse");
    auth.authenticate(&right, "c", now).await.expect("control");
    for (why, certificate) in wrong.iter().chain([&unknown]) {
        let refused = auth.authenticate(&none, over(certificate), now).await;
        assert_eq!(
            refused.expect_err(why).kind,
            ErrorKind::Unauthenticated,
            "{why}"
        );
        // A good credential beside it does not make up for it.
        let refused = auth.authenticate(&right, over(certificate), now).await;
        refused.expect_err(why);
    }
    // Bytes that are no certificate, and a connection without any.
    let garbage = CertificateDer::from(b"garbage".to_vec());
    stands_for(&auth, &garbage, "ada").await;
    let refused = auth.authenticate(&none, over(&garbage), now).await;
    refused.expect_err("no certificate");
    auth.authenticate(&none, "c", now)
        .await
        .expect_err("nothing at all");
    let mut write = auth.store.change_rights().await.expect("begins");
    write.set_active("ada", false).await.expect("disabled");
    write.commit().await.expect("written");
    let refused = auth.authenticate(&none, over(&good), now).await;
    refused.expect_err("disabled");
}

#[tokio::test]
async fn a_certificate_and_a_credential_are_the_same_persons() {
    let folder = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let mut auth = opened(&folder).await;
    auth.certificates = Some(judge(folder.path(), &authority, None).expect("usable"));
    let eve = hubflight_store::PersonProfile {
        id: "eve".into(),
        name: "Eve".into(),
        active: true,
        is_admin: false,
    };
    auth.store.put_person(&eve).await.expect("puts");
    let now = Utc::now();
    let (hers, others) = (
        authority.sign(Wanted::default()),
        authority.sign(Wanted::default()),
    );
    stands_for(&auth, &hers, "ada").await;
    stands_for(&auth, &others, "eve").await;
    let right = basic("ada", "correct horse");
    let session = auth.handshake(&right, "c", now).await.expect("hers");
    for shown in [&right, &bearer(&session)] {
        let ada = auth
            .authenticate(shown, over(&hers), now)
            .await
            .expect("hers");
        assert_eq!(ada.standing.login.method, Method::Password);
        assert!(ada.standing.login.second_factor);
        let refused = auth.authenticate(shown, over(&others), now).await;
        assert_eq!(refused.expect_err("eve's").kind, ErrorKind::Unauthenticated);
        let alone = auth.authenticate(shown, "c", now).await.expect("hers");
        assert!(!alone.standing.login.second_factor, "a demo's password");
    }
}

#[tokio::test]
async fn what_a_certificate_began_ends_with_it() {
    let folder = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let mut auth = opened(&folder).await;
    auth.certificates = Some(judge(folder.path(), &authority, None).expect("usable"));
    let (none, now) = (MetadataMap::new(), Utc::now());
    let years = (2000, 2100);
    let certificate = authority.sign(Wanted {
        years,
        ..Wanted::default()
    });
    let identity = stands_for(&auth, &certificate, "ada").await;
    let session = auth
        .handshake(&none, over(&certificate), now)
        .await
        .expect("a session");
    let ada = auth
        .authenticate(&bearer(&session), over(&certificate), now)
        .await;
    let ada = ada.expect("goes on");
    assert_eq!(ada.standing.login.method, Method::Certificate);
    // The session is of no use without the certificate, nor with another of the same person.
    let second = authority.sign(Wanted::default());
    stands_for(&auth, &second, "ada").await;
    for peer in [Peer::from("c"), over(&second)] {
        let stolen = auth.authenticate(&bearer(&session), peer, now).await;
        stolen.expect_err("without its key");
    }
    // Running statements ask again: when it expires, and when it is taken away.
    auth.admit(&rights(&auth).await, &ada.standing, now)
        .await
        .expect("runs");
    let expired = now + TimeDelta::days(365 * 80);
    let standing = crate::auth::standing::Standing {
        expires: None,
        ..ada.standing.clone()
    };
    auth.admit(&rights(&auth).await, &standing, now)
        .await
        .expect("runs");
    auth.admit(&rights(&auth).await, &standing, expired)
        .await
        .expect_err("expired");
    let mut write = auth.store.change_rights().await.expect("begins");
    write.remove_identity(&identity).await.expect("removed");
    write.commit().await.expect("written");
    auth.admit(&rights(&auth).await, &ada.standing, now)
        .await
        .expect_err("removed");
    let ended = auth
        .authenticate(&bearer(&session), over(&certificate), now)
        .await;
    ended.expect_err("removed");
}

#[tokio::test]
async fn a_revoked_certificate_ends_while_the_hub_runs() {
    let folder = tempfile::tempdir().expect("folder");
    let authority = Authority::new();
    let list = authority.list(&[], 2100);
    let judge = judge(folder.path(), &authority, Some(&list)).expect("usable");
    let now = Utc::now();
    let shown = |serial| {
        let certificate = authority.sign(Wanted {
            serial,
            ..Wanted::default()
        });
        Shown::new(&[certificate]).expect("one")
    };
    let (one, two) = (shown(1), shown(2));
    judge.judge(&one, now).expect("not revoked");
    let write = async |text: &str| {
        // Another length or time tells that it is new.
        tokio::time::sleep(CRL_LOOK_EVERY).await;
        std::fs::write(folder.path().join("crl.pem"), text).expect("written");
        tokio::time::sleep(CRL_LOOK_EVERY).await;
    };
    write(&authority.list(&[1], 2100)).await;
    assert!(
        judge
            .judge(&one, now)
            .expect_err("revoked")
            .contains("Revoked")
    );
    judge.judge(&two, now).expect("another");
    // A file that cannot be used, or another authority's, revokes nothing and forgives nothing.
    write("garbage").await;
    judge.judge(&one, now).expect_err("revoked");
    judge.judge(&two, now).expect("another");
    write(&Authority::new().list(&[], 2100)).await;
    judge
        .judge(&two, now)
        .expect_err("no list of its authority");
    // A list that is past its next update tells nothing of who was revoked since.
    write(&authority.list(&[], 2021)).await;
    judge.judge(&two, now).expect_err("an old list");
    write(&authority.list(&[], 2100)).await;
    judge.judge(&one, now).expect("forgiven by its authority");
}

#[test]
fn files_that_cannot_judge_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let mut authority = Authority::new();
    let refused = judge(folder.path(), &authority, Some("garbage")).expect_err("refused");
    assert!(refused.to_string().contains("crl.pem"), "{refused}");
    authority.pem = "garbage".into();
    let refused = judge(folder.path(), &authority, None).expect_err("refused");
    assert!(refused.to_string().contains("ca.pem"), "{refused}");
}
