//! Names of persons: after titles and labels, in signatures, and from the frequent names.
//!
//! A name found once is then searched in the whole document. Names of diseases, scores and
//! devices (`maladie de Crohn`, `score de Glasgow`) stay.

use std::sync::LazyLock;

use regex::Regex;

use super::lists::{COMMONS, EPONYM, EPONYM_HEAD, PARTICLE, STOPS, TOWN, is_given, is_surname};
use super::scan::{
    Pattern, Shape, Word, ahead, char_at, fold, line_before, short, skip_blanks, word_at, words,
};
use super::{Kind, Span};

/// Words of one name, particles not counted.
const NAME_WORDS_MAX: usize = 5;

/// Titles: what follows is a name, if it is written like one.
static TITLE: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?:MM|Mmes|MMES|Mme|MME|mme|Mlles|Mlle|MLLE|Melle|MELLE|Mr|MR|mr|Drs|DRS|Dr|DR|dr|Prs|Pr|PR|Prof|PROF|Dre|Pre|(?i:monsieur|messieurs|madame|mesdames|mademoiselle|mesdemoiselles|docteure?s?|professeure?s?|maître))\b\.?|M\.|M\b",
    )
});

/// Labels whose value is a name however it is written.
static NAME_LABEL: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?i)(?:(?:noms?|prénoms?|prenoms?|patronyme|identité)(?:~*(?:et|/|,|-|&)~*(?:noms?|prénoms?|prenoms?))?(?:~+(?:de~naissance|d['’]usage|de~famille|de~jeune~fille|d['’]épouse|de~l['’]époux|usuel|marital|patronymique|complet|du~patient|de~la~patiente|de~l['’]enfant|du~médecin|patient|de~la~mère|du~père|utilisé))?)(?:~*\([^()\r\n]{0,24}\))?~*[:=]~*",
    )
});

/// Labels whose value is a name when it is written like one.
static PERSON_LABEL: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?i)(?:patiente?|assurée?|enfant|bébé|(?:médecin|praticien|chirurgien|interne|externe|radiologue|cardiologue|anesthésiste|pathologiste|correspondant|opérateur|opératrice|prescripteur|destinataire|rédacteur|auteur|signataire|responsable|référent|titulaire|remplaçant|infirmière?|ide|sage-femme|kinésithérapeute|pharmacien|secrétaire|aide~opératoire|instrumentiste|manipulateur|conjointe?|époux|épouse|mari|père|mère|fils|fille|frère|sœur|tuteur|tutrice|curateur|personne)(?:s|\(s\)|\(e\)|ne)?(?:~+(?:traitante?|référente?|responsable|prescripteur|demandeur|adresseur|correspondant|hospitalier|senior|junior|de~confiance|à~prévenir|à~contacter|du~service|de~garde|en~charge|principal|signataire|déclaré|généraliste)){0,2}|signature|signé|validation|validé|dictée?|copies?(?:~à)?|c\.?c\.?|contact|à~l['’]attention~de)(?:~*\([^()\r\n]{0,24}\))?~*:~*",
    )
});

/// Words just before a name that is written like one, without a colon.
static PERSON_BEFORE: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?i)(?:(?:signé|validé|rédigé|dicté|relu|réalisé|effectué|opéré|adressé|suivi|vu|revu|examiné|prescrit|interprété|accompagné|pris~en~charge|hospitalisé|confié|saisi|tapé|contresigné)e?s?(?:~électroniquement)?~par|patiente?|enfant|bébé|nourrisson|sieur|dénommée?|nommée?|(?:son|sa|ses|leur|le|la)~(?:mari|femme|époux|épouse|fils|fille|frère|sœur|soeur|père|mère|conjointe?|compagne|compagnon|neveu|nièce|oncle|tante)|cher|chère|bonjour|à~l['’]attention~de)~+(?:le~|la~)?",
    )
});

/// Words before frequent names, where nothing else would show a name.
static KNOWN_BEFORE: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?i)(?:avec|mariée?~à|accompagnée?~(?:de|par)|prénommée?|prévenir|présence~de)~+",
    )
});

/// A name of birth or marriage.
static BORN: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?:(?i:née|nee|né|épouse|veuve|ép\.|vve|né\(e\)|nom~de~jeune~fille|dite?|alias))~*:?~+",
    )
});

/// A name of birth in brackets within a name.
static BIRTH_NAME: LazyLock<Regex> =
    LazyLock::new(|| short(r"^~*\((?i:née?|épouse|ép\.|veuve|vve)~+[^()\r\n]{1,40}\)~*"));

/// Last words of a document that may be a signature.
const SIGNATURE_LINES_MAX: usize = 8;

/// The names that the context shows. `taken` are spans of other kinds, ascending.
pub(super) fn names(text: &str, taken: &[Span]) -> Vec<Span> {
    let mut spans = Vec::new();
    titled(text, &mut spans);
    labelled(text, &mut spans);
    for found in BORN.find_iter(text) {
        if let Some(name) = phrase(text, found.end(), Caps::Any) {
            let first = word_at(text, name.start);
            if first.is_some_and(|word| word.shape() != Shape::Initial && !is_particle(word.text)) {
                spans.push(name);
            }
        }
    }
    listed(text, &mut spans);
    signatures(text, &mut spans);
    // What lies within an address or a hospital is no name to search elsewhere.
    spans.retain(|span| {
        let after = taken.partition_point(|other| other.start <= span.start);
        let around = after.checked_sub(1).and_then(|i| taken.get(i));
        around.is_none_or(|other| other.end < span.end)
    });
    spans
}

/// Which words a name may consist of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caps {
    /// Capitalised words only.
    Any,
    /// Capitals or not: the value of a label `Nom :`.
    Free,
}

fn titled(text: &str, spans: &mut Vec<Span>) {
    for found in TITLE.find_iter(text) {
        let title = found.as_str();
        if title == "M" && tnm(text, found.start()) {
            continue;
        }
        let Some(start) = name_start(text, found.end(), title) else {
            continue;
        };
        let Some(first) = phrase(text, start, Caps::Any).or_else(|| lower_name(text, start)) else {
            continue;
        };
        if title == "PR" && is_interval_word(text, first) {
            continue;
        }
        let mut end = first.end;
        spans.push(first);
        // « Mme BOUCHER (née PETIT) Rose »
        if let Some(bracket) = BIRTH_NAME.find(ahead(text, end))
            && let Some(given) = phrase(text, end + bracket.end(), Caps::Any)
            && looks_like_name(text, given)
        {
            spans.push(given);
        }
        // « Drs Dupont, Martin et Durand », « Mme Dupont et Martin » after a plural title.
        if is_plural(title) {
            while let Some(next) = next_in_list(text, end) {
                end = next.end;
                spans.push(next);
            }
        }
    }
}

fn is_plural(title: &str) -> bool {
    let folded = fold(title.trim_end_matches('.'));
    matches!(folded.as_str(), "mm") || folded.len() > 2 && folded.ends_with('s')
}

fn next_in_list(text: &str, at: usize) -> Option<Span> {
    static AND: LazyLock<Regex> = LazyLock::new(|| short(r"^(?:~*,~*|~*/~*|~+et~+|~*&~*)"));
    let joint = AND.find(ahead(text, at))?;
    phrase(text, at + joint.end(), Caps::Any)
}

/// « T2 N0 M » is a stage.
fn tnm(text: &str, at: usize) -> bool {
    let before = line_before(text, at, 8).trim_end();
    before.ends_with(|c: char| c.is_ascii_digit() || c == 'x' || c == 'X' || c == '+')
}

fn is_interval_word(text: &str, name: Span) -> bool {
    let folded = fold(&text[name.start..name.end]);
    [
        "normal", "court", "long", "allonge", "constant", "fixe", "variable", "sous",
    ]
    .iter()
    .any(|word| folded.starts_with(word))
}

/// Where the name after a title begins: further titles, « le » and « la » are skipped, and
/// one line break after an abbreviated title, where letters wrap.
fn name_start(text: &str, at: usize, title: &str) -> Option<usize> {
    static BETWEEN: LazyLock<Regex> = LazyLock::new(|| {
        short(
            r"^~*(?:(?:le|la)~+)?(?:(?:Mme|MME|Mlle|Dr|DR|Pr|PR|Prof|(?i:docteure?s?|professeure?s?|monsieur|madame))\b\.?~*(?:(?:le|la)~+)?){0,2}(?:\(e\)~*)?",
        )
    });
    let skip = BETWEEN.find(ahead(text, at)).map_or(0, |m| m.end());
    let mut start = at + skip;
    // A title is not a name's beginning without something in between: `Dr.Martin` or a blank.
    if skip == 0 && !title.ends_with('.') {
        let broken = text
            .get(start..)?
            .trim_start_matches('\r')
            .strip_prefix('\n');
        let wrapped = broken?.trim_start_matches([' ', '\t']);
        start = text.len() - wrapped.len();
        let word = word_at(text, start)?;
        let folded = fold(word.text);
        let plain = word.shape() == Shape::Capital && (is_given(&folded) || is_surname(&folded));
        if title.len() > 4 || !(plain || word.shape() == Shape::Upper) {
            return None;
        }
    }
    Some(start)
}

/// `dr martin`: without capitals only frequent surnames count, and compound names.
fn lower_name(text: &str, at: usize) -> Option<Span> {
    let word = word_at(text, at)?;
    let folded = fold(word.text);
    let known = is_surname(&folded) && !COMMONS.contains(folded.as_str());
    (word.shape() == Shape::Lower && known).then_some(Span {
        start: word.start,
        end: word.end,
        kind: Kind::Nom,
    })
}

fn labelled(text: &str, spans: &mut Vec<Span>) {
    for found in NAME_LABEL.find_iter(text) {
        // « Nom : Dr Martin » is found by its title.
        if let Some(name) = phrase(text, found.end(), Caps::Free) {
            let mut end = name.end;
            spans.push(name);
            // « Nom : DUPONT, Jean » goes on after the comma.
            let rest = &text[end..];
            if let Some(after) = rest.strip_prefix(',') {
                let at = skip_blanks(text, text.len() - after.len());
                if let Some(more) = phrase(text, at, Caps::Any) {
                    end = more.end;
                    spans.push(more);
                }
            }
            debug_assert!(end <= text.len());
        }
    }
    for (before, evidence) in [
        (&*PERSON_LABEL, looks_like_name as fn(&str, Span) -> bool),
        (&*PERSON_BEFORE, looks_like_name),
        (&*KNOWN_BEFORE, holds_known),
    ] {
        for found in before.find_iter(text) {
            // Among capitals, capitals show nothing: « VU PAR CARDIOLOGUE ».
            let shouted = !found
                .as_str()
                .contains(|c: char| c.is_lowercase() || c == ':');
            if let Some(name) = phrase(text, found.end(), Caps::Any)
                && if shouted {
                    holds_known(text, name)
                } else {
                    evidence(text, name)
                }
            {
                spans.push(name);
            }
        }
    }
}

/// True when one word is a frequent name.
fn holds_known(text: &str, name: Span) -> bool {
    words(&text[name.start..name.end]).any(|word| {
        let folded = fold(word.text);
        is_given(&folded) || is_surname(&folded)
    })
}

/// Two capitalised words, capitals that are no usual abbreviation, or a frequent name.
fn looks_like_name(text: &str, name: Span) -> bool {
    let mut count = 0;
    let mut known = false;
    let mut upper = 0;
    for word in words(&text[name.start..name.end]) {
        let folded = fold(word.text);
        if PARTICLE.contains(folded.as_str()) {
            continue;
        }
        count += 1;
        known |= is_given(&folded) || is_surname(&folded);
        upper += usize::from(word.shape() == Shape::Upper && word.letters() >= 4);
    }
    known || upper > 0 || count >= 2
}

/// Names that need no context but themselves: a frequent given name beside a surname.
fn listed(text: &str, spans: &mut Vec<Span>) {
    let mut previous: Option<(Word<'_>, String)> = None;
    let mut last_end = 0;
    let mut covered = 0;
    for word in words(text) {
        let adjacent = neighbours(text, last_end, word.start);
        last_end = word.end;
        if word.shape() == Shape::Lower {
            // « Marie-Claire de Villiers »: a particle does not part a name.
            previous = previous.filter(|_| adjacent && is_particle(word.text));
            continue;
        }
        let folded = fold(word.text);
        if let Some((first, first_folded)) = previous.take()
            && first.start >= covered
            && adjacent
            && pair(&first, &first_folded, &word, &folded)
            && !eponym_before(text, first.start)
            && let Some(name) = phrase(text, first.start, Caps::Any)
            && name.end >= word.end
        {
            covered = name.end;
            spans.push(name);
        }
        previous = (!STOPS.contains(folded.as_str())).then_some((word, folded));
    }
}

/// True when only blanks stand between two words.
pub(super) fn neighbours(text: &str, end: usize, start: usize) -> bool {
    text.get(end..start).is_some_and(|gap| {
        !gap.is_empty()
            && gap
                .chars()
                .all(|c| c.is_whitespace() && c != '\n' && c != '\r')
    })
}

/// Given name and surname in either order.
fn pair(first: &Word<'_>, first_folded: &str, second: &Word<'_>, second_folded: &str) -> bool {
    let stop =
        |folded: &str| STOPS.contains(folded) || EPONYM.contains(folded) && !is_surname(folded);
    if stop(first_folded) || stop(second_folded) {
        return false;
    }
    let given_first = is_given(first_folded);
    let given_second = is_given(second_folded);
    let upper_name = |word: &Word<'_>| word.shape() == Shape::Upper && word.letters() >= 2;
    let ambiguous = |folded: &str| COMMONS.contains(folded);
    if given_first && (upper_name(second) || is_surname(second_folded) || given_second) {
        return true;
    }
    if given_first && !ambiguous(first_folded) && second.letters() >= 3 {
        return true;
    }
    if given_second && (upper_name(first) && first.letters() >= 3 || is_surname(first_folded)) {
        return !ambiguous(second_folded) || upper_name(first);
    }
    false
}

/// Lines near the end that hold nothing but a name.
fn signatures(text: &str, spans: &mut Vec<Span>) {
    let mut end = text.len();
    let mut seen = 0;
    while seen < SIGNATURE_LINES_MAX && end > 0 {
        let start = text[..end].rfind('\n').map_or(0, |i| i + 1);
        let line = text[start..end].trim();
        if !line.is_empty() {
            seen += 1;
            signature(text, start, end, spans);
        }
        end = start.saturating_sub(1);
    }
}

fn signature(text: &str, start: usize, end: usize, spans: &mut Vec<Span>) {
    const SIGNATURE_BYTES_MAX: usize = 60;
    if end - start > SIGNATURE_BYTES_MAX {
        return;
    }
    let at = skip_blanks(text, start);
    let Some(name) = phrase(text, at, Caps::Any) else {
        return;
    };
    let rest = text[name.end..end].trim();
    let (mut count, mut upper, mut known) = (0, 0, 0);
    for word in words(&text[name.start..name.end]) {
        let folded = fold(word.text);
        count += 1;
        upper += usize::from(word.shape() == Shape::Upper);
        known += usize::from(is_given(&folded) || is_surname(&folded));
    }
    let mixed = upper >= 1 && upper < count;
    if rest.is_empty() && (2..=4).contains(&count) && (mixed || known > 0) {
        spans.push(name);
    }
}

/// Reads a name from `at`: capitalised words, initials and particles on one line.
fn phrase(text: &str, at: usize, caps: Caps) -> Option<Span> {
    let mut next = skip_blanks(text, at);
    let mut span: Option<Span> = None;
    let mut count = 0;
    let mut particles = 0;
    while count < NAME_WORDS_MAX {
        let Some(word) = word_at(text, next) else {
            break;
        };
        let folded = fold(word.text);
        let shape = word.shape();
        let after = skip_blanks(text, word.end);
        if PARTICLE.contains(folded.as_str()) && particles < 3 && continues(text, word.end, after) {
            // A particle counts only if a name follows; `de Lyon` after a name is a town.
            particles += 1;
            if !(shape == Shape::Lower && span.is_some() && town_at(text, after)) {
                next = after;
                continue;
            }
            break;
        }
        if !accepts(text, &word, &folded, shape, caps, count) {
            break;
        }
        particles = 0;
        count += 1;
        let mut end = word.end;
        if shape == Shape::Initial && char_at(text, end) == Some('.') {
            end += 1;
        }
        let start = span.map_or(at_start(text, at), |s| s.start);
        span = Some(Span {
            start,
            end,
            kind: Kind::Nom,
        });
        // J.-P. Martin
        if char_at(text, end) == Some('-') && shape == Shape::Initial {
            next = end + 1;
            continue;
        }
        let blanks = skip_blanks(text, end);
        if (blanks == end && shape != Shape::Initial) || wide_gap(text, end, blanks) {
            break;
        }
        next = blanks;
    }
    // A lone initial is a name only after a title, where nothing else could be meant.
    span
}

fn at_start(text: &str, at: usize) -> usize {
    skip_blanks(text, at)
}

/// Two blanks or a tabulation separate columns of a letterhead.
fn wide_gap(text: &str, from: usize, to: usize) -> bool {
    text[from..to].contains('\t') || text[from..to].chars().count() > 2
}

fn continues(text: &str, end: usize, after: usize) -> bool {
    after > end
        && word_at(text, after)
            .is_some_and(|word| word.shape() != Shape::Lower || is_particle(word.text))
}

pub(super) fn is_particle(word: &str) -> bool {
    const PARTICLE_BYTES_MAX: usize = 6;
    word.len() <= PARTICLE_BYTES_MAX && PARTICLE.contains(fold(word).as_str())
}

fn town_at(text: &str, at: usize) -> bool {
    word_at(text, at).is_some_and(|word| TOWN.contains(fold(word.text).as_str()))
}

/// Whether one more word may belong to the name.
fn accepts(
    text: &str,
    word: &Word<'_>,
    folded: &str,
    shape: Shape,
    caps: Caps,
    count: usize,
) -> bool {
    if shape == Shape::Initial {
        return char_at(text, word.end) == Some('.') || (count > 0 && !STOPS.contains(folded));
    }
    // A label begins here (`Prénom : …`), or an ordinary word.
    let label = text[word.end..]
        .trim_start_matches([' ', '\u{a0}'])
        .starts_with(':');
    if label || STOPS.contains(folded) {
        return false;
    }
    match shape {
        Shape::Lower => {
            caps == Caps::Free && count < 2 && word.letters() >= 2 && !is_ordinary(folded)
        }
        _ => true,
    }
}

/// Lower-case words that a `Nom :` label may hold although they are no name.
fn is_ordinary(folded: &str) -> bool {
    matches!(
        folded,
        "non"
            | "pas"
            | "voir"
            | "cf"
            | "et"
            | "ou"
            | "sans"
            | "renseigne"
            | "renseignee"
            | "communique"
            | "prenom"
            | "nom"
            | "inconnu"
            | "precise"
    )
}

/// True when the words before `at` make a disease, score, place of the body or device of
/// what follows: `maladie de`, `score de`, `signe de`, `syndrome`.
pub(super) fn eponym_before(text: &str, at: usize) -> bool {
    const CONTEXT_BYTES: usize = 64;
    let before = fold(line_before(text, at, CONTEXT_BYTES));
    let mut parts = before
        .trim_end_matches(['-', '\''])
        .rsplit(|c: char| c.is_whitespace() || c == '\'')
        .filter(|part| !part.is_empty());
    let Some(mut last) = parts.next() else {
        return false;
    };
    // « score de Nancy », « maladie de Charcot et Marie », « classification dite de »
    let mut hops = 0;
    while matches!(
        last,
        "de" | "d" | "du" | "des" | "la" | "l" | "selon" | "dit" | "dite"
    ) && hops < 3
    {
        hops += 1;
        match parts.next() {
            Some(part) => last = part,
            None => return false,
        }
    }
    EPONYM_HEAD.contains(last.trim_matches(|c: char| !c.is_alphanumeric()))
}
