//! Dates in the forms that French medical texts use.
//!
//! Hidden: whole dates, day and month, month and year. Kept: years alone, times, durations,
//! doses and ratios (`12/8`, `3/4`, `1-0-1`).

use std::sync::LazyLock;

use regex::Regex;

use super::scan::{Pattern, ahead, char_at, char_before, line_before, short};
use super::{Kind, Span};

const MONTH: &str = r"(?:janvier|janv\.?|jan\.?|f[ée]vrier|f[ée]vr?\.?|mars|avril|avr\.?|mai|juin|juillet|juil\.?|ao[ûu]t|septembre|sept\.?|octobre|oct\.?|novembre|nov\.?|d[ée]cembre|d[ée]c\.?)";
const WEEKDAY: &str = r"(?:lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|lun\.|mar\.|mer\.|jeu\.|ven\.|sam\.|dim\.)";
const DAY: &str = r"(?:1~?er|1ᵉʳ|premier|3[01]|[12]\d|0?[1-9])";

static NUMERIC: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(\d{1,2})~?/~?(\d{1,2})~?/~?(\d{4}|\d{2})|(\d{1,2})\.~?(\d{1,2})\.~?(\d{4}|\d{2})|(\d{1,2})~?-~?(\d{1,2})~?-~?(\d{4}|\d{2})|(\d{2})~(\d{2})~(\d{4})",
    )
});

static ISO: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"((?:18|19|20)\d{2})(?:[-/.](0?[1-9]|1[0-2])[-/.](3[01]|[12]\d|0?[1-9])|(0[1-9]|1[0-2])(3[01]|[12]\d|0[1-9]))(?:T\d{2}:?\d{2}(?::?\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?",
    )
});

/// `12 mars 2021`, `1er avril`, `lundi 3 mai`, `mars 2021`, and ranges of days before them.
static WORDS: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(&format!(
        r"(?i)(?:{WEEKDAY}~+)?(?:{DAY}(?:~*(?:,|-|/|–|et|au|ou|à)~*(?:{WEEKDAY}~+)?{DAY}){{0,3}}(?:~|-|/|\.)*{MONTH}(?:~{{0,2}},?[~/-]?((?:18|19|20)\d{{2}}|['’]?\d{{2}}))?|{MONTH}[~/-]{{1,2}}((?:18|19|20)\d{{2}}))",
    ))
});

/// `03/2021`.
static MONTH_YEAR: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::new(r"(0?[1-9]|1[0-2])~?[/.-]~?((?:19|20)\d{2})"));

/// Day and month without a year: only a context makes them a date.
static DAY_MONTH: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::new(r"(3[01]|[12]\d|0?[1-9])([/.-])(1[0-2]|0?[1-9])"));

static BEFORE_DAY: LazyLock<Regex> = LazyLock::new(|| {
    short(&format!(
        r"(?i)(?:\b(?:le|du|au|dès|depuis|jusqu['’]au|avant|après|rdv|date|daté|et~le|entre~le)~*:?~+(?:{WEEKDAY}~+)?|\b{WEEKDAY}~+)$"
    ))
});

/// Words that make even `le 3/4` a date.
static EVENT_BEFORE: LazyLock<Regex> = LazyLock::new(|| {
    short(&format!(
        r"(?i)(?:\b(?:vue?|revue?|reçue?|opérée?|hospitalisée?|sortie?|entrée?|admise?|convoquée?|consultation|rdv|rendez-vous|intervention|contrôle|séance|transférée?|prévue?|née?|faite?|réalisée?|dictée?|tapée?|rédigée?|signée?|validée?|saisie?|imprimée?|éditée?|prélevée?|débutée?|arrêtée?)~+(?:le|du|au)~+|\b{WEEKDAY}~+)$"
    ))
});

static AFTER_DAY: LazyLock<Regex> = LazyLock::new(|| {
    short(r"(?i)^(?:~*(?:à|vers|,)?~*\d{1,2}~?(?:h|:)\d{0,2}|~*(?:au|et~le)~+\d{1,2}/\d{1,2})")
});

/// `née en 1954`: the year of a birth is a date of birth.
static BIRTH_YEAR: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::new(r"(?i)née?(?:\(e\))?~+en~+(?:l['’]an~+)?((?:18|19|20)\d{2})"));

pub(super) fn dates(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    numeric(text, &mut spans);
    for found in ISO.find_iter(text) {
        push(text, &mut spans, found.start(), found.end());
    }
    words(text, &mut spans);
    for found in MONTH_YEAR.find_iter(text) {
        push(text, &mut spans, found.start(), found.end());
    }
    day_month(text, &mut spans);
    for year in BIRTH_YEAR.captures_iter(text).filter_map(|c| c.get(1)) {
        push(text, &mut spans, year.start(), year.end());
    }
    spans
}

/// Adds the span unless it is a part of a longer number.
fn push(text: &str, spans: &mut Vec<Span>, start: usize, end: usize) {
    if boundaries(text, start, end) {
        spans.push(Span {
            start,
            end,
            kind: Kind::Date,
        });
    }
}

/// True when neither a letter, a digit nor `digit + separator` is attached.
fn boundaries(text: &str, start: usize, end: usize) -> bool {
    let before = char_before(text, start);
    let glued_before = before.is_some_and(char::is_alphanumeric)
        || (matches!(before, Some('/' | '.' | ',' | '-'))
            && char_before(text, start - 1).is_some_and(|c| c.is_ascii_digit()));
    let after = char_at(text, end);
    let glued_after = after.is_some_and(char::is_alphanumeric)
        || (matches!(after, Some('/' | '.' | ',' | '-'))
            && char_at(text, end + 1).is_some_and(|c| c.is_ascii_digit()))
        || matches!(after, Some('%'));
    !glued_before && !glued_after
}

fn numeric(text: &str, spans: &mut Vec<Span>) {
    for found in NUMERIC.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        let mut parts = found.iter().skip(1).flatten().map(|m| m.as_str());
        let (Some(day), Some(month), Some(year)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (Ok(d), Ok(m), Ok(y)) = (
            day.parse::<u32>(),
            month.parse::<u32>(),
            year.parse::<u32>(),
        ) else {
            continue;
        };
        let calendar = (1..=31).contains(&d) && (1..=31).contains(&m) && (d <= 12 || m <= 12);
        let slashes = whole.as_str().contains('/');
        let plausible = if year.len() == 4 {
            (1800..2200).contains(&y) && calendar
        } else {
            // With two digits for the year, `1-1-10` is a posology and `2.1.10` a chapter:
            // only slashes may go with single digits.
            calendar && m <= 12 && (slashes || (day.len() == 2 && month.len() == 2))
        };
        if plausible {
            push(text, spans, whole.start(), whole.end());
        }
    }
}

fn words(text: &str, spans: &mut Vec<Span>) {
    for found in WORDS.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        let mut end = whole.end();
        if let Some(year) = found.get(1).filter(|year| year.len() == 2) {
            // « le 12 mars 21. » has a year, « le 12 mars 21 patients » has not.
            let after = char_at(text, skip(text, year.end()));
            if after.is_some_and(char::is_alphanumeric) {
                end = text[..year.start()].trim_end().len();
            }
        }
        // A month must end where its word ends: « 2 janvier », not « 12 marseillais ».
        if !char_at(text, end).is_some_and(char::is_alphanumeric)
            && !char_before(text, whole.start()).is_some_and(char::is_alphanumeric)
        {
            spans.push(Span {
                start: whole.start(),
                end,
                kind: Kind::Date,
            });
        }
    }
}

fn skip(text: &str, at: usize) -> usize {
    super::scan::skip_blanks(text, at)
}

fn day_month(text: &str, spans: &mut Vec<Span>) {
    const CONTEXT_BYTES: usize = 48;
    // Dates without context that follow a hidden one in a list: « les 12/03, 14/03 et 15/03 ».
    let mut last_end = usize::MAX;
    for found in DAY_MONTH.captures_iter(text) {
        let (Some(whole), Some(day), Some(sep), Some(month)) =
            (found.get(0), found.get(1), found.get(2), found.get(3))
        else {
            continue;
        };
        if !boundaries(text, whole.start(), whole.end()) {
            continue;
        }
        let padded = day.len() == 2 && month.len() == 2;
        let before = line_before(text, whole.start(), CONTEXT_BYTES);
        let after = ahead(text, whole.end());
        let slash = sep.as_str() == "/";
        let listed = last_end <= whole.start()
            && matches!(
                text[last_end..whole.start()].trim(),
                "," | "et" | "et le" | "au" | "puis" | "puis le" | "-" | "–" | "et au" | ", le"
            );
        let date = (slash && EVENT_BEFORE.is_match(before))
            || (BEFORE_DAY.is_match(before)
                && if slash {
                    day.len() == 2 || month.as_str().starts_with('0')
                } else {
                    padded && sep.as_str() == "."
                })
            || (slash && padded && (AFTER_DAY.is_match(after) || opens_line(before, after)))
            || (slash && listed);
        if date && !measure_after(after) {
            last_end = whole.end();
            push(text, spans, whole.start(), whole.end());
        }
    }
}

/// `12/03 : consultation` at the start of a line.
fn opens_line(before: &str, after: &str) -> bool {
    before
        .trim_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '•' | '*' | '('))
        .is_empty()
        && after.trim_start().starts_with([':', '–', '-', ')'])
}

/// A unit or a fraction's noun after the numbers: a measure, not a date.
fn measure_after(after: &str) -> bool {
    let rest = after.trim_start();
    [
        "mm",
        "cm",
        "mg",
        "ml",
        "mL",
        "%",
        "g/",
        "kg",
        "dent",
        "supérieur",
        "inférieur",
        "moyen",
    ]
    .iter()
    .any(|unit| rest.starts_with(unit))
}
