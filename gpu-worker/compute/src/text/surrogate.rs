//! Plausible replacements, consistent within one document.

use std::collections::{HashMap, HashSet};

use chrono::{Datelike, Days, NaiveDate};
use sha2::{Digest, Sha256};

use super::lists::{GIVEN_NAMES, SURNAMES, TOWNS, is_given};
use super::scan::{Shape, fold, words};
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
            Kind::Hopital => {
                let town = self.pick(&format!("hospital {}", fold(original)), &self.towns);
                format!("Centre hospitalier de {}", capitals(town))
            }
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

/// `jean-pierre` → `Jean-Pierre`.
fn capitals(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut first = true;
    for c in name.chars() {
        if first {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        first = c == '-' || c == '\'';
    }
    out
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
    let numbers: Vec<(usize, usize)> = number_runs(original);
    let value = |i: usize| -> Option<u32> {
        let (start, end) = *numbers.get(i)?;
        original[start..end].parse().ok()
    };
    let width = |i: usize| numbers.get(i).map_or(0, |(start, end)| end - start);
    let month_word = words(original).find_map(|word| Some((word, month_of(&fold(word.text))?)));
    if let Some((word, month)) = month_word {
        let premier = original.starts_with(['p', 'P']);
        let (day, written_year) = match (numbers.len(), premier) {
            (0, true) => (Some(1), None),
            (1, true) => (Some(1), value(0)),
            (1, false) if width(0) == 4 => (None, value(0)),
            (1, false) => (value(0), None),
            (2, false) => (value(0), value(1)),
            _ => return None,
        };
        let full = written_year.map_or(year, |y| if y < 100 { 2000 + y as i32 } else { y as i32 });
        let date = apply(full, month, day.unwrap_or(15), shift)?;
        let name = MONTHS.get(date.month0() as usize)?;
        let name = if word.shape() == Shape::Upper {
            name.to_uppercase()
        } else {
            (*name).to_string()
        };
        return Some(match (day, written_year) {
            (Some(_), Some(_)) => format!("{} {name} {}", date.day(), date.year()),
            (Some(_), None) => format!("{} {name}", date.day()),
            _ => format!("{name} {}", date.year()),
        });
    }
    let separator = original.chars().find(|c| !c.is_ascii_digit())?;
    match (numbers.len(), width(0)) {
        (3, 4) => {
            let date = apply(value(0)? as i32, value(1)?, value(2)?, shift)?;
            Some(format!(
                "{:04}{separator}{:02}{separator}{:02}",
                date.year(),
                date.month(),
                date.day()
            ))
        }
        (3, _) => {
            let short = width(2) == 2;
            let written = value(2)? as i32;
            let full = match (short, written) {
                (true, y) if y > 30 => 1900 + y,
                (true, y) => 2000 + y,
                (false, y) => y,
            };
            let date = apply(full, value(1)?, value(0)?, shift)?;
            let shown = if short {
                format!("{:02}", date.year() % 100)
            } else {
                date.year().to_string()
            };
            Some(format!(
                "{:02}{separator}{:02}{separator}{shown}",
                date.day(),
                date.month()
            ))
        }
        (2, _) if width(1) == 4 => {
            let date = apply(value(1)? as i32, value(0)?, 15, shift)?;
            Some(format!("{:02}{separator}{}", date.month(), date.year()))
        }
        (2, _) => {
            let date = apply(year, value(1)?, value(0)?, shift)?;
            Some(format!("{:02}{separator}{:02}", date.day(), date.month()))
        }
        _ => None,
    }
}

fn number_runs(text: &str) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    let mut start = None;
    for (i, b) in text.bytes().enumerate() {
        match (b.is_ascii_digit(), start) {
            (true, None) => start = Some(i),
            (false, Some(from)) => {
                runs.push((from, i));
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start {
        runs.push((from, text.len()));
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
