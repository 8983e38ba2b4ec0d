//! Care outside hospital, as reimbursed: consultations, drugs, acts, biology, nursing.

use crate::calendar::{self, Day, YEAR_DAYS, respiratory_season};
use crate::codes::{self as c, Act, Drug, Nature};
use crate::dice::{Dice, Purpose};
use crate::diseases::{Disease, Followup, PROFILES, Profile};
use crate::people::{Person, Sex};
use crate::stays::Stay;

/// What a line of reimbursement is for, beyond its nature.
#[derive(Clone, Copy)]
pub enum Detail {
    None,
    Drug(&'static Drug),
    Act(&'static Act),
}

/// One line of reimbursement.
#[derive(Clone, Copy)]
pub struct Claim {
    pub day: Day,
    pub person: i64,
    /// Rank of the person's department, whose fund pays.
    pub department: u8,
    pub nature: &'static Nature,
    pub detail: Detail,
    pub quantity: i32,
    /// Amount paid and basis of reimbursement, euro cents.
    pub paid: i64,
    pub basis: i64,
    /// Share reimbursed, percent.
    pub rate: i32,
    /// Specialty of the prescriber, 0 when there is none, and of the professional who did it.
    pub prescriber: i32,
    pub executor: i32,
    /// Rank of the statement of care, and of the line within it.
    pub statement: u32,
    pub line: i32,
}

/// A drug given for a short illness, and how often when there is a prescription.
const ACUTE: [(&Drug, f64); 7] = [
    (&c::PARACETAMOL, 0.75),
    (&c::AMOXICILLINE, 0.22),
    (&c::IBUPROFENE, 0.22),
    (&c::PREDNISOLONE, 0.12),
    (&c::DESLORATADINE, 0.15),
    (&c::AMOXI_CLAV, 0.10),
    (&c::OMEPRAZOLE, 0.12),
];

/// The reimbursed care of a person, in the order in which it was made (not by date).
///
/// Statements of care are numbered from `statement` on; returns the next free number.
pub fn of_person(
    seed: u64,
    person: &Person,
    stays: &[Stay],
    claims: &mut Vec<Claim>,
    statement: u32,
) -> u32 {
    let mut maker = Maker {
        dice: Dice::new(seed, Purpose::Care, person.index),
        person,
        stays,
        claims,
        statement,
        span: person.observed(),
    };
    let (from, to) = maker.span;
    for year in calendar::year(from)..=calendar::year(to) {
        maker.year(
            calendar::day(year, 1, 1).max(from),
            calendar::day(year, 12, 31).min(to),
        );
    }
    for (disease, onset) in &person.conditions {
        if let Some(profile) = PROFILES.get(*disease as usize) {
            maker.condition(profile, *onset);
        }
    }
    for stay in stays {
        maker.after_discharge(stay);
    }
    maker.statement
}

struct Maker<'a> {
    dice: Dice,
    person: &'a Person,
    stays: &'a [Stay],
    claims: &'a mut Vec<Claim>,
    statement: u32,
    span: (Day, Day),
}

/// Who prescribes, by specialty code: the general practitioner.
const BY_GENERALIST: i32 = 1;

impl Maker<'_> {
    /// What everyone uses, by age, within one calendar year.
    fn year(&mut self, from: Day, to: Day) {
        let person = self.person;
        let age = person.age(from);
        let share = f64::from(to - from + 1) / YEAR_DAYS;
        let woman = person.sex == Sex::Woman;
        let visits = match age {
            ..2 => 7.0,
            2..6 => 4.5,
            6..16 => 2.2,
            16..45 => {
                if woman {
                    3.1
                } else {
                    2.0
                }
            }
            45..65 => 3.2,
            65..80 => 3.6,
            _ => 5.0,
        };
        for _ in 0..self.dice.poisson(visits * share) {
            let day = self.seasonal_day(from, to);
            self.visit(day, age);
        }
        let specialists: [(f64, i32, &'static Nature); 4] = [
            (if age > 40 { 0.45 } else { 0.25 }, 15, &c::SPECIALIST),
            (
                if woman && (16..60).contains(&age) {
                    0.7
                } else {
                    0.0
                },
                7,
                &c::SPECIALIST,
            ),
            (0.25, 5, &c::SPECIALIST),
            (
                if woman && (20..40).contains(&age) {
                    0.5
                } else {
                    0.0
                },
                21,
                &c::MIDWIFE,
            ),
        ];
        for (rate, specialty, nature) in specialists {
            for _ in 0..self.dice.poisson(rate * share) {
                let day = self.dice.range(from, to);
                self.service(day, nature, Some(specialty), 0);
            }
        }
        self.screening(from, to, age, share);
        if age >= 65 && self.dice.chance(0.55) {
            let october = calendar::day(calendar::year(from), 10, 15);
            let day = october + self.dice.range(0, 50);
            self.dispense(day, BY_GENERALIST, &[(&c::VACCIN_GRIPPE, 1)]);
        }
        if woman && (16..42).contains(&age) && self.dice.chance(0.33) {
            for quarter in 0..4 {
                let day = from + 91 * quarter + self.dice.range(0, 20);
                self.dispense(day.min(to), BY_GENERALIST, &[(&c::ETHINYLESTRADIOL, 1)]);
            }
        }
    }

    /// Dental care, mammography, physiotherapy and nursing episodes.
    fn screening(&mut self, from: Day, to: Day, age: i32, share: f64) {
        let acts: [(f64, &'static Act); 4] = [
            (if age >= 5 { 0.8 } else { 0.0 }, &c::HBJD001),
            (
                if self.person.sex == Sex::Woman && (50..75).contains(&age) {
                    0.3
                } else {
                    0.0
                },
                &c::QEQK001,
            ),
            (if age >= 45 { 0.25 } else { 0.1 }, &c::BLQP010),
            (if age >= 60 { 0.12 } else { 0.01 }, &c::DEQP003),
        ];
        for (rate, act) in acts {
            for _ in 0..self.dice.poisson(rate * share) {
                let day = self.dice.range(from, to);
                self.act(day, act, None, 0);
            }
        }
        let episodes: [(f64, i32, i32, &'static Nature); 2] = [
            (
                if age >= 15 { 0.10 } else { 0.01 },
                9,
                3,
                &c::PHYSIOTHERAPIST,
            ),
            (if age >= 75 { 0.6 } else { 0.08 }, 7, 2, &c::NURSE),
        ];
        for (rate, sessions, apart, nature) in episodes {
            for _ in 0..self.dice.poisson(rate * share) {
                let start = self.dice.range(from, to);
                for session in 0..self.dice.range(sessions / 2, sessions * 3 / 2) {
                    self.service(start + session * apart, nature, None, BY_GENERALIST);
                }
            }
        }
    }

    /// A visit to the general practitioner, with what it leads to.
    fn visit(&mut self, day: Day, age: i32) {
        let remote = day >= calendar::day(2020, 3, 15) && self.dice.chance(0.05);
        let home = age >= 82 && self.dice.chance(0.35);
        let nature = match (remote, home) {
            (true, _) => &c::REMOTE,
            (_, true) => &c::HOME_VISIT,
            _ => &c::GENERALIST,
        };
        if !self.service(day, nature, None, 0) {
            return;
        }
        if self.dice.chance(0.62) {
            let mut drugs: Vec<(&'static Drug, i32)> = Vec::new();
            for (drug, share) in ACUTE {
                if self.dice.chance(share) {
                    drugs.push((drug, self.dice.range(1, 2)));
                }
            }
            let later = day + self.dice.range(0, 1);
            self.dispense(later, BY_GENERALIST, &drugs);
        }
        if self.dice.chance(if age > 50 { 0.25 } else { 0.12 }) {
            let later = day + self.dice.range(1, 7);
            self.service(later, &c::BIOLOGY, None, BY_GENERALIST);
        }
        let imaging: [(&'static Act, f64); 4] = [
            (&c::ZBQK002, 0.02),
            (&c::ZCQM008, 0.03),
            (&c::NFQK001, if age > 45 { 0.02 } else { 0.01 }),
            (&c::ACQN001, 0.004),
        ];
        for (act, share) in imaging {
            if self.dice.chance(share) {
                let later = day + self.dice.range(2, 20);
                self.act(later, act, None, BY_GENERALIST);
            }
        }
    }

    /// Monthly drugs, quarterly prescriptions and follow-up of a long-term condition.
    fn condition(&mut self, profile: &Profile, onset: Day) {
        let (from, to) = (onset.max(self.span.0), self.span.1);
        let taken: Vec<&'static Drug> = profile
            .drugs
            .iter()
            .filter(|(_, share)| self.dice.chance(*share))
            .map(|(drug, _)| *drug)
            .collect();
        // Some patients do not take their treatment as prescribed.
        let adherence = 1.0 - 0.3 * self.dice.unit() * self.dice.unit();
        let mut day = from + self.dice.range(0, 29);
        while day <= to && !taken.is_empty() {
            if self.dice.chance(adherence) {
                let lines: Vec<_> = taken.iter().map(|drug| (*drug, 1)).collect();
                self.dispense(day, BY_GENERALIST, &lines);
            }
            day += self.dice.range(28, 33);
        }
        if to < from {
            return;
        }
        let years = f64::from(to - from + 1) / YEAR_DAYS;
        for (followup, rate) in profile.followup {
            for _ in 0..self.dice.poisson(rate * years) {
                let day = self.dice.range(from, to);
                match followup {
                    Followup::Act(act) => self.act(day, act, Some(profile.disease), BY_GENERALIST),
                    Followup::Visit(nature) => self.service(day, nature, None, BY_GENERALIST),
                    Followup::Specialist(code) => self.service(day, &c::SPECIALIST, Some(*code), 0),
                };
            }
        }
    }

    /// What follows a stay: the general practitioner within weeks, drugs, nursing after surgery.
    fn after_discharge(&mut self, stay: &Stay) {
        if stay.exit_mode == '9' {
            return;
        }
        if self.dice.chance(0.6) {
            let day = stay.exit + self.dice.range(2, 25);
            self.visit(day, self.person.age(day));
        }
        let surgery = stay.reason.ghm.get(2..3) == Some("C");
        if surgery && self.dice.chance(0.7) {
            self.dispense(stay.exit + 1, 4, &[(&c::PARACETAMOL, 2), (&c::TRAMADOL, 1)]);
            for visit in 0..self.dice.range(2, 8) {
                self.service(stay.exit + 1 + 2 * visit, &c::NURSE, None, 4);
            }
        }
    }

    /// A day on which respiratory infections weigh as their season does.
    fn seasonal_day(&mut self, from: Day, to: Day) -> Day {
        let mut day = self.dice.range(from, to);
        for _ in 0..4 {
            let weight = 0.5 + 0.5 * respiratory_season(calendar::month(day));
            if self.dice.chance(weight / 1.4) {
                break;
            }
            day = self.dice.range(from, to);
        }
        day
    }

    /// Whether care outside hospital can happen on that day.
    fn possible(&self, day: Day) -> bool {
        let in_hospital = self
            .stays
            .iter()
            .any(|stay| stay.entry < day && day < stay.exit);
        (self.span.0..=self.span.1).contains(&day) && !in_hospital
    }

    /// Consultations are not on Sundays, but for one in ten.
    fn working_day(&mut self, day: Day) -> Day {
        if calendar::weekday(day) == 6 && !self.dice.chance(0.1) {
            day + 1
        } else {
            day
        }
    }

    fn service(
        &mut self,
        day: Day,
        nature: &'static Nature,
        specialty: Option<i32>,
        by: i32,
    ) -> bool {
        let day = self.working_day(day);
        let spread = self.dice.between(0.85, 1.35);
        let basis = nature.price;
        let paid = ((basis as f64 * spread.max(1.0)) as i64 / 10) * 10;
        self.line(
            Claim {
                paid: paid.max(basis),
                executor: specialty.unwrap_or(nature.specialty),
                ..self.blank(day, nature, basis, by)
            },
            true,
        )
    }

    fn act(&mut self, day: Day, act: &'static Act, disease: Option<Disease>, by: i32) -> bool {
        let day = self.working_day(day);
        let executor = match (act.code, disease) {
            ("DEQP003" | "DZQM006", _) => 3,
            ("BGQP002" | "BLQP010", _) => 15,
            ("GLQP012", _) => 13,
            ("HHQE005", _) => 8,
            _ => act.nature.specialty,
        };
        self.line(
            Claim {
                detail: Detail::Act(act),
                executor,
                ..self.blank(day, act.nature, act.price, by)
            },
            true,
        )
    }

    /// One dispensing of several drugs: lines of one statement.
    fn dispense(&mut self, day: Day, by: i32, drugs: &[(&'static Drug, i32)]) {
        let day = self.working_day(day);
        let mut first = true;
        for (drug, boxes) in drugs {
            let price = drug.price * i64::from(*boxes);
            let claim = Claim {
                detail: Detail::Drug(drug),
                quantity: *boxes,
                ..self.blank(day, c::pharmacy(drug), price, by)
            };
            first = !self.line(claim, first) && first;
        }
    }

    fn blank(&self, day: Day, nature: &'static Nature, basis: i64, by: i32) -> Claim {
        let exempt = self
            .person
            .conditions_at(day)
            .filter_map(|(disease, _)| PROFILES.get(disease as usize))
            .any(|profile| profile.ald.is_some());
        Claim {
            day,
            person: self.person.id,
            department: self.person.department,
            nature,
            detail: Detail::None,
            quantity: 1,
            paid: basis,
            basis,
            rate: if exempt { 100 } else { nature.rate },
            prescriber: by,
            executor: nature.specialty,
            statement: self.statement,
            line: 1,
        }
    }

    /// Adds the line where it is possible; `new` begins a statement.
    fn line(&mut self, claim: Claim, new: bool) -> bool {
        if !self.possible(claim.day) {
            return false;
        }
        let line = if new {
            self.statement += 1;
            1
        } else {
            self.claims.last().map_or(1, |last| last.line + 1)
        };
        let statement = self.statement.saturating_sub(1);
        self.claims.push(Claim {
            statement,
            line,
            ..claim
        });
        true
    }
}
