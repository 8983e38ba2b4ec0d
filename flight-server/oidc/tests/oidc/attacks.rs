//! Forged, confused and misused tokens, each beside a good one.

use crate::support::{HUB, ISSUER, NOW, Signer, claims, encode, header, judge, rules};
use hubflight_oidc::{KeySet, TOKEN_BYTES_MAX, Unverified, Wrong};
use ring::hmac;
use serde_json::{Value, json};

/// Judges an edited token by the usual rules, after the good one was accepted.
#[track_caller]
fn refused(edit: impl Fn(&mut Value, &mut Value)) -> Wrong {
    let signer = Signer::new();
    let keys = signer.keys();
    let good = judge(&signer.token(|_, _| ()), &rules(), &keys).expect("the good token");
    assert_eq!((good.subject.as_str(), good.expires), ("ada-7f", NOW + 600));
    judge(&signer.token(edit), &rules(), &keys).expect_err("must be refused")
}

fn set(object: &mut Value, name: &str, value: Value) {
    object[name] = value;
}

fn unset(object: &mut Value, name: &str) {
    object.as_object_mut().expect("an object").remove(name);
}

#[test]
fn every_accepted_algorithm_is_verified() {
    let signer = Signer::new();
    let other = Signer::new();
    for (algorithm, key) in [
        ("RS256", "rsa"),
        ("PS256", "rsa"),
        ("ES256", "p256"),
        ("EdDSA", "ed"),
    ] {
        let header = header(algorithm, key).to_string();
        let good = signer.token_of(algorithm, &header, &claims().to_string());
        judge(&good, &rules(), &signer.keys()).expect(algorithm);
        // One bit of the claims, and one of the signature.
        let altered = claims().to_string().replace("ada-7f", "eve-7f");
        let (_, signed) = good.rsplit_once('.').expect("parts");
        let altered = format!("{}.{}.{signed}", encode(&header), encode(altered));
        assert_eq!(
            judge(&altered, &rules(), &signer.keys()),
            Err(Wrong::Signature)
        );
        let mut bytes = signer.sign(
            algorithm,
            good.rsplit_once('.').expect("parts").0.as_bytes(),
        );
        bytes[7] ^= 1;
        let bent = format!(
            "{}.{}",
            good.rsplit_once('.').expect("parts").0,
            encode(bytes)
        );
        assert_eq!(
            judge(&bent, &rules(), &signer.keys()),
            Err(Wrong::Signature)
        );
        if key != "rsa" {
            let forged = other.token_of(algorithm, &header, &claims().to_string());
            assert_eq!(
                judge(&forged, &rules(), &signer.keys()),
                Err(Wrong::Signature)
            );
        }
    }
}

#[test]
fn an_unsigned_token_is_refused() {
    let signer = Signer::new();
    for algorithm in ["none", "None", "nOnE", "NONE", ""] {
        let header = header(algorithm, "p256").to_string();
        let unsigned = format!("{}.{}.", encode(&header), encode(claims().to_string()));
        assert_eq!(
            judge(&unsigned, &rules(), &signer.keys()),
            Err(Wrong::Algorithm),
            "{algorithm}"
        );
        let signed = signer.token_of("ES256", &header, &claims().to_string());
        assert_eq!(
            judge(&signed, &rules(), &signer.keys()),
            Err(Wrong::Algorithm),
            "{algorithm}"
        );
    }
    // The signature cut off, the algorithm kept.
    let good = signer.token(|_, _| ());
    let (message, _) = good.rsplit_once('.').expect("parts");
    assert_eq!(
        judge(&format!("{message}."), &rules(), &signer.keys()),
        Err(Wrong::Signature)
    );
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let signer = Signer::new();
    for (name, algorithm) in [("rsa", "HS256"), ("p256", "HS256"), ("ed", "HS512")] {
        let message = format!(
            "{}.{}",
            encode(header(algorithm, name).to_string()),
            encode(claims().to_string())
        );
        let public = signer.jwk(name);
        let secrets = ["n", "x"]
            .into_iter()
            .filter_map(|part| public[part].as_str());
        for secret in secrets
            .map(str::to_owned)
            .chain([public.to_string(), String::new()])
        {
            let of = if algorithm == "HS256" {
                hmac::HMAC_SHA256
            } else {
                hmac::HMAC_SHA512
            };
            let tag = hmac::sign(&hmac::Key::new(of, secret.as_bytes()), message.as_bytes());
            let forged = format!("{message}.{}", encode(tag));
            assert_eq!(
                judge(&forged, &rules(), &signer.keys()),
                Err(Wrong::Algorithm)
            );
        }
    }
    // A shared secret that the provider publishes is no key, and no way to accept HMAC.
    let published = json!({"keys": [{"kty": "oct", "kid": "s", "k": encode("secret")}]});
    KeySet::read(published.to_string().as_bytes()).expect_err("no usable key");
    let mut all = rules();
    all.algorithms.push("HS256".parse().expect("a name"));
    let message = format!(
        "{}.{}",
        encode(header("HS256", "p256").to_string()),
        encode(claims().to_string())
    );
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"x"), message.as_bytes());
    let forged = format!("{message}.{}", encode(tag));
    assert_eq!(judge(&forged, &all, &signer.keys()), Err(Wrong::Algorithm));
}

#[test]
fn an_algorithm_belongs_to_its_key() {
    let signer = Signer::new();
    for (algorithm, key) in [
        ("ES256", "rsa"),
        ("RS256", "p256"),
        ("EdDSA", "p256"),
        ("PS256", "ed"),
    ] {
        let header = header(algorithm, key).to_string();
        let confused = signer.token_of(algorithm, &header, &claims().to_string());
        assert_eq!(
            judge(&confused, &rules(), &signer.keys()),
            Err(Wrong::Algorithm)
        );
    }
    // A key that is published for one algorithm verifies no other.
    let mut only = signer.jwk("rsa");
    set(&mut only, "alg", json!("PS256"));
    let keys = KeySet::read(json!({"keys": [only]}).to_string().as_bytes()).expect("a key");
    let token = |algorithm: &str| {
        signer.token_of(
            algorithm,
            &header(algorithm, "rsa").to_string(),
            &claims().to_string(),
        )
    };
    judge(&token("PS256"), &rules(), &keys).expect("its algorithm");
    assert_eq!(
        judge(&token("RS256"), &rules(), &keys),
        Err(Wrong::Algorithm)
    );
    // And the hub may accept fewer.
    let mut fewer = rules();
    fewer.algorithms = vec!["ES256".parse().expect("a name")];
    assert_eq!(
        judge(&token("PS256"), &fewer, &signer.keys()),
        Err(Wrong::Algorithm)
    );
    // What is not verified at all, though its family is.
    let longer = signer.token_of(
        "RS256",
        &header("RS512", "rsa").to_string(),
        &claims().to_string(),
    );
    assert_eq!(
        judge(&longer, &rules(), &signer.keys()),
        Err(Wrong::Algorithm)
    );
}

#[test]
fn keys_for_other_uses_are_not_believed() {
    let signer = Signer::new();
    let token = signer.token(|_, _| ());
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut key = signer.jwk("p256");
        edit(&mut key);
        let set = json!({"keys": [key, signer.jwk("ed")]}).to_string();
        judge(
            &token,
            &rules(),
            &KeySet::read(set.as_bytes()).expect("keys"),
        )
    };
    with(&|_| ()).expect("as published");
    with(&|key| set(key, "key_ops", json!(["verify"]))).expect("verifies");
    with(&|key| set(key, "alg", json!("ES256"))).expect("its own");
    for (name, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["encrypt"])),
        ("alg", json!("ES384")),
        ("alg", json!("RS256")),
        ("alg", json!("ECDH-ES")),
        ("crv", json!("P-384")),
        ("kty", json!("OKP")),
        ("kid", json!("")),
        ("kid", json!("x".repeat(257))),
    ] {
        let judged = with(&|key| set(key, name, value.clone()));
        assert_eq!(judged, Err(Wrong::UnknownKey), "{name} {value}");
    }
    assert_eq!(with(&|key| unset(key, "kid")), Err(Wrong::UnknownKey));
    let many = vec![signer.jwk("p256"); 65];
    KeySet::read(json!({ "keys": many }).to_string().as_bytes()).expect_err("too many");
    for text in ["", "{}", "[]", "{\"keys\":[]}", "<html>"] {
        KeySet::read(text.as_bytes()).expect_err(text);
    }
}

#[test]
fn keys_in_a_token_are_not_followed() {
    let eve = Signer::new();
    let hub = Signer::new();
    let mine = json!({"kty": "EC", "kid": "p256"});
    for (name, value) in [
        ("jwk", eve.jwk("p256")),
        ("jwk", mine),
        ("jku", json!("https://evil.example.org/keys")),
        ("x5u", json!("https://evil.example.org/chain.pem")),
    ] {
        let edit = |header: &mut Value, _: &mut Value| set(header, name, value.clone());
        assert_eq!(
            judge(&eve.token(edit), &rules(), &hub.keys()),
            Err(Wrong::KeyInHeader)
        );
        assert_eq!(
            judge(&hub.token(edit), &rules(), &hub.keys()),
            Err(Wrong::KeyInHeader)
        );
    }
    // A chain in the header changes nothing: the published key counts.
    let chain = |header: &mut Value, _: &mut Value| set(header, "x5c", json!(["MIIB"]));
    assert_eq!(
        judge(&eve.token(chain), &rules(), &hub.keys()),
        Err(Wrong::Signature)
    );
}

#[test]
fn a_token_names_a_key_that_there_is() {
    assert_eq!(refused(|header, _| unset(header, "kid")), Wrong::UnknownKey);
    assert_eq!(
        refused(|header, _| set(header, "kid", json!("old"))),
        Wrong::UnknownKey
    );
    assert_eq!(
        refused(|header, _| set(header, "kid", json!(7))),
        Wrong::UnknownKey
    );
    assert_eq!(
        refused(|header, _| set(header, "kid", json!("../../etc/passwd"))),
        Wrong::UnknownKey
    );
    assert_eq!(
        refused(|header, _| set(header, "kid", json!("p256' OR 1=1"))),
        Wrong::UnknownKey
    );
}

#[test]
fn what_is_critical_is_refused() {
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!(null)] {
        assert_eq!(
            refused(|header, _| set(header, "crit", crit.clone())),
            Wrong::Critical
        );
    }
}

#[test]
fn another_type_of_token_is_refused() {
    for typ in [
        "JWT",
        "logout+jwt",
        "dpop+jwt",
        "secevent+jwt",
        "",
        "at",
        "at+jwt+x",
    ] {
        assert_eq!(
            refused(|header, _| set(header, "typ", json!(typ))),
            Wrong::Type,
            "{typ}"
        );
    }
    assert_eq!(refused(|header, _| unset(header, "typ")), Wrong::Type);
    let signer = Signer::new();
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        let token = signer.token(|header, _| set(header, "typ", json!(typ)));
        judge(&token, &rules(), &signer.keys()).expect(typ);
    }
}

#[test]
fn the_issuer_is_compared_letter_by_letter() {
    for issuer in [
        json!("https://login.example.org/"),
        json!("https://LOGIN.example.org"),
        json!("http://login.example.org"),
        json!("https://login.example.org.evil.example"),
        json!(""),
        json!(null),
        json!([ISSUER]),
        json!([ISSUER, "https://evil.example.org"]),
        json!({"iss": ISSUER}),
    ] {
        assert_eq!(
            refused(|_, claims| set(claims, "iss", issuer.clone())),
            Wrong::Issuer,
            "{issuer}"
        );
    }
    assert_eq!(refused(|_, claims| unset(claims, "iss")), Wrong::Issuer);
}

#[test]
fn a_token_for_others_is_refused() {
    for audience in [
        json!("https://other.example.org"),
        json!("https://hub.example.org/"),
        json!(["https://other.example.org"]),
        json!([]),
        json!(""),
        json!(null),
        json!({"aud": HUB}),
    ] {
        let wrong = refused(|_, claims| set(claims, "aud", audience.clone()));
        assert_eq!(wrong, Wrong::Audience, "{audience}");
        // Nothing else is wrong with it: whoever takes any audience for theirs accepts it.
        let Some(named) = audience.as_str().or_else(|| audience[0].as_str()) else {
            continue;
        };
        let mut any = rules();
        any.audiences.push(named.to_owned());
        let signer = Signer::new();
        let token = signer.token(|_, claims| set(claims, "aud", audience.clone()));
        judge(&token, &any, &signer.keys()).expect("accepted without the check");
    }
    assert_eq!(refused(|_, claims| unset(claims, "aud")), Wrong::Audience);
    assert_eq!(
        refused(|_, claims| set(claims, "aud", json!([HUB, 7]))),
        Wrong::Audience
    );
}

#[test]
fn what_others_may_hold_comes_from_a_listed_client() {
    let signer = Signer::new();
    let judged = |clients: &[&str], edit: &dyn Fn(&mut Value)| {
        let mut rules = rules();
        rules.clients = clients.iter().map(|client| (*client).to_owned()).collect();
        judge(
            &signer.token(|_, claims| edit(claims)),
            &rules,
            &signer.keys(),
        )
        .map(|_| ())
    };
    let both = json!([HUB, "https://other.example.org"]);
    judged(&[], &|claims| set(claims, "aud", json!([HUB]))).expect("for the hub alone");
    judged(&["notebook"], &|_| ()).expect("listed");
    judged(&["notebook"], &|claims| set(claims, "aud", both.clone())).expect("listed");
    judged(&["r", "notebook"], &|claims| set(claims, "azp", json!("r"))).expect("both listed");
    let wrong = |clients: &[&str], edit: &dyn Fn(&mut Value)| {
        assert_eq!(judged(clients, edit), Err(Wrong::Client), "{clients:?}");
    };
    wrong(&[], &|claims| set(claims, "aud", both.clone()));
    wrong(&["other"], &|_| ());
    wrong(&["notebook"], &|claims| set(claims, "azp", json!("evil")));
    wrong(&["notebook"], &|claims| {
        set(claims, "azp", json!(["notebook"]))
    });
    wrong(&["notebook"], &|claims| unset(claims, "client_id"));
}

#[test]
fn a_token_counts_from_its_begin_to_its_end() {
    let signer = Signer::new();
    let at = |edit: &dyn Fn(&mut Value)| {
        let token = signer.token(|_, claims| edit(claims));
        judge(&token, &rules(), &signer.keys()).map(|verified| verified.expires)
    };
    // The provider's clock may be ahead by the leeway; nothing is given at the end.
    assert_eq!(
        at(&|claims| set(claims, "exp", json!(NOW + 1))),
        Ok(NOW + 1)
    );
    assert_eq!(
        at(&|claims| set(claims, "exp", json!(NOW))),
        Err(Wrong::Expired)
    );
    assert_eq!(
        at(&|claims| set(claims, "exp", json!(-1))),
        Err(Wrong::Expired)
    );
    assert!(at(&|claims| set(claims, "iat", json!(NOW + 30))).is_ok());
    assert_eq!(
        at(&|claims| set(claims, "iat", json!(NOW + 31))),
        Err(Wrong::Early)
    );
    assert!(at(&|claims| set(claims, "nbf", json!(NOW + 30))).is_ok());
    assert_eq!(
        at(&|claims| set(claims, "nbf", json!(NOW + 31))),
        Err(Wrong::Early)
    );
    assert!(at(&|claims| unset(claims, "nbf")).is_ok());
    // What lives longer than an hour was not meant to be believed for that long.
    assert!(at(&|claims| set(claims, "exp", json!(NOW + 3540))).is_ok());
    assert_eq!(
        at(&|claims| set(claims, "exp", json!(NOW + 3541))),
        Err(Wrong::Life)
    );
    assert_eq!(
        at(&|claims| set(claims, "iat", json!(i64::MIN))),
        Err(Wrong::Life)
    );
    assert_eq!(
        at(&|claims| set(claims, "exp", json!(i64::MAX))),
        Err(Wrong::Life)
    );
    for name in ["iat", "exp", "nbf"] {
        for odd in [
            json!("1800000600"),
            json!(1.8e9),
            json!(u64::MAX),
            json!(null),
            json!([]),
        ] {
            let judged = at(&|claims| set(claims, name, odd.clone()));
            assert_eq!(judged, Err(Wrong::Claim(name)), "{name} {odd}");
        }
    }
    for name in ["iat", "exp"] {
        assert_eq!(at(&|claims| unset(claims, name)), Err(Wrong::Claim(name)));
    }
}

#[test]
fn a_second_factor_is_proven() {
    for acr in [
        json!("pwd"),
        json!("MFA"),
        json!(""),
        json!(["mfa"]),
        json!(null),
        json!(1),
    ] {
        assert_eq!(
            refused(|_, claims| set(claims, "acr", acr.clone())),
            Wrong::SecondFactor
        );
    }
    for amr in [
        json!(["pwd"]),
        json!([]),
        json!("pwd otp"),
        json!({"otp": true}),
        json!(["otp", 1]),
    ] {
        assert_eq!(
            refused(|_, claims| set(claims, "amr", amr.clone())),
            Wrong::SecondFactor
        );
    }
    assert_eq!(
        refused(|_, claims| unset(claims, "acr")),
        Wrong::SecondFactor
    );
    assert_eq!(
        refused(|_, claims| unset(claims, "amr")),
        Wrong::SecondFactor
    );
    // Each list alone is enough; a provider without any proves nothing.
    let signer = Signer::new();
    let judged = |acr: bool, amr: bool| {
        let mut rules = rules();
        if !acr {
            rules.acr.clear();
        }
        if !amr {
            rules.amr.clear();
        }
        judge(&signer.token(|_, _| ()), &rules, &signer.keys()).map(|_| ())
    };
    assert_eq!((judged(true, false), judged(false, true)), (Ok(()), Ok(())));
    assert_eq!(judged(false, false), Err(Wrong::SecondFactor));
}

#[test]
fn a_token_names_somebody() {
    for subject in ["", "a\u{0}b", "a\nb", &"x".repeat(256)] {
        let wrong = refused(|_, claims| set(claims, "sub", json!(subject)));
        assert_eq!(wrong, Wrong::Subject, "{subject}");
    }
    for subject in [
        json!(null),
        json!(7),
        json!(["ada-7f"]),
        json!({"sub": "ada-7f"}),
    ] {
        // The library may stumble over what is no text before anybody looks for a name.
        let wrong = refused(|_, claims| set(claims, "sub", subject.clone()));
        assert!(
            matches!(wrong, Wrong::Subject | Wrong::Malformed),
            "{wrong:?}"
        );
    }
    assert_eq!(refused(|_, claims| unset(claims, "sub")), Wrong::Subject);
    let signer = Signer::new();
    let mut by_oid = rules();
    by_oid.claim = "oid".into();
    let token = signer.token(|_, claims| set(claims, "oid", json!("object-1")));
    let verified = judge(&token, &by_oid, &signer.keys()).expect("another claim");
    assert_eq!(verified.subject, "object-1");
    let without = judge(&signer.token(|_, _| ()), &by_oid, &signer.keys());
    assert_eq!(
        without,
        Err(Wrong::Subject),
        "`sub` does not stand in for it"
    );
}

#[test]
fn a_name_is_there_once() {
    let signer = Signer::new();
    let twice = |text: String, name: &str, value: &str| {
        let more = format!("{{\"{name}\":{value},");
        text.replacen('{', &more, 1)
    };
    let good = header("ES256", "p256").to_string();
    for (name, value) in [
        ("alg", "\"none\""),
        ("kid", "\"ed\""),
        ("typ", "\"JWT\""),
        ("x", "1"),
    ] {
        let mut text = twice(good.clone(), name, value);
        if name == "x" {
            text = twice(text, name, "2");
        }
        let token = signer.token_of("ES256", &text, &claims().to_string());
        assert_eq!(
            judge(&token, &rules(), &signer.keys()),
            Err(Wrong::Malformed),
            "{name}"
        );
    }
    for (name, value) in [("sub", "\"eve\""), ("exp", "9999999999"), ("aud", "\"x\"")] {
        let token = signer.token_of("ES256", &good, &twice(claims().to_string(), name, value));
        assert_eq!(
            judge(&token, &rules(), &signer.keys()),
            Err(Wrong::Malformed),
            "{name}"
        );
    }
    // Written otherwise, it is the same name.
    let escaped = claims()
        .to_string()
        .replacen('{', "{\"\\u0073ub\":\"eve\",", 1);
    let token = signer.token_of("ES256", &good, &escaped);
    assert_eq!(
        judge(&token, &rules(), &signer.keys()),
        Err(Wrong::Malformed)
    );
}

#[test]
fn texts_that_are_no_tokens_are_refused_early() {
    let signer = Signer::new();
    let long = signer.token(|_, claims| set(claims, "x", json!("x".repeat(TOKEN_BYTES_MAX))));
    assert_eq!(Unverified::read(&long).err(), Some(Wrong::TooLong));
    let good = signer.token(|_, _| ());
    let deep = format!(
        "{}.{}.x",
        encode(header("ES256", "p256").to_string()),
        encode("[".repeat(4000))
    );
    let nested = format!("{{\"a\":{}", "[".repeat(4000));
    let nested = format!(
        "{}.{}.x",
        encode(header("ES256", "p256").to_string()),
        encode(nested)
    );
    for text in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        &good.replace('.', " "),
        &format!("{good}.x"),
        &format!("{good}="),
        &format!(" {good}"),
        &format!("{good}\n"),
        &deep,
        &nested,
        // Encrypted ones have five parts.
        "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d",
        "bnVsbA.bnVsbA.",
        "W10.W10.",
        "eyJ9.e30.",
        "e30.e30.e30",
    ] {
        assert!(judge(text, &rules(), &signer.keys()).is_err(), "{text}");
    }
    // Bytes after the JSON, and JSON that is not UTF-8.
    for claims in [b"{} {}".as_slice(), b"{\"sub\":\"\xff\"}"] {
        let token = format!(
            "{}.{}.x",
            encode(header("ES256", "p256").to_string()),
            encode(claims)
        );
        assert_eq!(
            judge(&token, &rules(), &signer.keys()),
            Err(Wrong::Malformed)
        );
    }
}

#[test]
fn no_altered_token_is_accepted() {
    let signer = Signer::new();
    let (rules, keys) = (rules(), signer.keys());
    let good = signer.token(|_, _| ());
    judge(&good, &rules, &keys).expect("as it was issued");
    for at in 0..good.len() {
        let (head, tail) = good.split_at(at);
        let rest = tail.get(1..).unwrap_or_default();
        let other = if tail.starts_with('A') { 'B' } else { 'A' };
        let bit = tail
            .as_bytes()
            .first()
            .map_or('x', |byte| char::from(byte ^ 1));
        for altered in [
            format!("{head}{rest}"),
            format!("{head}{other}{rest}"),
            format!("{head}{bit}{rest}"),
            format!("{head}{other}{tail}"),
            format!("{head}é{rest}"),
            head.to_owned(),
            tail.get(1..).unwrap_or_default().to_owned(),
        ] {
            assert!(judge(&altered, &rules, &keys).is_err(), "{altered}");
        }
    }
}
