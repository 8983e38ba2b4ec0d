//! Postal addresses.

use std::sync::LazyLock;

use regex::Regex;

use super::lists::STOPS;
use super::scan::{Pattern, Shape, ahead, char_at, fold, short, skip_blanks, word_at};
use super::towns::{known_town, town};
use super::{Kind, Span};

/// Kinds of ways that are hardly anything else after a number.
const WAY: &str = r"(?:rue|avenue|av\.?|ave\.?|boulevard|boul\.?|bd\.?|bld\.?|blvd\.?|impasse|imp\.|allées?|all\.|quai|chemin|chem\.|ch\.|square|sq\.|faubourg|fbg\.?|fg\.|lotissement|lot\.|hameau|lieu-dit|lieu~dit|esplanade|promenade|rond-point|ruelle|venelle|sentier|sente|résidence|résid\.|rés\.|chaussée)";

/// Kinds of ways that are also ordinary words: a capitalised name must follow.
const WAY_LOOSE: &str = r"(?:place|pl\.|route|rte\.?|cours|passage|pass\.|cité|clos|mail|parc|domaine|villa|montée|traverse|voie|côte|levée|porte|pont|rampe|galerie|cour|mas|bastide|immeuble|tour|bâtiment|bât\.)";

static NUMBERED: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(&format!(
        r"(?i)\d{{1,4}}(?:~?(?:bis|ter|quater|[a-d]\b))?(?:~?[-/]~?\d{{1,4}})?~?,?~*(?:({WAY})|({WAY_LOOSE}))(?:~+|\b)"
    ))
});

/// A way without a number, where the words before say that somebody lives there.
static LIVES: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(&format!(
        r"(?i)(?:demeurant|domiciliée?|habite|habitant|réside|résidant|adresse)~*(?:au|à|:|actuellement)?~*(?:la~)?({WAY}|{WAY_LOOSE})~+"
    ))
});

static ADDRESS_LABEL: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?i)adresse(?:~+(?:du~patient|de~la~patiente|postale|personnelle|actuelle|complète|du~domicile))?~*:~*([^\r\n\t;]{4,140})",
    )
});

/// Post office boxes and the like, between street and postal code or alone.
static BOX: LazyLock<Pattern> =
    LazyLock::new(|| Pattern::new(r"(?:BP|CS|TSA|B\.P\.)~*(?:n°~*)?\d{2,6}(?:~\d{2,3})?\b"));

pub(super) fn addresses(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for found in NUMBERED.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        {
            let strong = found.get(1).is_some();
            if let Some(end) = street(text, whole.end(), strong) {
                let end = tail(text, end);
                spans.push(Span::new(whole.start(), end, Kind::Adresse));
            }
        }
    }
    for found in LIVES.captures_iter(text) {
        let (Some(way), Some(whole)) = (found.get(1), found.get(0)) else {
            continue;
        };
        if let Some(end) = street(text, whole.end(), false) {
            spans.push(Span::new(way.start(), tail(text, end), Kind::Adresse));
        }
    }
    for value in ADDRESS_LABEL.captures_iter(text).filter_map(|c| c.get(1)) {
        let line = value.as_str();
        // The value ends where another label or a column begins.
        let end = [" - T", " Tél", " tél", "   ", " Fax"]
            .iter()
            .filter_map(|stop| line.find(stop))
            .min()
            .unwrap_or(line.len());
        let line = line[..end].trim_end_matches(['.', ' ', ',']);
        if line.chars().any(|c| c.is_ascii_digit()) && line.chars().any(char::is_alphabetic) {
            let end = tail(text, value.start() + line.len());
            spans.push(Span::new(value.start(), end, Kind::Adresse));
        }
    }
    for found in BOX.find_iter(text) {
        spans.push(Span::new(
            found.start(),
            tail(text, found.end()),
            Kind::Adresse,
        ));
    }
    spans
}

/// End of a street's name that begins at `at`. `strong`: the way cannot be anything else,
/// so that a name in lower case counts too.
fn street(text: &str, at: usize, strong: bool) -> Option<usize> {
    const WORDS_MAX: usize = 8;
    let mut next = skip_blanks(text, at);
    let mut end = None;
    let mut named = false;
    for _ in 0..WORDS_MAX {
        if let Some(number) = street_number(text, next) {
            // « rue du 8 mai 1945 », « rue du 11 Novembre »
            end = Some(number);
            named = true;
            next = skip_blanks(text, number);
            continue;
        }
        let Some(word) = word_at(text, next) else {
            break;
        };
        let folded = fold(word.text);
        let particle = is_link(&folded);
        let stops = STOPS.contains(folded.as_str()) && !particle && !is_street_word(&folded);
        let month = named && is_month(&folded);
        if word.shape() == Shape::Lower && !particle && !month {
            // « 12 rue victor hugo »: a second word in lower case belongs to the street only
            // where the address ends after it.
            if !strong || (named && !ends_address(text, word.end)) {
                break;
            }
            end = Some(word.end);
            named = true;
        } else if !particle {
            if stops && named {
                break;
            }
            end = Some(word.end);
            named = true;
        }
        next = skip_blanks(text, word.end);
        if next == word.end && !elided(word.text) {
            break;
        }
    }
    end
}

fn ends_address(text: &str, at: usize) -> bool {
    let rest = text
        .get(at..)
        .unwrap_or("")
        .trim_start_matches([' ', '\u{a0}']);
    rest.is_empty()
        || rest.starts_with([',', '\n', '\r', '.', ';'])
        || rest.starts_with(|c: char| c.is_ascii_digit())
}

fn elided(word: &str) -> bool {
    word.ends_with(['\'', '\u{2019}'])
}

fn is_month(folded: &str) -> bool {
    matches!(
        folded,
        "janvier"
            | "fevrier"
            | "mars"
            | "avril"
            | "mai"
            | "juin"
            | "juillet"
            | "aout"
            | "septembre"
            | "octobre"
            | "novembre"
            | "decembre"
    )
}

/// Words of street names that stop other names.
pub(super) fn is_street_word(folded: &str) -> bool {
    is_month(folded)
        || matches!(
            folded,
            "docteur"
                | "dr"
                | "professeur"
                | "pr"
                | "general"
                | "hopital"
                | "premier"
                | "saint"
                | "tour"
                | "maison"
                | "enfant"
                | "clinique"
                | "centre"
                | "commune"
        )
}

fn is_link(folded: &str) -> bool {
    matches!(
        folded,
        "de" | "du"
            | "des"
            | "d"
            | "la"
            | "le"
            | "les"
            | "l"
            | "et"
            | "en"
            | "sur"
            | "sous"
            | "aux"
            | "au"
            | "a"
            | "lès"
            | "saint"
    )
}

/// End of a short number inside a street's name, at `at`; a postal code is none.
fn street_number(text: &str, at: usize) -> Option<usize> {
    let digits = text
        .get(at..)?
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count();
    let end = at + digits;
    let letters = char_at(text, end).is_some_and(char::is_alphabetic);
    ((1..=2).contains(&digits) || digits == 4)
        .then_some(end)
        .filter(|_| {
            !letters
                && text.get(end..).is_some_and(|rest| {
                    rest.starts_with([' ', ',', '\n', '\r', '.', ';']) || rest.is_empty()
                })
        })
}

/// Extends an address by what may follow the street: building, box, postal code and town.
fn tail(text: &str, end: usize) -> usize {
    static EXTRA: LazyLock<Regex> = LazyLock::new(|| {
        short(
            r"^(?:[,~–-]|\r?\n~*){0,3}(?i:(?:appartement|appt|apt|bâtiment|bât|bat|escalier|esc|étage|porte|résidence|rés|hall|immeuble|bp|cs|cidex|entrée)\b\.?~*(?:n°~*)?[\p{L}\d]{1,12}|\d{1,2}(?:er|e|ème|è)~étage)(?:~\d{2,3}\b)?",
        )
    });
    static CODE: LazyLock<Regex> = LazyLock::new(|| {
        short(
            r"^(?:~*[,–-]?~*|~*,?~*\r?\n~*|~+à~+)\(?(?:F-?~?)?((?:0[1-9]|[1-8]\d|9[0-8])~?\d{3})\b(?:~{1,2}|~?-~?|\r?\n)?",
        )
    });
    static TOWN_ONLY: LazyLock<Regex> = LazyLock::new(|| short(r"^~*(?:,~*|à~+|-~+)"));
    let mut at = end;
    for _ in 0..3 {
        let Some(found) = EXTRA.find(ahead(text, at)) else {
            break;
        };
        at += found.end();
    }
    let rest = ahead(text, at);
    if let Some(found) = CODE.find(rest) {
        let code_end = at + found.as_str().trim_end().trim_end_matches('-').len();
        return town(text, at + found.end()).unwrap_or(code_end);
    }
    // « 12 rue des Lilas, Rennes » or « … à Rennes » when the town is known.
    if let Some(found) = TOWN_ONLY.find(rest)
        && let Some(town_end) = known_town(text, at + found.end())
    {
        return if found.as_str().trim() == "à" {
            at
        } else {
            town_end
        };
    }
    at
}
