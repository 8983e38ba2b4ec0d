//! The persons and their stays: what every dataset of the demo has in common.

use anyhow::Result;

use crate::dice::permutation;
use crate::parallel;
use crate::people::Person;
use crate::stays::{self, Stay};

/// Persons whose rows stand in one file: bounds memory, and is the unit of parallel work.
pub const PART_PERSONS: usize = 2500;

/// Domains of permuted identifiers.
pub mod domain {
    pub const PERSON: u64 = 1;
    pub const STAY: u64 = 2;
    pub const ESTABLISHMENT: u64 = 3;
    pub const RECORDING: u64 = 4;
    pub const STUDY: u64 = 5;
    pub const SERIES: u64 = 6;
    pub const INSTANCE: u64 = 7;
    pub const DOCUMENT: u64 = 8;
    /// One permutation for each part of the claims, from here on.
    pub const STATEMENTS: u64 = 1 << 32;
}

pub struct World {
    pub seed: u64,
    pub people: Vec<Person>,
    /// All stays, by person then date.
    pub stays: Vec<Stay>,
    /// Where each person's stays begin in `stays`, and one more.
    first_stay: Vec<usize>,
    establishments: Vec<i64>,
}

impl World {
    pub fn new(seed: u64, persons: usize, threads: usize) -> Result<Self> {
        let ids = permutation(seed, domain::PERSON, persons);
        let parts = parallel::map(threads, persons.div_ceil(PART_PERSONS), |part| {
            let first = part * PART_PERSONS;
            let made = ids.iter().enumerate().skip(first).take(PART_PERSONS);
            Ok(made
                .map(|(index, id)| {
                    let person = Person::new(seed, index as u64, *id);
                    let stays = stays::of_person(seed, &person);
                    (person, stays)
                })
                .collect::<Vec<_>>())
        })?;
        let mut world = Self {
            seed,
            people: Vec::with_capacity(persons),
            stays: Vec::new(),
            first_stay: vec![0],
            establishments: permutation(seed, domain::ESTABLISHMENT, stays::hospital_count()),
        };
        for (person, stays) in parts.into_iter().flatten() {
            world.people.push(person);
            world.stays.extend(stays);
            world.first_stay.push(world.stays.len());
        }
        let ids = permutation(seed, domain::STAY, world.stays.len());
        for (stay, id) in world.stays.iter_mut().zip(ids) {
            stay.rsa_num = id;
        }
        Ok(world)
    }

    pub fn part_count(&self) -> usize {
        self.people.len().div_ceil(PART_PERSONS)
    }

    /// The persons of a part.
    pub fn part(&self, part: usize) -> &[Person] {
        let first = part * PART_PERSONS;
        let last = (first + PART_PERSONS).min(self.people.len());
        self.people.get(first..last).unwrap_or_default()
    }

    pub fn person(&self, index: u64) -> Option<&Person> {
        self.people.get(usize::try_from(index).ok()?)
    }

    /// The stays of a person, by date.
    pub fn stays_of(&self, person: &Person) -> &[Stay] {
        let rank = person.index as usize;
        match (self.first_stay.get(rank), self.first_stay.get(rank + 1)) {
            (Some(from), Some(to)) => self.stays.get(*from..*to).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Identifier of a hospital as stored.
    pub fn eta_num(&self, stay: &Stay) -> i64 {
        self.establishments
            .get(stay.hospital as usize)
            .copied()
            .unwrap_or_default()
    }
}
