//! The master secret in its file.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::fs;

use hubflight_keys::{KeyError, Secrets};

#[test]
fn master_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.secret");
    let secrets = Secrets::load_or_create(&path).unwrap();
    let again = Secrets::load_or_create(&path).unwrap();
    assert_eq!(secrets.derive("tickets"), again.derive("tickets"));
    assert_ne!(secrets.derive("tickets"), secrets.derive("bearers"));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary file"
    );
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(format!("{secrets:?}"), "Secrets(Master(***))");

    // HKDF-SHA256 without salt, computed with another implementation.
    let known = Secrets::new(std::array::from_fn(|index| index as u8))
        .derive("tickets")
        .unwrap();
    let hex: String = known.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "68b1cfc74e9946196353a7807cd927bae63b9870e40eb57d5dc8a54024eb52c4"
    );

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Secrets::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    for bad in [
        String::new(),
        text[..62].to_owned(),
        "z".repeat(64),
        text.repeat(1_000),
    ] {
        fs::write(&path, &bad).unwrap();
        let error = Secrets::load_or_create(&path).unwrap_err();
        assert!(matches!(error, KeyError::File { .. }), "{error}");
        assert!(bad.is_empty() || !error.to_string().contains(bad.trim()));
    }
}
