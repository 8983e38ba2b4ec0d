//! Towns: after postal codes, after prepositions, at the head of letters.

use std::sync::LazyLock;

use regex::Regex;

use super::lists::{STOPS, TOWN};
use super::names::eponym_before;
use super::scan::{Pattern, Shape, ahead, fold, line_before, short, skip_blanks, word_at, words};
use super::{Kind, Span};

static POSTAL: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(r"(?:[FB]-~?)?\b((?:0[1-9]|[1-8]\d|9[0-8])~?\d{3})~{1,2}(?:-~)?")
});

/// Words before a town.
static LIVES_IN: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?i)(?:née?(?:\(e\))?~+à|originaire~+(?:de|d['’])|(?:demeurant|domiciliée?|habite|habitant|réside|résidant|vit|vivant|installée?|exerçant|fait)~+(?:à|sur|près~de|actuellement~à)|(?:habite|ville|commune|lieu~de~naissance|ville~de~naissance|commune~de~naissance)~*(?::|~))~*",
    )
});

/// `Rennes, le 12 mars 2021` at the head of a letter.
static HEAD: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?m)(?:^|~{2,}|\t)~*(?:[ÀA]~+)?(\p{Lu}[\p{L}'’-]+(?:~(?:\p{Lu}|sur|en|de|les|lès|sous)[\p{L}'’-]*){0,4})~?,~*(?i:le)~+(?:\d|1er|(?i:lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche))",
    )
});

pub(super) fn towns(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for found in POSTAL.captures_iter(text) {
        let (Some(whole), Some(code)) = (found.get(0), found.get(1)) else {
            continue;
        };
        if let Some(end) = town(text, whole.end())
            && !is_measured(text, code.start(), whole.end())
        {
            spans.push(Span::new(whole.start(), end, Kind::Ville));
        }
    }
    for found in LIVES_IN.find_iter(text) {
        if let Some(end) = town(text, found.end()) {
            spans.push(Span::new(found.end(), end, Kind::Ville));
        }
    }
    for head in HEAD.captures_iter(text).filter_map(|c| c.get(1)) {
        spans.push(Span::new(head.start(), head.end(), Kind::Ville));
    }
    with_preposition(text, &mut spans);
    spans
}

/// A count before the name of what is counted (`12000 Plaquettes`) is no postal code.
fn is_measured(text: &str, code: usize, at: usize) -> bool {
    let Some(word) = word_at(text, at) else {
        return true;
    };
    let folded = fold(word.text);
    if TOWN.contains(folded.as_str()) {
        return false;
    }
    let unit = matches!(
        folded.as_str(),
        "ui" | "u"
            | "gb"
            | "gr"
            | "leucocytes"
            | "plaquettes"
            | "hematies"
            | "globules"
            | "polynucleaires"
            | "lymphocytes"
            | "cellules"
            | "unites"
            | "copies"
            | "euros"
            | "da"
            | "hz"
            | "kcal"
            | "pnn"
            | "pn"
            | "hb"
            | "crp"
            | "elements"
            | "lcr"
            | "germes"
            | "ng"
            | "pg"
            | "ml"
            | "mm"
            | "g"
            | "l"
    );
    let before = fold(line_before(text, code, 24));
    unit || [
        "plaquettes",
        "leucocytes",
        "gb",
        "hematies",
        "bnp",
        "globules",
        "d-dimeres",
        "pnn",
    ]
    .iter()
    .any(|name| {
        before
            .trim_end_matches([' ', ':', '=', '\u{a0}', 'a'])
            .ends_with(name)
    })
}

fn is_preposition(word: &str) -> bool {
    matches!(
        word,
        "à" | "À"
            | "a"
            | "A"
            | "de"
            | "De"
            | "DE"
            | "sur"
            | "vers"
            | "depuis"
            | "près"
            | "chez"
            | "région"
            | "ville"
    )
}

/// Towns of the list after `à`, `de`, `sur`, `vers`.
fn with_preposition(text: &str, spans: &mut Vec<Span>) {
    for word in words(text) {
        let mut letters = word.text.chars();
        let (at, elided) = match (letters.next(), letters.next(), letters.next()) {
            // d'Angers is one word.
            (Some('d' | 'D'), Some(mark @ ('\'' | '\u{2019}')), Some(_)) => {
                (word.start + 1 + mark.len_utf8(), true)
            }
            _ if is_preposition(word.text) => (skip_blanks(text, word.end), false),
            _ => continue,
        };
        if elided {
            let rest = &text[at..word.end];
            let capital = rest.chars().next().is_some_and(char::is_uppercase);
            if capital && TOWN.contains(fold(rest).as_str()) && !eponym_before(text, word.start) {
                spans.push(Span::new(at, word.end, Kind::Ville));
            }
        } else if at > word.end
            && let Some(end) = known_town(text, at)
            && !eponym_before(text, at)
        {
            spans.push(Span::new(at, end, Kind::Ville));
        }
    }
}

/// End of a town's name that begins at `at`: capitalised words, links and « Cedex 12 ».
pub(super) fn town(text: &str, at: usize) -> Option<usize> {
    const WORDS_MAX: usize = 6;
    static AFTER: LazyLock<Regex> = LazyLock::new(|| {
        short(
            r"^~*(?:(?i:cedex)(?:~*\d{1,2})?|\d{1,2}(?:e|er|è|ème)?\b(?:~+(?i:cedex)(?:~*\d{1,2})?)?)",
        )
    });
    let mut next = skip_blanks(text, at);
    let mut end = None;
    for i in 0..WORDS_MAX {
        let Some(word) = word_at(text, next) else {
            break;
        };
        let folded = fold(word.text);
        if folded == "cedex" {
            break;
        }
        let link = matches!(
            folded.as_str(),
            "de" | "du"
                | "des"
                | "d"
                | "la"
                | "le"
                | "les"
                | "l"
                | "en"
                | "sur"
                | "sous"
                | "lès"
                | "les-"
                | "aux"
                | "et"
                | "a"
                | "saint"
                | "st"
                | "ste"
                | "sainte"
        );
        if word.shape() == Shape::Lower
            && !(link && end.is_some())
            && !TOWN.contains(folded.as_str())
        {
            break;
        }
        if !link && STOPS.contains(folded.as_str()) {
            break;
        }
        if word.shape() != Shape::Lower && !(link && i == 0) || TOWN.contains(folded.as_str()) {
            end = Some(word.end);
        }
        let blanks = skip_blanks(text, word.end);
        if blanks == word.end || blanks - word.end > 2 {
            break;
        }
        next = blanks;
    }
    let end = end?;
    let more = AFTER.find(ahead(text, end));
    Some(more.map_or(end, |found| end + found.end()))
}

/// End of a town of the list at `at`, written in one word or with blanks.
pub(super) fn known_town(text: &str, at: usize) -> Option<usize> {
    const WORDS_MAX: usize = 5;
    let first = word_at(text, at).filter(|word| word.shape() != Shape::Lower)?;
    let mut name = fold(first.text);
    let mut best = TOWN.contains(name.as_str()).then_some(first.end);
    let mut end = first.end;
    for _ in 1..WORDS_MAX {
        let next = skip_blanks(text, end);
        let Some(word) = word_at(text, next).filter(|_| next > end) else {
            break;
        };
        name.push('-');
        name.push_str(&fold(word.text));
        end = word.end;
        if TOWN.contains(name.as_str()) {
            best = Some(end);
        }
    }
    best
}
