//! De-identification of French medical texts by rules.
//!
//! Each detector (numbers, dates, places, names) proposes spans; an earlier detector wins
//! where two overlap, and what is left of the later span is kept, so that nothing found is
//! ever lost. Names found once are then searched in the whole document. All passes are linear
//! in the length of the text.

mod addresses;
mod dates;
mod hospitals;
mod lists;
mod names;
mod numbers;
mod repeat;
mod scan;
mod surrogate;
mod towns;

use std::fmt::Write as _;

/// Longest text that is processed; a longer one is refused before any work.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What kind of identifying information a span holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Name of a person: patient, relative or carer.
    Nom,
    Date,
    Tel,
    /// Number of a person: NIR (social security), and local patient, stay or carer numbers.
    Nir,
    Adresse,
    Mail,
    Ville,
    /// Name of a hospital, clinic or care home.
    Hopital,
}

impl Kind {
    /// The text that replaces a span of this kind.
    pub fn tag(self) -> &'static str {
        match self {
            Kind::Nom => "<NOM>",
            Kind::Date => "<DATE>",
            Kind::Tel => "<TEL>",
            Kind::Nir => "<NIR>",
            Kind::Adresse => "<ADRESSE>",
            Kind::Mail => "<MAIL>",
            Kind::Ville => "<VILLE>",
            Kind::Hopital => "<HOPITAL>",
        }
    }
}

/// One identifying span: byte offsets `start..end` on character boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    pub kind: Kind,
}

impl Span {
    fn new(start: usize, end: usize, kind: Kind) -> Span {
        Span { start, end, kind }
    }
}

/// The identifying spans of `text`, ascending and without overlap.
pub fn spans(text: &str) -> Vec<Span> {
    let mut found = Vec::new();
    merge(text, &mut found, numbers::mails(text));
    merge(text, &mut found, numbers::identifiers(text));
    merge(text, &mut found, numbers::phones(text));
    merge(text, &mut found, addresses::addresses(text));
    merge(text, &mut found, dates::dates(text));
    merge(text, &mut found, hospitals::hospitals(text));
    let named = names::names(text, &found);
    let repeated = repeat::repeated(text, &named);
    merge(text, &mut found, named);
    merge(text, &mut found, repeated);
    merge(text, &mut found, towns::towns(text));
    repeat::join(text, &mut found);
    found
}

/// `text` with each identifying span replaced by its type, for example `<NOM>`.
pub fn deidentify(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans(text) {
        out.push_str(&text[at..span.start]);
        out.push_str(span.kind.tag());
        at = span.end;
    }
    out.push_str(&text[at..]);
    out
}

/// `text` with each identifying span replaced by a plausible one: the same name is replaced
/// by the same name in the whole document and all dates move by the same number of days.
/// The choice depends on the content of the document only, so it is reproducible and tells
/// nothing about other documents.
pub fn surrogates(text: &str) -> String {
    let spans = spans(text);
    let mut faker = surrogate::Faker::new(text, &spans);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        out.push_str(&text[at..span.start]);
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{}",
            faker.replace(&text[span.start..span.end], span.kind)
        );
        at = span.end;
    }
    out.push_str(&text[at..]);
    out
}

/// Number of words: maximal runs of letters, marks and digits. This is the unit of work.
pub fn tokens(text: &str) -> u64 {
    let mut count = 0;
    let mut inside = false;
    for c in text.chars() {
        let word = c.is_alphanumeric() || scan::is_mark(c);
        if word && !inside {
            count += 1;
        }
        inside = word;
    }
    count
}

/// Adds `new` spans to `found`; parts that an earlier detector already covers are cut off.
fn merge(text: &str, found: &mut Vec<Span>, mut new: Vec<Span>) {
    new.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    let mut added = Vec::with_capacity(new.len());
    let mut taken = found.iter().peekable();
    let mut last_end = 0;
    for span in new {
        // Two proposals of one detector: the earlier, longer one wins.
        let mut at = span.start.max(last_end);
        while taken.next_if(|old| old.end <= at).is_some() {}
        let mut ahead = taken.clone();
        while at < span.end {
            let stop = ahead.peek().map_or(span.end, |old| old.start.min(span.end));
            if let Some(piece) = trimmed(text, at, stop, span.kind) {
                added.push(piece);
            }
            match ahead.next_if(|old| old.start < span.end) {
                Some(old) => at = at.max(old.end),
                None => break,
            }
        }
        last_end = last_end.max(span.end);
    }
    if !added.is_empty() {
        found.append(&mut added);
        found.sort_by_key(|span| span.start);
    }
}

/// The piece without the separators at its ends; `None` when no letter or digit is left.
fn trimmed(text: &str, start: usize, end: usize, kind: Kind) -> Option<Span> {
    let piece = text.get(start..end)?;
    let head = piece.find(|c: char| c.is_alphanumeric() || matches!(c, '+' | '('))?;
    let tail = piece.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '-'));
    if !piece.contains(char::is_alphanumeric) || head >= tail.len() {
        return None;
    }
    Some(Span {
        start: start + head,
        end: start + tail.len(),
        kind,
    })
}
