//! A checkpoint's note on one line of ASCII, for places that keep lines (syslog).
//!
//! ```text
//! checkpoint log=hubflight-audit/6d0c… size=42 root=CsUY…= time=2026-11-22T00:00:04Z seal=2026-11-21 signature=x08g…=
//! ```
//!
//! It holds all of the note, so that the note comes back from it and its signature is verified.

use crate::AuditError;

const BEGIN: &str = "checkpoint log=";
/// Begins the signature's line of a note.
const SIGNATURE: &str = "\u{2014} ";

/// The line of a note as [`crate::Checkpoint::sign`] writes it; none of another text.
pub fn checkpoint_line(note: &str) -> Option<String> {
    let (text, signatures) = note.split_once("\n\n")?;
    let mut lines = text.lines();
    let (log, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    let mut line = format!("{BEGIN}{log} size={size} root={root}");
    for extension in lines {
        let (name, value) = extension.split_once(' ')?;
        line.push_str(&format!(" {name}={value}"));
    }
    let signed = signatures.strip_prefix(SIGNATURE)?.strip_suffix('\n')?;
    let signature = signed.strip_prefix(log)?.strip_prefix(' ')?;
    line.push_str(&format!(" signature={signature}"));
    (line.is_ascii() && !line.contains(char::is_control)).then_some(line)
}

/// The notes in a text: a note as it is, or lines that have one each, whatever stands before and
/// after it. Lines without are passed over.
///
/// # Errors
/// [`AuditError::Note`] where there is none, or a line has only a part of one.
pub fn checkpoint_notes(text: &str) -> Result<Vec<String>, AuditError> {
    if text.contains(SIGNATURE) {
        return Ok(vec![text.to_owned()]);
    }
    let lines = text.lines().filter(|line| line.contains(BEGIN));
    let notes = lines
        .map(|line| note(line).ok_or(AuditError::Note("a line has only a part of a checkpoint")))
        .collect::<Result<Vec<_>, _>>()?;
    if notes.is_empty() {
        return Err(AuditError::Note("there is no checkpoint in it"));
    }
    Ok(notes)
}

/// The note of a line.
fn note(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(BEGIN)?;
    let mut words = rest.split([' ', '"']);
    let log = words.next()?;
    let size = words.next()?.strip_prefix("size=")?;
    let root = words.next()?.strip_prefix("root=")?;
    let mut text = format!("{log}\n{size}\n{root}\n");
    for word in words {
        match word.split_once('=')? {
            ("signature", signature) => {
                return Some(format!("{text}\n{SIGNATURE}{log} {signature}\n"));
            }
            (name, value) => text.push_str(&format!("{name} {value}\n")),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checkpoint, Signer};

    fn notes() -> (Signer, Vec<String>) {
        let signer = Signer::of_hub(&[1; 32]).expect("a signer");
        let seals = [None, chrono::NaiveDate::from_ymd_opt(2026, 11, 21)];
        let notes = seals.map(|seal| {
            let checkpoint = Checkpoint {
                size: 42,
                root: [9; 32],
                at: "2026-11-22T00:00:04.000123Z".parse().expect("a time"),
                seal,
            };
            checkpoint.sign(&signer)
        });
        (signer, notes.into())
    }

    #[test]
    fn a_note_comes_back_from_its_line() {
        let (signer, notes) = notes();
        for note in &notes {
            let line = checkpoint_line(note).expect("a line");
            for around in [
                line.clone(),
                format!("Nov 22 00:00:04 hub hubflight[7]: {line}\n"),
                format!("{{\"MESSAGE\":\"{line}\"}}"),
                format!("another line\n<109>1 - - - - - - {line} and more\r\n"),
            ] {
                let read = checkpoint_notes(&around).expect(&around);
                assert_eq!(read, std::slice::from_ref(note), "{around}");
                Checkpoint::open(&read[0], signer.key()).expect("signed");
            }
            assert_eq!(checkpoint_notes(note), Ok(vec![note.clone()]));
        }
        let lines: Vec<String> = notes.iter().filter_map(|n| checkpoint_line(n)).collect();
        assert_eq!(checkpoint_notes(&lines.join("\n")), Ok(notes));
    }

    #[test]
    fn what_was_altered_or_cut_is_no_checkpoint() {
        let (signer, notes) = notes();
        let line = checkpoint_line(&notes[1]).expect("a line");
        for wrong in [
            line.replace("size=42", "size=41"),
            line.replace("root=C", "root=D"),
            line.replace("seal=2026-11-21", "seal=2026-11-20"),
            line.replace(" seal=2026-11-21", ""),
            line.replace("signature=", "other=1 signature="),
        ] {
            assert_ne!(wrong, line);
            let note = &checkpoint_notes(&wrong).expect(&wrong)[0];
            assert!(Checkpoint::open(note, signer.key()).is_err(), "{wrong}");
        }
        for length in BEGIN.len()..line.find("signature=").expect("signed") {
            assert!(checkpoint_notes(&line[..length]).is_err(), "{length}");
        }
        for none in ["", "checkpoint", "size=42 root=AAAA"] {
            assert!(checkpoint_notes(none).is_err(), "{none}");
        }
    }
}
