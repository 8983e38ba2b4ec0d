//! E-mail addresses, telephone numbers, NIR and other numbers of persons.

use std::sync::LazyLock;

use regex::Regex;

use super::scan::{Pattern, char_at, char_before, isolated, short};
use super::{Kind, Span};

/// The sign between the parts of an e-mail address, also as it is written against robots.
static MAIL_SIGN: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::new(r"@|\(at\)|\[at\]|\(arobase\)|\[arobase\]"));

/// Thirteen digits of a NIR in any usual grouping, then perhaps the two of its key.
static NIR: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"[1-478][~.-]?\d{2}[~.-]?(?:0[1-9]|1[0-2]|[2-9]\d)[~.-]?(?:\d{2}|2[AaBb])[~.-]?\d{3}[~.-]?\d{3}(?:~{0,2}[/.-]?~{0,2}(?:(?i:cl[ée])~?:?~?)?(\d{2}))?",
    )
});

/// After these words a number is hidden whatever its form and key.
static NIR_WORDS: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?i)(?:nir\b|ins(?:-nir|-c|-a)?\b|(?:n°|nº|no\b|n\.|numéro|num\.?|matricule|immatriculation)~*(?:d['’]~?|de~)?(?:immatriculation~|assurée?~|matricule~)*(?:(?:à|de)~)?(?:la~)?(?:ins\b|sécurité~sociale|s[ée]cu\b|s\.?s\.?\b|assurance~maladie)|sécurité~sociale~*:)[^\d\r\n]{0,25}?([1-9][\dAaBb~./-]{5,28}\d)",
    )
});

/// Shorter numbers after such words count something.
const LOCAL_DIGITS_MIN: usize = 4;

/// Numbers that lead to one patient, stay, document or carer in a local or national register.
static LOCAL: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?:(?:IPP|NIP|NDA|IEP|NDOS|RPPS|ADELI|FINESS|INE|IPPR|[NV]/R[ée]f)\b\.?|(?i:(?:n°|nº|n\.|numéro|num\.?|identifiant|réf(?:érence)?\.?)~*(?:(?:de|du)~)?(?:dossier|patiente?|séjour|identification|permanent|carte~vitale|passeport|adhérent|mutuelle|examen|prélèvement|demande|venue|admission|rpps|adeli|finess|ipp|nda)(?:~(?:patient|médical|unique))?)|(?i:(?:dossier|patiente?|séjour|venue|examen|demande)(?:~(?:patient|médical))?~*(?:n°|nº|numéro|num\.)))~*(?:n°|nº)?~*[:=#]?~*(?:n°|nº)?~*([A-Za-z\d](?:[A-Za-z\d./-]|~\d){3,24})",
    )
});

static PHONE: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?:(?:\+|00)~?33~?[.-]?~?(?:\(0\)~?)?|\(0\)~?|0)[1-9](?:~{0,2}[./_-]?~{0,2}\d{2}){4}|0~?8\d{2}(?:(?:[~.-]?\d{3}){2}|(?:[~.-]?\d{2}){3})|\+\d{1,3}(?:[~./()-]{0,2}\d){7,13}",
    )
});

/// After these words any long number is a telephone number.
static PHONE_WORDS: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?i)(?:(?:tél|tel|téléphone|telephone|tph|fax|télécopie|portable|port\.|mobile|secr[ée]tariat|standard|joignable~au|contact|gsm)\b\.?[^\d\r\n]{0,20}?)((?:\(?\+?\d)(?:[~./()_-]{0,2}\d){7,14})",
    )
});

/// `01/02/2021 12` (date and hour) has the ten digits of a telephone number.
static DATE_FIRST: LazyLock<Regex> = LazyLock::new(|| {
    short(
        r"^(?:\d{1,2}[/.-]\d{1,2}[/.-]\d{2}(?:\d{2})?(?:[^\d/.-]|$)|\d{2}~\d{2}~(?:19|20)\d{2}|(?:19|20)\d{2}[/.-]\d{2}[/.-]\d{2})",
    )
});

/// Short numbers inside a hospital.
static EXTENSION: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(r"(?i:(?:poste|dect|bip|bipper~le)\b)~*(?:n°|nº)?~*:?~*(\d{4,6})")
});

pub(super) fn mails(text: &str) -> Vec<Span> {
    MAIL_SIGN
        .find_iter(text)
        .filter_map(|sign| {
            let before = text.get(..sign.start())?.trim_end_matches(' ').len();
            let after = text.get(sign.end()..)?;
            let blanks = after.len() - after.trim_start_matches(' ').len();
            mail(text, before, sign.end() + blanks)
        })
        .collect()
}

/// The address around its sign, with the lengths of RFC 5321 section 4.5.3.
fn mail(text: &str, sign: usize, after: usize) -> Option<Span> {
    const LOCAL_CHARS_MAX: usize = 64;
    const DOMAIN_CHARS_MAX: usize = 255;
    let local = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '_' | '%' | '+' | '-');
    let domain = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '-');
    let before = text.get(..sign)?.chars().rev().take(LOCAL_CHARS_MAX);
    let start = sign - before.take_while(local).map(char::len_utf8).sum::<usize>();
    let rest = text.get(after..)?;
    let length: usize = rest
        .chars()
        .take(DOMAIN_CHARS_MAX)
        .take_while(domain)
        .map(char::len_utf8)
        .sum();
    let name = rest.get(..length)?.trim_end_matches(['.', '-']);
    let (_, top) = name.rsplit_once('.')?;
    let valid = start < sign && top.chars().count() >= 2 && top.chars().all(char::is_alphabetic);
    valid.then(|| Span::new(start, after + name.len(), Kind::Mail))
}

/// NIR (social security number), its key checked, and other numbers of persons.
pub(super) fn identifiers(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for words in [&*NIR_WORDS, &*LOCAL] {
        for number in words.captures_iter(text).filter_map(|found| found.get(1)) {
            let digits = number.as_str().bytes().filter(u8::is_ascii_digit).count();
            if digits >= LOCAL_DIGITS_MIN && isolated(text, number.start(), number.end()) {
                spans.push(Span::new(number.start(), number.end(), Kind::Nir));
            }
        }
    }
    for found in NIR.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        if !alone(text, whole.start(), whole.end()) {
            continue;
        }
        let first = whole.as_str().bytes().next();
        let valid = match found.get(1) {
            Some(_) => key_is_right(whole.as_str()),
            // Without a key only the usual forms, or each 13-digit drug code would be one.
            None => matches!(first, Some(b'1' | b'2')),
        };
        if valid {
            spans.push(Span::new(whole.start(), whole.end(), Kind::Nir));
        }
    }
    spans
}

pub(super) fn phones(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for found in PHONE.find_iter(text) {
        if alone(text, found.start(), found.end()) && !DATE_FIRST.is_match(found.as_str()) {
            spans.push(Span::new(found.start(), found.end(), Kind::Tel));
        }
    }
    for words in [&*PHONE_WORDS, &*EXTENSION] {
        for number in words.captures_iter(text).filter_map(|found| found.get(1)) {
            if isolated(text, number.start(), number.end()) && !DATE_FIRST.is_match(number.as_str())
            {
                spans.push(Span::new(number.start(), number.end(), Kind::Tel));
            }
        }
    }
    spans
}

/// True when the number is not a part of a longer one (`3.14`, `12/03`).
fn alone(text: &str, start: usize, end: usize) -> bool {
    if !isolated(text, start, end) {
        return false;
    }
    let glued = |c: Option<char>| matches!(c, Some('.' | ',' | '/' | '-'));
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let before = glued(char_before(text, start)) && digit(char_before(text, start - 1));
    let after = glued(char_at(text, end)) && digit(char_at(text, end + 1));
    !before && !after
}

/// Checks the key of a NIR of fifteen characters: 97 − (number mod 97), where Corsica's 2A
/// counts as 19 and 2B as 18 (INSEE).
pub(super) fn key_is_right(nir: &str) -> bool {
    let kept: Vec<u8> = nir
        .bytes()
        .filter(|b| b.is_ascii_digit() || matches!(b, b'A' | b'a' | b'B' | b'b'))
        .collect();
    let [number @ .., k1, k2] = kept.as_slice() else {
        return false;
    };
    if number.len() != 13 || !k1.is_ascii_digit() || !k2.is_ascii_digit() {
        return false;
    }
    let mut value: u64 = 0;
    for (i, b) in number.iter().enumerate() {
        let digit = match b {
            b'0'..=b'9' => u64::from(b - b'0'),
            // 2A becomes 19, 2B becomes 18: the letter stands at the seventh place.
            b'A' | b'a' if i == 6 => 9,
            b'B' | b'b' if i == 6 => 8,
            _ => return false,
        };
        value = value * 10 + digit;
        if i == 6 && !b.is_ascii_digit() {
            value -= 10;
        }
    }
    97 - value % 97 == u64::from(k1 - b'0') * 10 + u64::from(k2 - b'0')
}
