//! Persons: the French age pyramid, a place to live, long-term conditions and death.

use crate::calendar::{self, Day, FIRST_YEAR, LAST_YEAR, YEAR_DAYS, data_end, data_start};
use crate::dice::{Dice, Purpose};
use crate::diseases::{Disease, PROFILES};
use crate::places::{DEPARTMENTS, Department};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sex {
    Man = 1,
    Woman = 2,
}

#[derive(Clone, Debug)]
pub struct Person {
    /// Rank in the generation; names the person's random streams.
    pub index: u64,
    /// Identifier as stored: a permuted rank.
    pub id: i64,
    pub sex: Sex,
    pub birth: Day,
    pub death: Option<Day>,
    pub department: u8,
    /// 0 is the department's chief town.
    pub commune: u16,
    /// Conditions and the day each began, in the order of `PROFILES`.
    pub conditions: Vec<(Disease, Day)>,
}

/// Inhabitants of France by age band of five years in 2020, thousands (INSEE, rounded).
const PYRAMID: [f64; 21] = [
    3600.0, 4050.0, 4200.0, 4150.0, 3850.0, 3750.0, 4000.0, 4200.0, 4050.0, 4450.0, 4400.0, 4400.0,
    4150.0, 3900.0, 3550.0, 2250.0, 1850.0, 1350.0, 680.0, 190.0, 20.0,
];
/// Births a year, thousands.
const BIRTHS: f64 = 700.0;

impl Person {
    pub fn new(seed: u64, index: u64, id: i64) -> Self {
        let mut dice = Dice::new(seed, Purpose::Person, index);
        let birth = birth_day(&mut dice);
        let age = calendar::age(birth, data_start());
        let sex = if dice.chance(share_of_women(age)) {
            Sex::Woman
        } else {
            Sex::Man
        };
        let department = dice.weighted(DEPARTMENTS.iter().map(|d| f64::from(d.population))) as u8;
        // A third in the chief town, the others in communes of unequal size (Zipf-like).
        let commune = if dice.chance(0.33) {
            0
        } else {
            (300.0_f64.powf(dice.unit())) as u16
        };
        let conditions = conditions(&mut dice, sex, birth);
        let death = death_day(&mut dice, sex, birth, &conditions);
        Self {
            index,
            id,
            sex,
            birth,
            death,
            department,
            commune,
            conditions,
        }
    }

    pub fn department(&self) -> &'static Department {
        DEPARTMENTS
            .get(usize::from(self.department))
            .unwrap_or(&DEPARTMENTS[0])
    }

    /// First and last day on which the data can speak of the person.
    pub fn observed(&self) -> (Day, Day) {
        let end = data_end();
        (
            self.birth.max(data_start()),
            self.death.map_or(end, |death| death.min(end)),
        )
    }

    pub fn age(&self, at: Day) -> i32 {
        calendar::age(self.birth, at)
    }

    /// Whether the condition had begun on that day.
    pub fn has(&self, disease: Disease, at: Day) -> bool {
        self.conditions
            .iter()
            .any(|(known, onset)| *known == disease && *onset <= at)
    }

    /// Conditions that had begun on that day.
    pub fn conditions_at(&self, at: Day) -> impl Iterator<Item = (Disease, Day)> + '_ {
        self.conditions
            .iter()
            .copied()
            .filter(move |(_, onset)| *onset <= at)
    }
}

fn birth_day(dice: &mut Dice) -> Day {
    let years = f64::from(LAST_YEAR - FIRST_YEAR + 1);
    let bands = PYRAMID.iter().copied().chain([BIRTHS * years]);
    let band = dice.weighted(bands);
    if band == PYRAMID.len() {
        let span = data_end() - data_start();
        return data_start() + dice.range(0, span);
    }
    let age = 5.0 * band as f64 + dice.between(0.0, 5.0);
    data_start() - 1 - (age * YEAR_DAYS) as Day
}

/// Share of women among those of an age: more boys at birth, more women late in life.
fn share_of_women(age: i32) -> f64 {
    match age {
        ..25 => 0.488,
        25..60 => 0.508,
        60..75 => 0.53,
        75..85 => 0.58,
        85..95 => 0.67,
        _ => 0.80,
    }
}

fn conditions(dice: &mut Dice, sex: Sex, birth: Day) -> Vec<(Disease, Day)> {
    let mut found: Vec<(Disease, Day)> = Vec::new();
    for profile in PROFILES {
        let factor: f64 = profile
            .favoured_by
            .iter()
            .filter(|(cause, _)| found.iter().any(|(known, _)| known == cause))
            .map(|(_, factor)| factor)
            .product();
        // Drawn for everyone, so that one condition does not shift the draws of the next.
        let rank = dice.unit();
        let Some(age) = profile.onset_age(sex, rank, factor) else {
            continue;
        };
        let onset = birth + (age.max(0.1) * YEAR_DAYS) as Day;
        if onset <= data_end() {
            found.push((profile.disease, onset));
        }
    }
    found
}

/// Gompertz mortality (hazard `exp(-10.1 + 0.09·age)` a year, more for men and with each
/// condition), and that of the first year of life.
fn death_day(dice: &mut Dice, sex: Sex, birth: Day, conditions: &[(Disease, Day)]) -> Option<Day> {
    for year in FIRST_YEAR..=LAST_YEAR {
        let (from, to) = (calendar::day(year, 1, 1), calendar::day(year, 12, 31));
        let (chance, when) = (dice.unit(), dice.range(from.max(birth + 1), to));
        if birth >= to {
            continue;
        }
        let age = f64::from(from - birth).max(0.0) / YEAR_DAYS;
        let sex_factor = if sex == Sex::Man { 1.25 } else { 0.75 };
        let illness: f64 = conditions
            .iter()
            .filter(|(_, onset)| *onset < when)
            .filter_map(|(disease, _)| PROFILES.get(*disease as usize))
            .map(|profile| profile.mortality)
            .product();
        let infant = if age < 1.0 { 0.0035 } else { 0.0 };
        // The product of the factors averages about 1.9 among the old; the intercept allows
        // for it.
        let hazard = (-10.55 + 0.09 * age).exp() * sex_factor * illness.min(12.0) + infant;
        if chance < 1.0 - (-hazard).exp() {
            return Some(when);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_population_resembles_france() {
        let people: Vec<Person> = (0..20_000)
            .map(|index| Person::new(3, index, index as i64))
            .collect();
        let share = |test: &dyn Fn(&Person) -> bool| {
            people.iter().filter(|p| test(p)).count() as f64 / people.len() as f64
        };
        let at = calendar::day(2023, 1, 1);
        let old = share(&|p| p.age(at) >= 65);
        assert!((0.17..0.26).contains(&old), "65 and over: {old}");
        let women = share(&|p| p.sex == Sex::Woman);
        assert!((0.50..0.535).contains(&women), "women: {women}");
        let deaths = share(&|p| p.death.is_some());
        assert!(
            (0.045..0.075).contains(&deaths),
            "deaths in six years: {deaths}"
        );
        let diabetes = share(&|p| p.has(Disease::Diabetes, at));
        assert!((0.035..0.075).contains(&diabetes), "diabetes: {diabetes}");
        let heart = share(&|p| p.has(Disease::HeartFailure, at));
        assert!((0.008..0.035).contains(&heart), "heart failure: {heart}");
        for person in &people {
            let (from, to) = person.observed();
            assert!(from <= to);
            assert!(person.death.is_none_or(|death| death > person.birth));
        }
    }
}
