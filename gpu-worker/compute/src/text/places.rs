//! Addresses, towns and names of hospitals.

use std::sync::LazyLock;

use regex::Regex;

use super::lists::{STOPS, TOWN, is_given};
use super::names::eponym_before;
use super::scan::{
    Shape, char_at, fold, isolated, line_before, pattern, skip_blanks, word_at, words,
};
use super::{Kind, Span};

/// Kinds of ways that are hardly anything else after a number.
const WAY: &str = r"(?:rue|avenue|av\.?|ave\.?|boulevard|boul\.?|bd\.?|bld\.?|blvd\.?|impasse|imp\.|allées?|all\.|quai|chemin|chem\.|ch\.|square|sq\.|faubourg|fbg\.?|fg\.|lotissement|lot\.|hameau|lieu-dit|lieu~dit|esplanade|promenade|rond-point|ruelle|venelle|sentier|sente|résidence|résid\.|rés\.|chaussée)";
/// Kinds of ways that are also ordinary words: a capitalised name must follow.
const WAY_LOOSE: &str = r"(?:place|pl\.|route|rte\.?|cours|passage|pass\.|cité|clos|mail|parc|domaine|villa|montée|traverse|voie|côte|levée|porte|pont|rampe|galerie|cour|mas|bastide|immeuble|tour|bâtiment|bât\.)";

static NUMBERED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r"(?i)\b\d{{1,4}}(?:~?(?:bis|ter|quater|[a-d]\b))?(?:~?[-/]~?\d{{1,4}})?~?,?~*(?:({WAY})|({WAY_LOOSE}))(?:~+|\b)"
    ))
});

/// A way without a number, where the words before say that somebody lives there.
static LIVES: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r"(?i)\b(?:demeurant|domiciliée?|habite|habitant|réside|résidant|adresse)~*(?:au|à|:|actuellement)?~*(?:la~)?({WAY}|{WAY_LOOSE})~+"
    ))
});

static ADDRESS_LABEL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\badresse(?:~+(?:du~patient|de~la~patiente|postale|personnelle|actuelle|complète|du~domicile))?~*:~*([^\r\n\t;]{4,140})",
    )
});

/// Post office boxes and the like, between street and postal code or alone.
static BOX: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b(?:BP|CS|TSA|B\.P\.)~*(?:n°~*)?\d{2,6}(?:~\d{2,3})?\b"));

static POSTAL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?:\b[FB]-~?)?\b((?:0[1-9]|[1-8]\d|9[0-8])~?\d{3})~{1,2}(?:-~)?"));

/// Words before a town.
static LIVES_IN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:née?(?:\(e\))?~+à|originaire~+(?:de|d['’])|(?:demeurant|domiciliée?|habite|habitant|réside|résidant|vit|vivant|installée?|exerçant|fait)~+(?:à|sur|près~de|actuellement~à)|(?:habite|ville|commune|lieu~de~naissance|ville~de~naissance|commune~de~naissance)~*(?::|~))~*",
    )
});

/// `Rennes, le 12 mars 2021` at the head of a letter.
static HEAD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?m)(?:^|~{2,}|\t)~*(?:[ÀA]~+)?(\p{Lu}[\p{L}'’-]+(?:~(?:\p{Lu}|sur|en|de|les|lès|sous)[\p{L}'’-]*){0,4})~?,~*(?i:le)~+(?:\d|1er|(?i:lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche))",
    )
});

static HOSPITAL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b(?:CHUs?|CHRU|CHR|CHIC|CHI|CHS|CHSF|CHD|CHM|CHP|CHNO|CHITS|CHICAS|CHPG|CH|GHICL|GHT|GHU|GHI|GH|HIA|EPSM|CLCC|CRLCC|SSR|SMR|USLD|HAD|EHPAD|Ehpad|ESPIC|CMPR|CRF|CSO|CMC|CMP|(?i:h[ôo]pital|h[ôo]pitaux|clinique|polyclinique|nouvelle~clinique|maternité|maison~(?:médicale|de~santé|de~retraite|de~repos|de~convalescence)|foyer~(?:logement)?|groupe(?:ment)?~hospitalier|centres?~(?:médico-chirurgical|médical|de~cardiologie|de~rééducation(?:~fonctionnelle)?|de~soins(?:~de~suite)?|de~réadaptation|d['’]imagerie(?:~médicale)?|d['’]hémodialyse|de~dialyse|anticancéreux|anti-cancéreux|de~lutte~contre~le~cancer|chirurgical|psychothérapique)|centres?~hospitaliers?|institut|hospices~civils|assistance~publique|fondation|sanatorium))\b",
    )
});

/// Words between a kind of hospital and its name.
static HOSPITAL_KIND: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:~+(?i:universitaires?|régional|régionaux|intercommunal|interdépartemental|départemental|général|spécialisé|psychiatrique|pédiatrique|privée?|publique?|militaire|mutualiste|européen|local|civil|gériatrique|chirurgicale|médicale|internationale?|franco-britannique|neurologique|cardiologique|d['’]instruction~des~armées|d['’]enfants|de~proximité|sud|nord|est|ouest|de~rééducation|de~cardiologie|de~cancérologie|du~cancer|hospitalier|et)\b){0,4}",
    )
});

/// Hospitals that are written without a word that says what they are.
static KNOWN_HOSPITAL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"\b(?:AP-?HP|A\.P\.-?H\.P\.?|APHP|AP-?HM|HCL|HEGP|(?:la~)?Piti[ée][- –]+Salp[êe]tri[èe]re|(?:la~)?Salp[êe]tri[èe]re|Lariboisi[èe]re|Kremlin-Bic[êe]tre|Bic[êe]tre|Necker(?:[- ]Enfants[- ][Mm]alades)?|Cochin|Bichat(?:[- ]Claude[- ]Bernard)?|Beaujon|Tenon|Ambroise[- ]Par[ée]|Raymond[- ]Poincar[ée]|Henri[- ]Mondor|Robert[- ]Debr[ée]|Armand[- ]Trousseau|Georges[- ]Pompidou|Gustave[- ]Roussy|Paoli[- ]Calmettes|L[ée]on[- ]B[ée]rard|Edouard[- ]Herriot|Édouard[- ]Herriot|Pontchaillou|Pellegrin|Purpan|Rangueil|La~Timone|Minjoz|Hautepierre|Bretonneau|Lapeyronie|Haut[- ]L[ée]v[êe]que)\b",
    )
});

pub(super) fn addresses(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for found in NUMBERED.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        if isolated(text, whole.start(), whole.end().min(text.len()) - 1)
            || char_at(text, whole.start()).is_some()
        {
            let strong = found.get(1).is_some();
            if let Some(end) = street(text, whole.end(), strong) {
                let end = tail(text, end);
                spans.push(span(whole.start(), end, Kind::Adresse));
            }
        }
    }
    for found in LIVES.captures_iter(text) {
        let (Some(way), Some(whole)) = (found.get(1), found.get(0)) else {
            continue;
        };
        if let Some(end) = street(text, whole.end(), false) {
            spans.push(span(way.start(), tail(text, end), Kind::Adresse));
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
            spans.push(span(value.start(), end, Kind::Adresse));
        }
    }
    for found in BOX.find_iter(text) {
        spans.push(span(found.start(), tail(text, found.end()), Kind::Adresse));
    }
    spans
}

fn span(start: usize, end: usize, kind: Kind) -> Span {
    Span { start, end, kind }
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
    let rest = text.get(at..).unwrap_or("").trim_start_matches([' ', '\u{a0}']);
    rest.is_empty() || rest.starts_with([',', '\n', '\r', '.', ';']) || rest.starts_with(|c: char| c.is_ascii_digit())
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
fn is_street_word(folded: &str) -> bool {
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
        pattern(
            r"^(?:[,~–-]|\r?\n~*){0,3}(?i:(?:appartement|appt|apt|bâtiment|bât|bat|escalier|esc|étage|porte|résidence|rés|hall|immeuble|bp|cs|cidex|entrée)\b\.?~*(?:n°~*)?[\p{L}\d]{1,12}|\d{1,2}(?:er|e|ème|è)~étage)(?:~\d{2,3}\b)?",
        )
    });
    static CODE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"^(?:~*[,–-]?~*|~*,?~*\r?\n~*|~+à~+)\(?(?:F-?~?)?((?:0[1-9]|[1-8]\d|9[0-8])~?\d{3})\b(?:~{1,2}|~?-~?|\r?\n)?",
        )
    });
    static TOWN_ONLY: LazyLock<Regex> = LazyLock::new(|| pattern(r"^~*(?:,~*|à~+|-~+)"));
    let mut at = end;
    for _ in 0..3 {
        let Some(found) = text.get(at..).and_then(|rest| EXTRA.find(rest)) else {
            break;
        };
        at += found.end();
    }
    let Some(rest) = text.get(at..) else {
        return end;
    };
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

/// End of a town's name that begins at `at`: capitalised words, links and « Cedex 12 ».
fn town(text: &str, at: usize) -> Option<usize> {
    const WORDS_MAX: usize = 6;
    static AFTER: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
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
    let more = text.get(end..).and_then(|rest| AFTER.find(rest));
    Some(more.map_or(end, |found| end + found.end()))
}

/// End of a town of the list at `at`, written in one word or with blanks.
fn known_town(text: &str, at: usize) -> Option<usize> {
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

pub(super) fn towns(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for found in POSTAL.captures_iter(text) {
        let (Some(whole), Some(code)) = (found.get(0), found.get(1)) else {
            continue;
        };
        if let Some(end) = town(text, whole.end())
            && !is_measured(text, code.start(), whole.end())
        {
            spans.push(span(whole.start(), end, Kind::Ville));
        }
    }
    for found in LIVES_IN.find_iter(text) {
        if let Some(end) = town(text, found.end()) {
            spans.push(span(found.end(), end, Kind::Ville));
        }
    }
    for head in HEAD.captures_iter(text).filter_map(|c| c.get(1)) {
        spans.push(span(head.start(), head.end(), Kind::Ville));
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

/// Towns of the list after `à`, `de`, `sur`, `vers`.
fn with_preposition(text: &str, spans: &mut Vec<Span>) {
    for word in words(text) {
        let folded = fold(word.text);
        let (at, elided) = match folded.as_str() {
            "a" | "de" | "sur" | "vers" | "depuis" | "pres" | "chez" | "region" | "ville" => {
                (skip_blanks(text, word.end), false)
            }
            // d'Angers is one word.
            _ if folded.starts_with("d'") => (
                word.start
                    + word.text.find(['\'', '\u{2019}']).map_or(0, |i| {
                        i + word.text[i..].chars().next().map_or(1, char::len_utf8)
                    }),
                true,
            ),
            _ => continue,
        };
        if elided {
            let rest = &text[at..word.end];
            let capital = rest.chars().next().is_some_and(char::is_uppercase);
            if capital && TOWN.contains(fold(rest).as_str()) && !eponym_before(text, word.start) {
                spans.push(span(at, word.end, Kind::Ville));
            }
        } else if at > word.end
            && let Some(end) = known_town(text, at)
            && !eponym_before(text, at)
        {
            spans.push(span(at, end, Kind::Ville));
        }
    }
}

pub(super) fn hospitals(text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = KNOWN_HOSPITAL
        .find_iter(text)
        .filter(|found| !eponym_before(text, found.start()))
        .map(|found| span(found.start(), found.end(), Kind::Hopital))
        .collect();
    for found in HOSPITAL.find_iter(text) {
        if found.as_str() == "clinique" && is_adjective(text, found.start()) {
            continue;
        }
        let rest = &text[found.end()..];
        let kind = HOSPITAL_KIND.find(rest).map_or(0, |m| m.end());
        let capital_kind = rest[..kind]
            .trim_start()
            .chars()
            .next()
            .is_some_and(char::is_uppercase);
        let name = place_name(text, found.end() + kind);
        match name {
            Some(end) => spans.push(span(found.start(), end, Kind::Hopital)),
            // « Hôpital Nord », « Clinique Sud »
            None if capital_kind
                && matches!(
                    fold(rest[..kind].trim()).as_str(),
                    "nord" | "sud" | "est" | "ouest" | "europeen"
                ) =>
            {
                spans.push(span(found.start(), found.end() + kind, Kind::Hopital));
            }
            None => {}
        }
    }
    centres(text, &mut spans);
    spans
}

/// « Centre Léon Bérard »: a centre with the name of a person.
fn centres(text: &str, spans: &mut Vec<Span>) {
    for word in words(text) {
        if !matches!(word.text, "Centre" | "CENTRE" | "centre") {
            continue;
        }
        let at = skip_blanks(text, word.end);
        let given =
            word_at(text, at).filter(|w| w.shape() != Shape::Lower && is_given(&fold(w.text)));
        if given.is_some()
            && let Some(end) = place_name(text, word.end)
        {
            spans.push(span(word.start, end, Kind::Hopital));
        }
    }
}

/// « examen clinique Normal »: here `clinique` is an adjective.
fn is_adjective(text: &str, at: usize) -> bool {
    let before = fold(line_before(text, at, 32));
    let last = before.split_whitespace().next_back().unwrap_or("");
    matches!(
        last,
        "examen"
            | "examens"
            | "signe"
            | "tableau"
            | "etat"
            | "essai"
            | "bilan"
            | "evaluation"
            | "plan"
            | "histoire"
            | "evolution"
            | "surveillance"
            | "pharmacie"
            | "forme"
            | "contexte"
            | "presentation"
            | "amelioration"
            | "aggravation"
            | "suspicion"
            | "reponse"
            | "diagnostic"
            | "score"
            | "stade"
            | "enquete"
            | "recherche"
            | "assistant"
            | "chef"
            | "psychologue"
            | "suivi"
            | "et"
            | "ou"
    )
}

/// End of the capitalised name of a place at `at`, with its particles.
fn place_name(text: &str, at: usize) -> Option<usize> {
    const WORDS_MAX: usize = 8;
    let mut next = skip_blanks(text, at);
    if next == at {
        return None;
    }
    if matches!(char_at(text, next), Some('«' | '"' | '“')) {
        next = skip_blanks(text, next + char_at(text, next).map_or(1, char::len_utf8));
    }
    let mut end = None;
    for _ in 0..WORDS_MAX {
        let Some(word) = word_at(text, next) else {
            break;
        };
        let folded = fold(word.text);
        let link = matches!(
            folded.as_str(),
            "de" | "du"
                | "des"
                | "la"
                | "le"
                | "les"
                | "l"
                | "d"
                | "en"
                | "sur"
                | "aux"
                | "et"
                | "saint"
                | "sainte"
                | "st"
                | "ste"
                | "notre-dame"
        );
        let elided_name = word
            .text
            .split_once(['\'', '\u{2019}'])
            .is_some_and(|(head, name)| {
                head.chars().count() == 1 && name.chars().next().is_some_and(char::is_uppercase)
            });
        if word.shape() == Shape::Lower
            && !link
            && !elided_name
            && !(end.is_some() && folded == "malades")
        {
            break;
        }
        let street = matches!(
            folded.as_str(),
            "rue" | "avenue" | "boulevard" | "place" | "bp" | "cs"
        );
        if street || (STOPS.contains(folded.as_str()) && !link && !is_street_word(&folded)) {
            break;
        }
        if !link || matches!(folded.as_str(), "saint" | "sainte" | "notre-dame") {
            end = Some(word.end);
        }
        let blanks = skip_blanks(text, word.end);
        if blanks - word.end > 2 {
            break;
        }
        if blanks == word.end {
            break;
        }
        next = blanks;
    }
    end
}
