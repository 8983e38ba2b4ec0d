//! Hospital stays of a person, readmissions included.
//!
//! After each stay that ends at home the generator decides, with the reason's own probability,
//! whether the person comes back within 30 days; no other stay begins in those 30 days. So the
//! 30-day readmission rate follows from the generator: it is the mean of the probabilities, less
//! the returns that death or the end of the data prevents.

use crate::calendar::{Day, data_end, data_start};
use crate::codes::{self as c, Diagnosis};
use crate::dice::{Dice, Purpose};
use crate::diseases::PROFILES;
use crate::people::Person;
use crate::places::{DEPARTMENTS, hospitals};
use crate::reasons::{BIRTH, DELIVERY, REASONS, Reason, Severity, rates_at};

/// A stay within this many days after a discharge is a readmission.
pub const READMISSION_DAYS: Day = 30;
/// Returns in a row at most.
const RETURNS_MAX: usize = 4;
/// Days between two draws of the chance of a stay.
const STEP_DAYS: Day = 28;
/// Share of deaths that happen in hospital.
const DEATHS_IN_HOSPITAL: f64 = 0.5;

#[derive(Clone)]
pub struct Stay {
    /// Rank of the person in the generation.
    pub person: u64,
    /// Identifier as stored, set once all stays are known.
    pub rsa_num: i64,
    /// Rank of the hospital.
    pub hospital: u32,
    pub reason: &'static Reason,
    pub entry: Day,
    pub exit: Day,
    pub entry_mode: char,
    pub exit_mode: char,
    pub emergency: bool,
    pub related: Option<&'static Diagnosis>,
    pub associated: Vec<&'static Diagnosis>,
    /// Last character of the GHM.
    pub level: char,
    /// Probability with which the generator decided on a return within 30 days.
    pub return_probability: f64,
}

impl Stay {
    pub fn ghm(&self) -> String {
        format!("{}{}", self.reason.ghm, self.level)
    }
}

/// Number of hospitals in the country.
pub fn hospital_count() -> usize {
    DEPARTMENTS.iter().map(hospitals).sum()
}

/// The stays of a person, by date, none overlapping another.
pub fn of_person(seed: u64, person: &Person) -> Vec<Stay> {
    let mut maker = Maker {
        dice: Dice::new(seed, Purpose::Stays, person.index),
        person,
        stays: Vec::new(),
        last: person.observed().1,
    };
    if person.birth >= data_start() {
        maker.admit(&BIRTH, person.birth, 0);
    }
    let (mut from, last) = (person.observed().0, maker.last);
    while from <= last {
        let to = (from + STEP_DAYS - 1).min(last);
        maker.step(from, to);
        from = to + 1;
    }
    maker.die_in_hospital();
    maker.stays
}

struct Maker<'a> {
    dice: Dice,
    person: &'a Person,
    stays: Vec<Stay>,
    /// Last day of the person in the data.
    last: Day,
}

impl Maker<'_> {
    /// Stays that begin between two days, at most one of them drawn by rate.
    fn step(&mut self, from: Day, to: Day) {
        let years = f64::from(to - from + 1) / crate::calendar::YEAR_DAYS;
        let rates = rates_at(self.person, from);
        let total: f64 = rates.iter().sum();
        if !self.dice.chance(1.0 - (-total * years).exp()) {
            return;
        }
        let chosen = self.dice.weighted(rates.iter().copied());
        let entry = self.dice.range(from, to);
        let Some(reason) = REASONS.get(chosen) else {
            return;
        };
        let free = self
            .stays
            .last()
            .is_none_or(|stay| entry > stay.exit + READMISSION_DAYS);
        // A second delivery needs its nine months.
        let too_soon = std::ptr::eq(*reason, &DELIVERY)
            && self
                .stays
                .iter()
                .any(|stay| std::ptr::eq(stay.reason, &DELIVERY) && entry - stay.exit < 330);
        if free && !too_soon {
            self.admit(reason, entry, 0);
        }
    }

    /// Adds a stay and, when the dice say so, the readmission that follows it.
    fn admit(&mut self, reason: &'static Reason, entry: Day, returns: usize) {
        let mut stay = self.stay(reason, entry);
        if self.person.death == Some(stay.exit) {
            stay.exit_mode = '9';
        }
        let alive = stay.exit_mode != '9';
        if !alive || returns >= RETURNS_MAX {
            stay.return_probability = 0.0;
        }
        let comes_back = self.dice.chance(stay.return_probability);
        // Returns are likelier soon after the discharge.
        let delay = 1 + (29.99 * self.dice.unit().powf(1.4)) as Day;
        let again = stay.exit + delay;
        let same = self.dice.chance(0.6);
        self.stays.push(stay);
        if comes_back && again <= self.last {
            let next = match reason.returns_for {
                Some(other) if !same || std::ptr::eq(reason, &BIRTH) => other,
                Some(_) | None => reason,
            };
            let next = if std::ptr::eq(next, &DELIVERY) {
                reason
            } else {
                next
            };
            self.admit(next, again, returns + 1);
        }
    }

    fn stay(&mut self, reason: &'static Reason, entry: Day) -> Stay {
        let dice = &mut self.dice;
        let person = self.person;
        let nights = if reason.days == 0.0 {
            0
        } else {
            // Gamma-like with a long tail: the sum of two exponentials, more with age.
            let scale = if person.age(entry) >= 80 { 1.25 } else { 0.95 };
            let half = reason.days * scale / 2.0;
            (dice.exponential(half) + dice.exponential(half)).round() as Day
        };
        let exit = (entry + nights.min(120)).min(self.last);
        let mut associated: Vec<&'static Diagnosis> = person
            .conditions_at(entry)
            .filter_map(|(disease, _)| PROFILES.get(disease as usize))
            .map(|profile| profile.diagnosis)
            .filter(|diagnosis| !std::ptr::eq(*diagnosis, reason.diagnosis))
            .filter(|_| dice.chance(0.7))
            .collect();
        associated.extend(complications(dice, person, reason, nights, entry));
        let emergency = dice.chance(reason.emergency);
        let home = home_department(person, dice);
        Stay {
            person: person.index,
            rsa_num: 0,
            hospital: hospital(home, dice),
            reason,
            entry,
            exit,
            entry_mode: if dice.chance(0.04) { '7' } else { '8' },
            exit_mode: if dice.chance(if nights > 9 { 0.2 } else { 0.03 }) {
                '6'
            } else {
                '8'
            },
            emergency,
            related: reason.related.then(|| cancer_of(person, entry)).flatten(),
            level: level(reason, exit - entry, associated.len()),
            associated,
            return_probability: reason.readmission,
        }
    }

    /// Half of those who die do so in hospital: their last stay ends on that day.
    fn die_in_hospital(&mut self) {
        let Some(death) = self.person.death.filter(|death| *death <= data_end()) else {
            return;
        };
        let in_hospital = self.dice.chance(DEATHS_IN_HOSPITAL);
        let nights = self.dice.exponential(9.0) as Day;
        let after = self.stays.last().map_or(self.person.observed().0, |stay| {
            stay.exit + READMISSION_DAYS + 1
        });
        let entry = (death - nights).max(after);
        if !in_hospital || entry > death {
            return;
        }
        let mut rates = rates_at(self.person, entry);
        for (rate, reason) in rates.iter_mut().zip(REASONS) {
            if reason.emergency < 0.5 || reason.days < 4.0 {
                *rate = 0.0;
            }
        }
        let Some(reason) = REASONS.get(self.dice.weighted(rates.into_iter())) else {
            return;
        };
        let mut stay = self.stay(reason, entry);
        stay.exit = death;
        stay.exit_mode = '9';
        stay.return_probability = 0.0;
        stay.level = level(reason, death - entry, stay.associated.len() + 2);
        self.stays.push(stay);
    }
}

/// Diagnoses that come with a stay: infections, anaemia, what the old and the long stays add.
fn complications(
    dice: &mut Dice,
    person: &Person,
    reason: &Reason,
    nights: Day,
    entry: Day,
) -> Vec<&'static Diagnosis> {
    let old = person.age(entry) >= 75;
    let candidates: [(&'static Diagnosis, f64); 9] = [
        (&c::D649, if old { 0.2 } else { 0.05 }),
        (&c::E440, if old && nights > 5 { 0.25 } else { 0.02 }),
        (&c::E669, 0.07),
        (&c::E785, if person.age(entry) >= 50 { 0.15 } else { 0.01 }),
        (&c::E876, if nights > 4 { 0.12 } else { 0.01 }),
        (&c::J960, if reason.winter { 0.3 } else { 0.02 }),
        (&c::N390, if nights > 6 { 0.15 } else { 0.02 }),
        (
            &c::Z501,
            if reason.ghm.starts_with("08C") {
                0.5
            } else {
                0.03
            },
        ),
        (
            &c::Z370,
            if std::ptr::eq(reason, &DELIVERY) {
                1.0
            } else {
                0.0
            },
        ),
    ];
    let quiet = reason.days == 0.0 || std::ptr::eq(reason, &BIRTH);
    candidates
        .into_iter()
        .filter(|(_, chance)| dice.chance(if quiet { chance * 0.1 } else { *chance }))
        .map(|(diagnosis, _)| diagnosis)
        .collect()
}

/// The cancer that a treatment is for: the latest found.
fn cancer_of(person: &Person, at: Day) -> Option<&'static Diagnosis> {
    person
        .conditions_at(at)
        .filter_map(|(disease, onset)| Some((PROFILES.get(disease as usize)?, onset)))
        .filter(|(profile, _)| profile.diagnosis.code.starts_with('C'))
        .max_by_key(|(_, onset)| *onset)
        .map(|(profile, _)| profile.diagnosis)
}

/// Severity by length and associated diagnoses, as the GHM's levels go.
fn level(reason: &Reason, nights: Day, associated: usize) -> char {
    match reason.severity {
        Severity::Fixed(letter) => letter,
        Severity::Levels if nights == 0 => {
            if reason.ghm.get(2..3) == Some("C") {
                'J'
            } else {
                'T'
            }
        }
        Severity::Levels => match (associated, nights) {
            (..=1, _) | (_, ..=2) => '1',
            (2..=3, _) | (_, 3) => '2',
            (4..=5, _) | (_, 4) => '3',
            _ => '4',
        },
    }
}

/// Nine stays in ten are in the department of residence.
fn home_department(person: &Person, dice: &mut Dice) -> usize {
    let away = dice.weighted(DEPARTMENTS.iter().map(|d| f64::from(d.population)));
    if dice.chance(0.9) {
        usize::from(person.department)
    } else {
        away
    }
}

/// Rank of a hospital of the department; the first is the largest.
fn hospital(department: usize, dice: &mut Dice) -> u32 {
    let before: usize = DEPARTMENTS.iter().take(department).map(hospitals).sum();
    let count = DEPARTMENTS.get(department).map_or(1, hospitals);
    let largest = dice.chance(0.5);
    let other = dice.below(count);
    (before + if largest { 0 } else { other }) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_follow_one_another_and_returns_follow_their_probability() {
        let (mut stays, mut expected, mut returned, mut variance) = (0, 0.0, 0.0, 0.0);
        for index in 0..30_000 {
            let person = Person::new(11, index, index as i64);
            let (from, to) = person.observed();
            let mine = of_person(11, &person);
            for stay in &mine {
                assert!(from <= stay.entry && stay.entry <= stay.exit && stay.exit <= to);
                assert!((stay.exit_mode == '9') == (person.death == Some(stay.exit)));
            }
            for pair in mine.windows(2) {
                assert!(pair[0].exit < pair[1].entry);
            }
            for (rank, stay) in mine.iter().enumerate() {
                stays += 1;
                // Where nothing prevents a return, it happens with the stated probability.
                if stay.exit + READMISSION_DAYS <= to {
                    let p = stay.return_probability;
                    expected += p;
                    variance += p * (1.0 - p);
                    let back = mine
                        .get(rank + 1)
                        .is_some_and(|next| next.entry - stay.exit <= READMISSION_DAYS);
                    returned += f64::from(u8::from(back));
                }
            }
        }
        let per_year = f64::from(stays) / (30_000.0 * 6.0);
        assert!(
            (0.14..0.22).contains(&per_year),
            "stays a person-year: {per_year}"
        );
        let z = (returned - expected) / f64::sqrt(variance);
        assert!(
            z.abs() < 4.0,
            "{returned} returns, {expected} expected, z = {z}"
        );
    }
}
