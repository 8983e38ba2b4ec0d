//! Everything that a document's templates may name: the patient, the carers, dates, values.

use super::document::{Fill, Filled, Kind};
use crate::calendar::{self, Day};
use crate::dice::Dice;
use crate::identity::{self, Identity, pick};
use crate::people::{Person, Sex};
use crate::places::{DEPARTMENTS, Department, hospitals, of_town};
use crate::stays::Stay;

pub struct Scene<'a> {
    pub dice: Dice,
    person: &'a Person,
    identity: Identity,
    /// Day of the document.
    day: Day,
    entry: Day,
    exit: Day,
    hospital: String,
    town: &'static Department,
    doctor: Carer,
    signatory: Carer,
    relative: (&'static str, &'static str),
    title: &'static str,
    /// How this document writes its dates.
    style: u8,
}

struct Carer {
    given: &'static str,
    surname: String,
}

impl Carer {
    fn new(dice: &mut Dice) -> Self {
        let sex = if dice.chance(0.5) {
            Sex::Woman
        } else {
            Sex::Man
        };
        Self {
            given: identity::given_name(sex, dice),
            surname: identity::surname(dice),
        }
    }
}

impl<'a> Scene<'a> {
    pub fn new(
        seed: u64,
        mut dice: Dice,
        person: &'a Person,
        stay: Option<&Stay>,
        day: Day,
    ) -> Self {
        let identity = Identity::of(seed, person);
        let (town, rank) = match stay {
            Some(stay) => located(stay.hospital as usize),
            None => (person.department(), 0),
        };
        let woman = person.sex == Sex::Woman;
        let titles: &[&str] = if woman {
            &["Mme", "Madame"]
        } else {
            &["M.", "Monsieur"]
        };
        let relatives: [(&str, Sex); 4] = [
            ("sa fille", Sex::Woman),
            ("son fils", Sex::Man),
            if woman {
                ("son mari", Sex::Man)
            } else {
                ("sa femme", Sex::Woman)
            },
            ("sa sœur", Sex::Woman),
        ];
        let (relation, sex) = pick(&mut dice, &relatives);
        Self {
            hospital: hospital_name(town, rank, &mut dice),
            doctor: Carer::new(&mut dice),
            signatory: Carer::new(&mut dice),
            relative: (relation, identity::given_name(sex, &mut dice)),
            title: pick(&mut dice, titles),
            style: dice.below(10) as u8,
            entry: stay.map_or(day, |stay| stay.entry),
            exit: stay.map_or(day, |stay| stay.exit),
            dice,
            person,
            identity,
            day,
            town,
        }
    }

    pub fn woman(&self) -> bool {
        self.person.sex == Sex::Woman
    }

    fn date(&mut self, day: Day) -> Filled {
        let date = calendar::date(day);
        let text = match self.style {
            0..6 => date.format("%d/%m/%Y").to_string(),
            6..9 => {
                let first = chrono::Datelike::day(&date) == 1;
                let number = if first {
                    "1er".to_owned()
                } else {
                    date.format("%-d").to_string()
                };
                let month = MONTHS
                    .get(calendar::month(day).saturating_sub(1) as usize)
                    .unwrap_or(&"janvier");
                format!("{number} {month} {}", calendar::year(day))
            }
            _ => date.format("%d.%m.%y").to_string(),
        };
        Filled::Identifying(Kind::Date, text)
    }

    /// A number with one decimal, a comma as in French.
    fn decimal(&mut self, low: f64, high: f64) -> String {
        format!("{:.1}", self.dice.between(low, high)).replace('.', ",")
    }

    fn identifying(&mut self, key: &str) -> Option<Filled> {
        let identity = &self.identity;
        let (kind, text) = match key {
            "PATIENT" => {
                let upper = identity.surname.to_uppercase();
                let text = match self.dice.below(3) {
                    0 => format!("{upper} {}", identity.given),
                    1 => format!("{} {upper}", identity.given),
                    _ => format!("{} {}", identity.given, identity.surname),
                };
                (Kind::Nom, text)
            }
            "NOM" => {
                let upper = self.dice.chance(0.5);
                let name = &identity.surname;
                (
                    Kind::Nom,
                    if upper {
                        name.to_uppercase()
                    } else {
                        name.clone()
                    },
                )
            }
            "PROCHE" => (Kind::Nom, self.relative.1.to_owned()),
            "MEDECIN" => (
                Kind::Nom,
                format!(
                    "{} {}",
                    self.doctor.given,
                    self.doctor.surname.to_uppercase()
                ),
            ),
            "NOM_MEDECIN" => (Kind::Nom, self.doctor.surname.clone()),
            "SIGNATAIRE" => (
                Kind::Nom,
                format!("{} {}", self.signatory.given, self.signatory.surname),
            ),
            "NIR" => (Kind::Nir, spaced_nir(&identity.nir, &mut self.dice)),
            "IPP" => (Kind::Nir, identity.patient_number.clone()),
            "TEL" => (Kind::Tel, identity.phone.clone()),
            "TEL_SERVICE" => (Kind::Tel, identity::phone(&mut self.dice, false)),
            "MAIL" => (Kind::Mail, identity.mail.clone()),
            "ADRESSE" => (
                Kind::Adresse,
                format!("{}, {} {}", identity.street, identity.postal, identity.town),
            ),
            "VILLE" => (Kind::Ville, self.town.town.to_owned()),
            "VILLE_NAISSANCE" => (Kind::Ville, identity.birth_town.to_owned()),
            "HOPITAL" => (Kind::Hopital, self.hospital.clone()),
            _ => return None,
        };
        Some(Filled::Identifying(kind, text))
    }

    fn grammar(&self, key: &str) -> Option<String> {
        let (she, he) = match key {
            "e" => ("e", ""),
            "ne" => ("ne", ""),
            "il" => ("elle", "il"),
            "Il" => ("Elle", "Il"),
            "patient" => ("patiente", "patient"),
            "Le_patient" => ("La patiente", "Le patient"),
            "le_patient" => ("la patiente", "le patient"),
            "du_patient" => ("de la patiente", "du patient"),
            "ce_patient" => ("cette patiente", "ce patient"),
            "retraité" => ("retraitée", "retraité"),
            "seul" => ("seule", "seul"),
            "M" => return Some(self.title.to_owned()),
            "proche" => return Some(self.relative.0.to_owned()),
            _ => return None,
        };
        Some(if self.woman() { she } else { he }.to_owned())
    }

    fn measured(&mut self, key: &str) -> Option<String> {
        let dice = &mut self.dice;
        Some(match key {
            "âge" => self.person.age(self.day).max(0).to_string(),
            "durée" => (self.exit - self.entry).max(1).to_string(),
            "ta" => format!("{}/{}", dice.range(10, 17), dice.range(5, 9)),
            "ta_mm" => format!("{}/{}", dice.range(98, 172), dice.range(52, 98)),
            "fc" => dice.range(58, 128).to_string(),
            "spo2" => dice.range(84, 99).to_string(),
            "crp" => dice.range(3, 240).to_string(),
            "créat" => dice.range(52, 210).to_string(),
            "bnp" => (dice.range(4, 120) * 25).to_string(),
            "poids" => dice.range(48, 104).to_string(),
            "glasgow" => dice.range(12, 15).to_string(),
            "litres" => dice.range(1, 6).to_string(),
            "fevg" => dice.range(25, 60).to_string(),
            "mm" => dice.range(4, 38).to_string(),
            "jours" => dice.range(5, 14).to_string(),
            "semaines" => dice.range(2, 8).to_string(),
            "temp" => self.decimal(36.2, 39.8),
            "hb" => self.decimal(8.2, 15.4),
            "k" => self.decimal(3.0, 5.4),
            "hba1c" => self.decimal(6.2, 11.5),
            _ => return None,
        })
    }
}

impl Fill for Scene<'_> {
    fn value(&mut self, key: &str) -> Option<Filled> {
        match key {
            "NAISSANCE" => return Some(self.date(self.person.birth)),
            "ENTRÉE" => return Some(self.date(self.entry)),
            "SORTIE" => return Some(self.date(self.exit)),
            "JOUR" => return Some(self.date(self.day)),
            "EXAMEN" => {
                let day = self.dice.range(self.entry, self.exit);
                return Some(self.date(day));
            }
            "RDV" => {
                let day = self.exit + self.dice.range(10, 90);
                return Some(self.date(day));
            }
            _ => {}
        }
        if let Some(filled) = self.identifying(key) {
            return Some(filled);
        }
        self.grammar(key)
            .or_else(|| self.measured(key))
            .map(Filled::Plain)
    }
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

/// The department of a hospital, and the hospital's rank there.
fn located(hospital: usize) -> (&'static Department, usize) {
    let mut before = 0;
    for department in DEPARTMENTS {
        let count = hospitals(department);
        if hospital < before + count {
            return (department, hospital - before);
        }
        before += count;
    }
    (&DEPARTMENTS[0], 0)
}

/// The first hospital of a department is its public one.
fn hospital_name(department: &Department, rank: usize, dice: &mut Dice) -> String {
    let town = of_town(department.town);
    let kinds: &[&str] = if rank == 0 {
        &[
            "CHU",
            "CH",
            "Centre hospitalier",
            "Centre Hospitalier Universitaire",
        ]
    } else {
        &[
            "Hôpital Saint-Louis",
            "Clinique du Parc",
            "Polyclinique Sainte-Anne",
            "Hôpital Nord",
            "Clinique Pasteur",
        ]
    };
    let kind = pick(dice, kinds);
    if rank == 0 {
        format!("{kind} {town}")
    } else {
        kind.to_owned()
    }
}

/// With or without the usual spaces.
fn spaced_nir(nir: &str, dice: &mut Dice) -> String {
    if dice.chance(0.4) {
        return nir.to_owned();
    }
    let mut parts = Vec::new();
    let mut rest = nir;
    for width in [1, 2, 2, 2, 3, 3, 2] {
        let Some((part, after)) = rest.split_at_checked(width) else {
            return nir.to_owned();
        };
        parts.push(part);
        rest = after;
    }
    parts.join(" ")
}
