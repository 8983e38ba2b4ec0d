//! Plausible replacements, consistent within one document.

use std::collections::{HashMap, HashSet};

use chrono::{Datelike, Days, NaiveDate};
use sha2::{Digest, Sha256};

use super::lists::{GIVEN_NAMES, SURNAMES, TOWNS, is_given};
use super::scan::{Shape, Word, fold, words};
use super::{Kind, Span};

/// Dates move by 1 to this many days, to the past or to the future.
const SHIFT_DAYS_MAX: u64 = 365;

/// Chooses replacements from the hash of the document.
pub(super) struct Faker {
    seed: [u8; 32],
    /// Days that every date moves by.
    shift: i64,
    /// Year of dates that have none.
    year: i32,
    given: Vec<&'static str>,
    surnames: Vec<&'static str>,
    towns: Vec<&'static str>,
    chosen: HashMap<String, String>,
    /// Folded words of the identifying spans, which no replacement may be.
    taken: HashSet<String>,
}

impl Faker {
    pub fn new(text: &str, spans: &[Span]) -> Faker {
        let seed: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        let mut faker = Faker {
            seed,
            shift: 0,
            year: 2020,
            given: GIVEN_NAMES.split_whitespace().collect(),
            surnames: SURNAMES.split_whitespace().collect(),
            towns: TOWNS.split_whitespace().collect(),
            chosen: HashMap::new(),
            taken: HashSet::new(),
        };
        for span in spans {
            for word in words(&text[span.start..span.end]) {
                faker.taken.insert(fold(word.text));
            }
        }
        let days = faker.number("shift", SHIFT_DAYS_MAX) as i64 + 1;
        faker.shift = if faker.number("sign", 2) == 0 {
            days
        } else {
            -days
        };
        let years = spans.iter().filter(|span| span.kind == Kind::Date);
        if let Some(year) = years.filter_map(|s| year_in(&text[s.start..s.end])).next() {
            faker.year = year;
        }
        faker
    }

    /// A number in `0..below` that depends on the document and on `what`.
    fn number(&self, what: &str, below: u64) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(what.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let head = digest
            .iter()
            .take(8)
            .fold(0u64, |n, b| n << 8 | u64::from(*b));
        head % below.max(1)
    }

    /// An entry of the list that the document does not hold itself.
    fn pick(&self, what: &str, list: &[&'static str]) -> &'static str {
        const TRIES_MAX: u32 = 20;
        let mut choice = "martin";
        for attempt in 0..TRIES_MAX {
            let index = self.number(&format!("{attempt} {what}"), list.len() as u64) as usize;
            choice = list.get(index).copied().unwrap_or(choice);
            if !self.taken.contains(choice) {
                break;
            }
        }
        choice
    }

    /// The replacement of one span.
    pub fn replace(&mut self, original: &str, kind: Kind) -> String {
        match kind {
            Kind::Nom => self.name(original),
            Kind::Date => self.date(original),
            Kind::Tel | Kind::Nir => self.digits(original),
            Kind::Mail => {
                let given = self.pick(&format!("mail1 {original}"), &self.given);
                let surname = self.pick(&format!("mail2 {original}"), &self.surnames);
                format!("{given}.{surname}@exemple.fr")
            }
            Kind::Ville => self.town(original),
            Kind::Adresse => {
                let number = self.number(&format!("no {original}"), 98) + 1;
                let street = capitals(self.pick(&format!("street {original}"), &self.surnames));
                let code = self.number(&format!("code {original}"), 90_000) + 5_000;
                let town = capitals(self.pick(&format!("town {original}"), &self.towns));
                format!("{number} rue {street}, {code:05} {town}")
            }
            Kind::Hopital => self.hospital(original),
        }
    }

    /// The kind of hospital stays (`CHU de`), its name becomes that of a saint.
    fn hospital(&self, original: &str) -> String {
        let kind = words(original)
            .take_while(|word| word.shape() == Shape::Lower || is_hospital_kind(&fold(word.text)))
            .filter(|word| is_hospital_kind(&fold(word.text)))
            .last();
        let kind = kind.map_or("", |word| &original[..word.end]);
        let saint = self.pick(&format!("hospital {}", fold(original)), &self.given);
        let name = format!("Saint-{}", capitals(saint));
        if kind.is_empty() {
            name
        } else {
            format!("{kind} {name}")
        }
    }

    /// Word by word, so that `Jean DUPONT` and `M. Dupont` stay the same person.
    fn name(&mut self, original: &str) -> String {
        let mut out = String::new();
        let mut at = 0;
        for word in words(original) {
            out.push_str(&original[at..word.start]);
            at = word.end;
            let folded = fold(word.text);
            let particle = super::lists::PARTICLE.contains(folded.as_str());
            if particle && word.shape() == Shape::Lower {
                out.push_str(word.text);
                continue;
            }
            let fake = match self.chosen.get(&folded) {
                Some(fake) => fake.clone(),
                None => {
                    let list = if is_given(&folded) {
                        &self.given
                    } else {
                        &self.surnames
                    };
                    let fake = self.pick(&format!("name {folded}"), list).to_string();
                    self.chosen.insert(folded, fake.clone());
                    fake
                }
            };
            match word.shape() {
                Shape::Upper => out.push_str(&fake.to_uppercase()),
                Shape::Initial => out.extend(fake.chars().take(1).flat_map(char::to_uppercase)),
                _ => out.push_str(&capitals(&fake)),
            }
        }
        out.push_str(&original[at..]);
        out
    }

    fn town(&mut self, original: &str) -> String {
        let code = original
            .split_whitespace()
            .next()
            .filter(|w| w.bytes().all(|b| b.is_ascii_digit()));
        let name = code.map_or(original, |code| original[code.len()..].trim_start());
        let town = capitals(self.pick(&format!("town {}", fold(name)), &self.towns));
        match code {
            Some(code) => format!(
                "{:05} {town}",
                self.number(&format!("code {code}"), 90_000) + 5_000
            ),
            None => town,
        }
    }

    /// The same separators, other digits; a first digit that tells the kind is kept.
    fn digits(&self, original: &str) -> String {
        let mut seen = 0;
        original
            .chars()
            .map(|c| {
                if !c.is_ascii_digit() {
                    return c;
                }
                seen += 1;
                if seen <= 2 {
                    return c;
                }
                let digit = self.number(&format!("digit {seen} {original}"), 10);
                char::from_digit(digit as u32, 10).unwrap_or('0')
            })
            .collect()
    }

    /// The date, moved, in the form in which it was written where that form is known.
    fn date(&self, original: &str) -> String {
        moved(original, self.shift, self.year).unwrap_or_else(|| "<DATE>".to_string())
    }
}

/// `jean-pierre` → `Jean-Pierre`, `aix-en-provence` → `Aix-en-Provence`.
fn capitals(name: &str) -> String {
    let parts = name.split('-').enumerate().map(|(i, part)| {
        let small = i > 0
            && matches!(
                part,
                "en" | "sur" | "sous" | "les" | "la" | "le" | "de" | "du"
            );
        let mut letters = part.chars();
        match letters.next().filter(|_| !small) {
            Some(first) => first.to_uppercase().chain(letters).collect(),
            None => part.to_string(),
        }
    });
    parts.collect::<Vec<String>>().join("-")
}

fn is_hospital_kind(folded: &str) -> bool {
    matches!(
        folded,
        "chu"
            | "chru"
            | "chr"
            | "ch"
            | "chi"
            | "centre"
            | "hospitalier"
            | "universitaire"
            | "regional"
            | "intercommunal"
            | "hopital"
            | "hopitaux"
            | "clinique"
            | "polyclinique"
            | "maternite"
            | "institut"
            | "ehpad"
            | "fondation"
            | "groupe"
            | "prive"
            | "medical"
            | "maison"
            | "retraite"
            | "foyer"
    )
}

fn year_in(date: &str) -> Option<i32> {
    date.split(|c: char| !c.is_ascii_digit())
        .filter(|part| part.len() == 4)
        .filter_map(|part| part.parse().ok())
        .find(|year| (1800..2200).contains(year))
}

const MONTHS: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];

fn month_of(folded: &str) -> Option<u32> {
    let stem = folded.trim_end_matches('.');
    if stem.len() < 3 {
        return None;
    }
    (1..)
        .zip(MONTHS)
        .find(|(_, month)| fold(month).starts_with(stem))
        .map(|(number, _)| number)
}

/// Moves a written date. `None` where the form is not one of those below.
fn moved(original: &str, shift: i64, year: i32) -> Option<String> {
    let month = words(original).find_map(|word| Some((word, month_of(&fold(word.text))?)));
    match month {
        Some((word, month)) => moved_words(original, &word, month, shift, year),
        None => moved_numbers(original, shift, year),
    }
}

/// `12 mars 2021`, `1er avril`, `du 12 au 15 mars 2021`, `mars 2021`.
fn moved_words(
    original: &str,
    word: &Word<'_>,
    month: u32,
    shift: i64,
    year: i32,
) -> Option<String> {
    let numbers = number_runs(original);
    let mut days: Vec<u32> = numbers.iter().map(|run| run.value).collect();
    let year_last = numbers.last().is_some_and(|run| run.start > word.start);
    let written_year = if year_last { days.pop() } else { None };
    if days.is_empty() && original.starts_with(['p', 'P']) {
        days.push(1);
    }
    let full = match written_year {
        None => year,
        Some(short) if short < 100 => 2000 + short as i32,
        Some(long) => i32::try_from(long).ok()?,
    };
    let name = |date: NaiveDate| {
        let name = MONTHS
            .get(date.month0() as usize)
            .copied()
            .unwrap_or("mars");
        if word.shape() == Shape::Upper {
            name.to_uppercase()
        } else {
            name.to_string()
        }
    };
    if days.is_empty() {
        let date = apply(full, month, 15, shift)?;
        return Some(format!("{} {}", name(date), date.year()));
    }
    // « du 12 au 15 mars 2021 » may come to lie in two months.
    let joint = if original.contains(" et ") {
        " et "
    } else {
        " au "
    };
    let mut parts = Vec::new();
    let mut last = None;
    for day in days {
        let date = apply(full, month, day, shift)?;
        parts.push(format!("{} {}", date.day(), name(date)));
        last = Some(date);
    }
    let suffix = written_year
        .and(last)
        .map_or(String::new(), |date| format!(" {}", date.year()));
    Some(format!("{}{suffix}", parts.join(joint)))
}

/// `12/03/2021`, `12.03.21`, `2021-03-12`, `03/2021`, `12/03`.
fn moved_numbers(original: &str, shift: i64, year: i32) -> Option<String> {
    /// Years of two digits above this one are of the twentieth century.
    const SHORT_YEAR_MAX: i32 = 30;
    let separator = original.chars().find(|c| !c.is_ascii_digit())?;
    let number = |run: &Run| i32::try_from(run.value).ok();
    match number_runs(original).as_slice() {
        [y, m, d] if y.width == 4 => {
            let date = apply(number(y)?, m.value, d.value, shift)?;
            let (y, m, d) = (date.year(), date.month(), date.day());
            Some(format!("{y:04}{separator}{m:02}{separator}{d:02}"))
        }
        [d, m, y] => {
            let full = match number(y)? {
                short if y.width == 2 && short > SHORT_YEAR_MAX => 1900 + short,
                short if y.width == 2 => 2000 + short,
                full => full,
            };
            let date = apply(full, m.value, d.value, shift)?;
            let (day, month) = (date.day(), date.month());
            let shown = if y.width == 2 {
                format!("{:02}", date.year() % 100)
            } else {
                date.year().to_string()
            };
            Some(format!("{day:02}{separator}{month:02}{separator}{shown}"))
        }
        [m, y] if y.width == 4 => {
            let date = apply(number(y)?, m.value, 15, shift)?;
            Some(format!("{:02}{separator}{}", date.month(), date.year()))
        }
        [d, m] => {
            let date = apply(year, m.value, d.value, shift)?;
            Some(format!("{:02}{separator}{:02}", date.day(), date.month()))
        }
        _ => None,
    }
}

/// Digits side by side.
struct Run {
    start: usize,
    width: usize,
    value: u32,
}

fn number_runs(text: &str) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some(skip) = text[at..].find(|c: char| c.is_ascii_digit()) {
        let start = at + skip;
        let width = text[start..].bytes().take_while(u8::is_ascii_digit).count();
        // Longer numbers are no part of a date.
        let value = text[start..start + width].parse().unwrap_or(u32::MAX);
        runs.push(Run {
            start,
            width,
            value,
        });
        at = start + width;
    }
    runs
}

fn apply(year: i32, month: u32, day: u32, shift: i64) -> Option<NaiveDate> {
    let date = NaiveDate::from_ymd_opt(year, month, day)?;
    if shift >= 0 {
        date.checked_add_days(Days::new(shift.unsigned_abs()))
    } else {
        date.checked_sub_days(Days::new(shift.unsigned_abs()))
    }
}
