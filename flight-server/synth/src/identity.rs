//! Names, addresses and numbers of persons who do not exist, for the raw datasets.

use std::fmt::Write as _;

use crate::calendar;
use crate::dice::{Dice, Purpose};
use crate::people::{Person, Sex};
use crate::places::{DEPARTMENTS, Department};

/// Who a person is said to be.
#[derive(Clone, Debug)]
pub struct Identity {
    pub given: &'static str,
    pub surname: String,
    pub birth_town: &'static str,
    /// Number and street.
    pub street: String,
    pub postal: &'static str,
    pub town: &'static str,
    pub phone: String,
    pub mail: String,
    /// 13 digits and the key, without spaces.
    pub nir: String,
    /// Number of the patient in the hospital.
    pub patient_number: String,
}

impl Identity {
    pub fn of(seed: u64, person: &Person) -> Self {
        let mut dice = Dice::new(seed, Purpose::Identity, person.index);
        let given = given_name(person.sex, &mut dice);
        let surname = surname(&mut dice);
        let home = person.department();
        let born = if dice.chance(0.6) {
            home
        } else {
            any_department(&mut dice)
        };
        let number = dice.range(1, 180);
        let mut street = format!("{number} {}", pick(&mut dice, STREETS));
        if dice.chance(0.1) {
            street = street.replacen(' ', " bis ", 1);
        }
        let phone = phone(&mut dice, true);
        let mail = mail(given, &surname, &mut dice);
        let nir = nir(person, born, &mut dice);
        let patient_number = format!("{:08}", dice.below(100_000_000));
        Self {
            given,
            surname,
            birth_town: born.town,
            street,
            postal: home.postal,
            town: home.town,
            phone,
            mail,
            nir,
            patient_number,
        }
    }
}

pub fn given_name(sex: Sex, dice: &mut Dice) -> &'static str {
    pick(
        dice,
        match sex {
            Sex::Woman => WOMEN,
            Sex::Man => MEN,
        },
    )
}

pub fn surname(dice: &mut Dice) -> String {
    let first = pick(dice, SURNAMES);
    if dice.chance(0.05) {
        let second = pick(dice, SURNAMES);
        return format!("{first}-{second}");
    }
    first.to_owned()
}

pub fn any_department(dice: &mut Dice) -> &'static Department {
    let rank = dice.weighted(DEPARTMENTS.iter().map(|d| f64::from(d.population)));
    DEPARTMENTS.get(rank).unwrap_or(&DEPARTMENTS[0])
}

/// A telephone number among those that the regulator keeps for fiction (ARCEP: 06 39 98 xx xx,
/// 01 99 00 xx xx …), written in one of the usual ways.
pub fn phone(dice: &mut Dice, mobile: bool) -> String {
    let (prefix, block) = if mobile {
        ("06", ["39", "98"])
    } else {
        pick(
            dice,
            &[
                ("01", ["99", "00"]),
                ("02", ["61", "91"]),
                ("03", ["53", "01"]),
                ("04", ["65", "71"]),
                ("05", ["36", "49"]),
            ],
        )
    };
    let (c, d) = (dice.below(100), dice.below(100));
    let separator = pick(dice, &[" ", " ", ".", ""]);
    let start = if dice.chance(0.12) {
        format!("+33 {}", &prefix[1..])
    } else {
        prefix.to_owned()
    };
    [
        start,
        block[0].to_owned(),
        block[1].to_owned(),
        format!("{c:02}"),
        format!("{d:02}"),
    ]
    .join(separator)
}

fn mail(given: &str, surname: &str, dice: &mut Dice) -> String {
    let plain = |text: &str| -> String {
        text.chars()
            .filter_map(|letter| match letter.to_lowercase().next()? {
                'é' | 'è' | 'ê' | 'ë' => Some('e'),
                'à' | 'â' | 'ä' => Some('a'),
                'ï' | 'î' => Some('i'),
                'ô' | 'ö' => Some('o'),
                'ù' | 'û' | 'ü' => Some('u'),
                'ç' => Some('c'),
                letter if letter.is_ascii_alphanumeric() => Some(letter),
                ' ' | '-' | '\'' => None,
                _ => None,
            })
            .collect()
    };
    // Domains kept for examples (RFC 2606).
    let domain = pick(
        dice,
        &["example.fr", "example.org", "mail.example", "poste.example"],
    );
    let separator = pick(dice, &[".", "_", ""]);
    format!("{}{separator}{}@{domain}", plain(given), plain(surname))
}

/// Number in the register of natural persons: sex, year, month, place and order of birth, and
/// the key `97 - n mod 97`, in which Corsica's 2A and 2B count as 19 and 18 (INSEE).
fn nir(person: &Person, born: &Department, dice: &mut Dice) -> String {
    let place = if born.code.len() == 3 {
        format!("{}{:02}", born.code, 1 + dice.below(24))
    } else {
        format!("{}{:03}", born.code, 1 + dice.below(400))
    };
    let mut nir = format!(
        "{}{:02}{:02}{place}{:03}",
        person.sex as i32,
        calendar::year(person.birth).rem_euclid(100),
        calendar::month(person.birth),
        1 + dice.below(600),
    );
    if let Some(key) = nir_key(&nir) {
        let _ = write!(nir, "{key:02}");
    }
    nir
}

/// Key of the first 13 characters of a NIR; None when they are not one.
pub fn nir_key(nir: &str) -> Option<u64> {
    let digits = nir.get(..13)?.replace("2A", "19").replace("2B", "18");
    let number: u64 = digits.parse().ok()?;
    Some(97 - number % 97)
}

/// One of a list that is not empty.
pub fn pick<T: Copy>(dice: &mut Dice, list: &[T]) -> T {
    list[dice.below(list.len())]
}

static WOMEN: &[&str] = &[
    "Marie",
    "Nathalie",
    "Isabelle",
    "Sylvie",
    "Catherine",
    "Françoise",
    "Martine",
    "Monique",
    "Jacqueline",
    "Sandrine",
    "Anne",
    "Christine",
    "Valérie",
    "Stéphanie",
    "Sophie",
    "Céline",
    "Julie",
    "Camille",
    "Léa",
    "Manon",
    "Emma",
    "Chloé",
    "Sarah",
    "Inès",
    "Jade",
    "Louise",
    "Alice",
    "Zoé",
    "Hélène",
    "Brigitte",
    "Véronique",
    "Denise",
    "Simone",
    "Yvonne",
    "Odile",
    "Geneviève",
    "Suzanne",
    "Fatima",
    "Aïcha",
    "Agnès",
    "Élodie",
    "Marie-Claude",
    "Anne-Sophie",
    "Aurélie",
    "Pauline",
    "Lucie",
    "Clémence",
    "Mathilde",
    "Thérèse",
    "Solène",
];

static MEN: &[&str] = &[
    "Jean",
    "Pierre",
    "Michel",
    "André",
    "Philippe",
    "Alain",
    "Bernard",
    "Jacques",
    "Daniel",
    "Gérard",
    "Christophe",
    "Nicolas",
    "Stéphane",
    "Frédéric",
    "Laurent",
    "Julien",
    "Sébastien",
    "David",
    "Thomas",
    "Alexandre",
    "Antoine",
    "Maxime",
    "Lucas",
    "Hugo",
    "Théo",
    "Nathan",
    "Louis",
    "Gabriel",
    "Raphaël",
    "Adam",
    "Mohamed",
    "Karim",
    "Rachid",
    "René",
    "Marcel",
    "Roger",
    "Robert",
    "Henri",
    "Yves",
    "Guy",
    "Jean-Pierre",
    "Jean-Luc",
    "François",
    "Loïc",
    "Benoît",
    "Cédric",
    "Mathieu",
    "Olivier",
    "Émile",
    "Gaël",
];

static SURNAMES: &[&str] = &[
    "Martin",
    "Bernard",
    "Thomas",
    "Petit",
    "Robert",
    "Richard",
    "Durand",
    "Dubois",
    "Moreau",
    "Laurent",
    "Simon",
    "Michel",
    "Lefebvre",
    "Leroy",
    "Roux",
    "David",
    "Bertrand",
    "Morel",
    "Fournier",
    "Girard",
    "Bonnet",
    "Dupont",
    "Lambert",
    "Fontaine",
    "Rousseau",
    "Vincent",
    "Muller",
    "Lefèvre",
    "Faure",
    "André",
    "Mercier",
    "Blanc",
    "Guérin",
    "Boyer",
    "Garnier",
    "Chevalier",
    "François",
    "Legrand",
    "Gauthier",
    "Garcia",
    "Perrin",
    "Robin",
    "Clément",
    "Morin",
    "Nicolas",
    "Henry",
    "Roussel",
    "Mathieu",
    "Gautier",
    "Masson",
    "Marchand",
    "Duval",
    "Denis",
    "Dumont",
    "Marie",
    "Lemaire",
    "Noël",
    "Meyer",
    "Dufour",
    "Meunier",
    "Brun",
    "Blanchard",
    "Giraud",
    "Joly",
    "Rivière",
    "Lucas",
    "Brunet",
    "Gaillard",
    "Barbier",
    "Arnaud",
    "Martinez",
    "Gérard",
    "Roche",
    "Renard",
    "Schmitt",
    "Roy",
    "Leroux",
    "Colin",
    "Vidal",
    "Caron",
    "Picard",
    "Roger",
    "Fabre",
    "Aubert",
    "Lemoine",
    "Renaud",
    "Dumas",
    "Lacroix",
    "Olivier",
    "Philippe",
    "Bourgeois",
    "Pierre",
    "Benoît",
    "Rey",
    "Leclerc",
    "Payet",
    "Rolland",
    "Leclercq",
    "Guillaume",
    "Lecomte",
    "Lopez",
    "Jean",
    "Dupuy",
    "Guillot",
    "Hubert",
    "Berger",
    "Carpentier",
    "Sanchez",
    "Dupuis",
    "Moulin",
    "Louis",
    "Deschamps",
    "Huet",
    "Vasseur",
    "Perez",
    "Boucher",
    "Fleury",
    "Royer",
    "Klein",
    "Jacquet",
    "Le Gall",
    "Le Goff",
    "Benali",
    "Diallo",
    "Nguyen",
    "Traoré",
    "Kowalski",
    "d'Almeida",
];

static STREETS: &[&str] = &[
    "rue de la République",
    "rue Victor Hugo",
    "avenue Jean Jaurès",
    "rue des Lilas",
    "boulevard Pasteur",
    "place de la Mairie",
    "rue du Moulin",
    "avenue du Général de Gaulle",
    "chemin des Vignes",
    "impasse des Acacias",
    "rue Pasteur",
    "allée des Tilleuls",
    "rue de l'Église",
    "route de Paris",
    "quai de la Gare",
    "rue Émile Zola",
    "cours Gambetta",
    "rue des Écoles",
    "square Saint-Michel",
    "rue du 8 Mai 1945",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_valid_keys() {
        // INSEE's worked example: 2 69 05 49 588 157, key 80.
        assert_eq!(nir_key("2690549588157"), Some(80));
        for index in 0..3000 {
            let person = Person::new(4, index, index as i64);
            let nir = Identity::of(4, &person).nir;
            assert_eq!(nir.len(), 15, "{nir}");
            let number: u64 = nir[..13]
                .replace("2A", "19")
                .replace("2B", "18")
                .parse()
                .expect("13 digits");
            let key: u64 = nir[13..].parse().expect("2 digits");
            assert_eq!((number + key) % 97, 0, "{nir}");
        }
    }
}
