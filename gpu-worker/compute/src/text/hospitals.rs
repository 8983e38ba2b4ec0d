//! Names of hospitals, clinics and care homes.

use std::sync::LazyLock;

use regex::Regex;

use super::addresses::is_street_word;
use super::lists::{STOPS, is_given};
use super::names::eponym_before;
use super::scan::{
    Pattern, Shape, ahead, char_at, fold, isolated, line_before, short, skip_blanks, word_at, words,
};
use super::{Kind, Span};

static HOSPITAL: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?:CHUs?|CHRU|CHR|CHIC|CHI|CHS|CHSF|CHD|CHM|CHP|CHNO|CHITS|CHICAS|CHPG|CH|GHICL|GHT|GHU|GHI|GH|HIA|EPSM|CLCC|CRLCC|SSR|SMR|USLD|HAD|EHPAD|Ehpad|ESPIC|CMPR|CRF|CSO|CMC|CMP|(?i:h[ôo]pital|h[ôo]pitaux|clinique|polyclinique|nouvelle~clinique|maternité|maison~(?:médicale|de~santé|de~retraite|de~repos|de~convalescence)|foyer~(?:logement)?|groupe(?:ment)?~hospitalier|centres?~(?:médico-chirurgical|médical|de~cardiologie|de~rééducation(?:~fonctionnelle)?|de~soins(?:~de~suite)?|de~réadaptation|d['’]imagerie(?:~médicale)?|d['’]hémodialyse|de~dialyse|anticancéreux|anti-cancéreux|de~lutte~contre~le~cancer|chirurgical|psychothérapique)|centres?~hospitaliers?|institut|hospices~civils|assistance~publique|fondation|sanatorium))",
    )
});

/// Words between a kind of hospital and its name.
static HOSPITAL_KIND: LazyLock<Regex> = LazyLock::new(|| {
    short(
        r"^(?:~+(?i:universitaires?|régional|régionaux|intercommunal|interdépartemental|départemental|général|spécialisé|psychiatrique|pédiatrique|privée?|publique?|militaire|mutualiste|européen|local|civil|gériatrique|chirurgicale|médicale|internationale?|franco-britannique|neurologique|cardiologique|d['’]instruction~des~armées|d['’]enfants|de~proximité|sud|nord|est|ouest|de~rééducation|de~cardiologie|de~cancérologie|du~cancer|hospitalier|et)\b){0,4}",
    )
});

/// Hospitals that are written without a word that says what they are.
static KNOWN_HOSPITAL: LazyLock<Pattern> = LazyLock::new(|| {
    Pattern::new(
        r"(?:AP-?HP|A\.P\.-?H\.P\.?|APHP|AP-?HM|HCL|HEGP|(?:la~)?Piti[ée][- –]+Salp[êe]tri[èe]re|(?:la~)?Salp[êe]tri[èe]re|Lariboisi[èe]re|Kremlin-Bic[êe]tre|Bic[êe]tre|Necker(?:[- ]Enfants[- ][Mm]alades)?|Cochin|Bichat(?:[- ]Claude[- ]Bernard)?|Beaujon|Tenon|Ambroise[- ]Par[ée]|Raymond[- ]Poincar[ée]|Henri[- ]Mondor|Robert[- ]Debr[ée]|Armand[- ]Trousseau|Georges[- ]Pompidou|Gustave[- ]Roussy|Paoli[- ]Calmettes|L[ée]on[- ]B[ée]rard|Edouard[- ]Herriot|Édouard[- ]Herriot|Pontchaillou|Pellegrin|Purpan|Rangueil|La~Timone|Minjoz|Hautepierre|Bretonneau|Lapeyronie|Haut[- ]L[ée]v[êe]que)",
    )
});

pub(super) fn hospitals(text: &str) -> Vec<Span> {
    let mut spans: Vec<Span> = KNOWN_HOSPITAL
        .find_iter(text)
        .filter(|found| isolated(text, found.start(), found.end()))
        .filter(|found| !eponym_before(text, found.start()))
        .map(|found| Span::new(found.start(), found.end(), Kind::Hopital))
        .collect();
    for found in HOSPITAL.find_iter(text) {
        let adjective = found.as_str() == "clinique" && is_adjective(text, found.start());
        if adjective || !isolated(text, found.start(), found.end()) {
            continue;
        }
        let rest = ahead(text, found.end());
        let kind = HOSPITAL_KIND.find(rest).map_or(0, |m| m.end());
        let capital_kind = rest[..kind]
            .trim_start()
            .chars()
            .next()
            .is_some_and(char::is_uppercase);
        let name = place_name(text, found.end() + kind);
        match name {
            Some(end) => spans.push(Span::new(found.start(), end, Kind::Hopital)),
            // « Hôpital Nord », « Clinique Sud »
            None if capital_kind
                && matches!(
                    fold(rest[..kind].trim()).as_str(),
                    "nord" | "sud" | "est" | "ouest" | "europeen" | "civil"
                ) =>
            {
                spans.push(Span::new(found.start(), found.end() + kind, Kind::Hopital));
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
            spans.push(Span::new(word.start, end, Kind::Hopital));
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
        let continues = link || elided_name || (end.is_some() && folded == "malades");
        if word.shape() == Shape::Lower && !continues {
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
