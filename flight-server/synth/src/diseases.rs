//! Long-term conditions: how frequent they are, what they are treated with, how they are followed.

use crate::codes::{self as c, Act, Diagnosis, Drug, Nature};
use crate::people::Sex;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Disease {
    Hypertension,
    Diabetes,
    Ischaemic,
    AtrialFibrillation,
    HeartFailure,
    Copd,
    Asthma,
    Depression,
    BreastCancer,
    ProstateCancer,
    ColonCancer,
    LungCancer,
    Kidney,
    Dementia,
    Hypothyroidism,
    Epilepsy,
    Parkinson,
    Arthrosis,
}

pub struct Profile {
    pub disease: Disease,
    pub diagnosis: &'static Diagnosis,
    /// Number of the long-term condition (ALD 30), where the disease is one.
    pub ald: Option<i32>,
    /// Prevalence reached at old age, women and men, and the logistic curve that leads there:
    /// age at half of it and the width of the rise, years.
    pub plateau: (f64, f64),
    pub age_half: f64,
    pub age_width: f64,
    /// Conditions that make this one likelier, and by how much.
    pub favoured_by: &'static [(Disease, f64)],
    /// Long-term drugs, each with the share of patients who take it.
    pub drugs: &'static [(&'static Drug, f64)],
    /// Follow-up: acts or consultations, with how many a year.
    pub followup: &'static [(Followup, f64)],
    /// Factor on the yearly risk of death.
    pub mortality: f64,
}

#[derive(Clone, Copy)]
pub enum Followup {
    Act(&'static Act),
    Visit(&'static Nature),
    /// A consultation of a specialist: the specialty's code (PSE_SPE_COD).
    Specialist(i32),
}

use Disease as D;
use Followup::{Act as Do, Specialist as See, Visit};

pub static PROFILES: &[Profile] = &[
    Profile {
        disease: D::Hypertension,
        diagnosis: &c::I10,
        ald: None,
        plateau: (0.58, 0.60),
        age_half: 62.0,
        age_width: 9.0,
        favoured_by: &[],
        drugs: &[
            (&c::AMLODIPINE, 0.45),
            (&c::RAMIPRIL, 0.4),
            (&c::LOSARTAN, 0.35),
            (&c::HYDROCHLOROTHIAZIDE, 0.2),
        ],
        followup: &[(Do(&c::DEQP003), 0.15)],
        mortality: 1.05,
    },
    Profile {
        disease: D::Diabetes,
        diagnosis: &c::E119,
        ald: Some(8),
        plateau: (0.13, 0.20),
        age_half: 58.0,
        age_width: 8.0,
        favoured_by: &[(D::Hypertension, 1.3)],
        drugs: &[
            (&c::METFORMINE, 0.8),
            (&c::GLICLAZIDE, 0.3),
            (&c::SITAGLIPTINE, 0.3),
            (&c::INSULINE_GLARGINE, 0.2),
            (&c::ATORVASTATINE, 0.4),
        ],
        followup: &[
            (Do(&c::BGQP002), 0.6),
            (Visit(&c::BIOLOGY), 3.0),
            (See(42), 0.3),
        ],
        mortality: 1.3,
    },
    Profile {
        disease: D::Ischaemic,
        diagnosis: &c::I251,
        ald: Some(13),
        plateau: (0.09, 0.19),
        age_half: 70.0,
        age_width: 8.0,
        favoured_by: &[(D::Hypertension, 1.3), (D::Diabetes, 1.5)],
        drugs: &[
            (&c::ASPIRINE, 0.85),
            (&c::ATORVASTATINE, 0.8),
            (&c::BISOPROLOL, 0.6),
        ],
        followup: &[
            (Visit(&c::CARDIOLOGIST), 1.2),
            (Do(&c::DEQP003), 1.0),
            (Do(&c::DZQM006), 0.4),
        ],
        mortality: 1.4,
    },
    Profile {
        disease: D::AtrialFibrillation,
        diagnosis: &c::I489,
        ald: Some(5),
        plateau: (0.14, 0.17),
        age_half: 78.0,
        age_width: 6.5,
        favoured_by: &[(D::Hypertension, 1.3), (D::Ischaemic, 1.3)],
        drugs: &[
            (&c::APIXABAN, 0.6),
            (&c::RIVAROXABAN, 0.3),
            (&c::BISOPROLOL, 0.55),
            (&c::AMIODARONE, 0.2),
        ],
        followup: &[
            (Visit(&c::CARDIOLOGIST), 1.5),
            (Do(&c::DEQP003), 1.6),
            (Do(&c::DZQM006), 0.5),
        ],
        mortality: 1.35,
    },
    Profile {
        disease: D::HeartFailure,
        diagnosis: &c::I500,
        ald: Some(5),
        plateau: (0.12, 0.14),
        age_half: 82.0,
        age_width: 6.5,
        favoured_by: &[
            (D::Ischaemic, 2.2),
            (D::AtrialFibrillation, 2.2),
            (D::Hypertension, 1.2),
        ],
        drugs: &[
            (&c::FUROSEMIDE, 0.8),
            (&c::BISOPROLOL, 0.7),
            (&c::RAMIPRIL, 0.5),
            (&c::SPIRONOLACTONE, 0.35),
            (&c::DAPAGLIFLOZINE, 0.3),
        ],
        followup: &[
            (Visit(&c::CARDIOLOGIST), 2.0),
            (Do(&c::DEQP003), 1.6),
            (Do(&c::DZQM006), 0.9),
            (Visit(&c::BIOLOGY), 3.0),
            (Visit(&c::NURSE), 8.0),
        ],
        mortality: 2.1,
    },
    Profile {
        disease: D::Copd,
        diagnosis: &c::J449,
        ald: Some(14),
        plateau: (0.06, 0.11),
        age_half: 62.0,
        age_width: 7.0,
        favoured_by: &[],
        drugs: &[
            (&c::TIOTROPIUM, 0.65),
            (&c::BUDESONIDE_FORMOTEROL, 0.5),
            (&c::SALBUTAMOL, 0.6),
        ],
        followup: &[
            (Do(&c::GLQP012), 0.8),
            (See(13), 0.8),
            (Do(&c::ZBQK002), 0.5),
        ],
        mortality: 1.6,
    },
    Profile {
        disease: D::Asthma,
        diagnosis: &c::J459,
        ald: None,
        plateau: (0.065, 0.06),
        age_half: 6.0,
        age_width: 4.0,
        favoured_by: &[],
        drugs: &[(&c::SALBUTAMOL, 0.7), (&c::BUDESONIDE_FORMOTEROL, 0.5)],
        followup: &[(Do(&c::GLQP012), 0.2)],
        mortality: 1.05,
    },
    Profile {
        disease: D::Depression,
        diagnosis: &c::F329,
        ald: None,
        plateau: (0.13, 0.065),
        age_half: 38.0,
        age_width: 9.0,
        favoured_by: &[],
        drugs: &[
            (&c::SERTRALINE, 0.4),
            (&c::ESCITALOPRAM, 0.35),
            (&c::VENLAFAXINE, 0.2),
            (&c::ALPRAZOLAM, 0.35),
        ],
        followup: &[(See(33), 1.2)],
        mortality: 1.2,
    },
    Profile {
        disease: D::BreastCancer,
        diagnosis: &c::C509,
        ald: Some(30),
        plateau: (0.085, 0.0008),
        age_half: 62.0,
        age_width: 9.0,
        favoured_by: &[],
        drugs: &[(&c::LETROZOLE, 0.7)],
        followup: &[
            (Do(&c::QEQK001), 1.0),
            (See(73), 1.5),
            (Visit(&c::BIOLOGY), 2.0),
        ],
        mortality: 1.7,
    },
    Profile {
        disease: D::ProstateCancer,
        diagnosis: &c::C61,
        ald: Some(30),
        plateau: (0.0, 0.13),
        age_half: 73.0,
        age_width: 6.0,
        favoured_by: &[],
        drugs: &[(&c::LEUPRORELINE, 0.25)],
        followup: &[(See(16), 1.5), (Visit(&c::BIOLOGY), 2.0)],
        mortality: 1.4,
    },
    Profile {
        disease: D::ColonCancer,
        diagnosis: &c::C189,
        ald: Some(30),
        plateau: (0.03, 0.045),
        age_half: 72.0,
        age_width: 7.0,
        favoured_by: &[],
        drugs: &[(&c::FER, 0.3), (&c::TRAMADOL, 0.2)],
        followup: &[
            (Do(&c::HHQE005), 0.4),
            (See(8), 1.2),
            (Visit(&c::BIOLOGY), 3.0),
        ],
        mortality: 2.2,
    },
    Profile {
        disease: D::LungCancer,
        diagnosis: &c::C349,
        ald: Some(30),
        plateau: (0.009, 0.018),
        age_half: 66.0,
        age_width: 6.0,
        favoured_by: &[(D::Copd, 3.0)],
        drugs: &[
            (&c::MORPHINE, 0.5),
            (&c::PREDNISOLONE, 0.4),
            (&c::OMEPRAZOLE, 0.4),
        ],
        followup: &[
            (Do(&c::ZBQH001), 2.5),
            (See(73), 3.0),
            (Visit(&c::BIOLOGY), 6.0),
        ],
        mortality: 6.0,
    },
    Profile {
        disease: D::Kidney,
        diagnosis: &c::N183,
        ald: Some(19),
        plateau: (0.10, 0.11),
        age_half: 80.0,
        age_width: 7.0,
        favoured_by: &[(D::Diabetes, 1.8), (D::Hypertension, 1.2)],
        drugs: &[(&c::FUROSEMIDE, 0.4), (&c::SEVELAMER, 0.1), (&c::FER, 0.2)],
        followup: &[(Visit(&c::BIOLOGY), 4.0), (See(35), 1.2)],
        mortality: 1.5,
    },
    Profile {
        disease: D::Dementia,
        diagnosis: &c::G309,
        ald: Some(15),
        plateau: (0.30, 0.22),
        age_half: 88.0,
        age_width: 4.5,
        favoured_by: &[],
        drugs: &[(&c::DONEPEZIL, 0.3)],
        followup: &[
            (See(32), 0.6),
            (Do(&c::ACQN001), 0.15),
            (Visit(&c::NURSE), 12.0),
        ],
        mortality: 1.6,
    },
    Profile {
        disease: D::Hypothyroidism,
        diagnosis: &c::E039,
        ald: None,
        plateau: (0.10, 0.02),
        age_half: 55.0,
        age_width: 12.0,
        favoured_by: &[],
        drugs: &[(&c::LEVOTHYROXINE, 0.97)],
        followup: &[(Visit(&c::BIOLOGY), 1.2)],
        mortality: 1.0,
    },
    Profile {
        disease: D::Epilepsy,
        diagnosis: &c::G409,
        ald: Some(9),
        plateau: (0.008, 0.009),
        age_half: 12.0,
        age_width: 8.0,
        favoured_by: &[(D::Dementia, 1.5)],
        drugs: &[(&c::LEVETIRACETAM, 0.9)],
        followup: &[(See(32), 1.0), (Do(&c::ACQN001), 0.1)],
        mortality: 1.5,
    },
    Profile {
        disease: D::Parkinson,
        diagnosis: &c::G20,
        ald: Some(16),
        plateau: (0.028, 0.036),
        age_half: 78.0,
        age_width: 5.0,
        favoured_by: &[],
        drugs: &[(&c::LEVODOPA, 0.9)],
        followup: &[(See(32), 2.0), (Visit(&c::PHYSIOTHERAPIST), 15.0)],
        mortality: 1.5,
    },
    Profile {
        disease: D::Arthrosis,
        diagnosis: &c::M179,
        ald: None,
        plateau: (0.42, 0.28),
        age_half: 68.0,
        age_width: 8.0,
        favoured_by: &[],
        drugs: &[(&c::PARACETAMOL, 0.5), (&c::OMEPRAZOLE, 0.25)],
        followup: &[(Do(&c::NFQK001), 0.25), (Visit(&c::PHYSIOTHERAPIST), 3.0)],
        mortality: 1.0,
    },
];

impl Profile {
    /// Age at which a person whose rank for this disease is `rank` (uniform in [0, 1)) gets it:
    /// the inverse of `plateau / (1 + exp(-(age - half) / width))`; None when never.
    pub fn onset_age(&self, sex: Sex, rank: f64, factor: f64) -> Option<f64> {
        let plateau = match sex {
            Sex::Woman => self.plateau.0,
            Sex::Man => self.plateau.1,
        } * factor;
        let plateau = plateau.min(0.95);
        (rank < plateau)
            .then(|| self.age_half + self.age_width * (rank.max(1e-9) / (plateau - rank)).ln())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_stand_in_the_order_of_the_diseases() {
        for (index, profile) in PROFILES.iter().enumerate() {
            assert_eq!(profile.disease as usize, index);
            // A condition can only favour those that are drawn after it.
            for (cause, _) in profile.favoured_by {
                assert!((*cause as usize) < index);
            }
        }
    }

    #[test]
    fn onset_inverts_the_prevalence() {
        let diabetes = &PROFILES[Disease::Diabetes as usize];
        let onset = diabetes.onset_age(Sex::Man, 0.1, 1.0).expect("0.1 < 0.2");
        assert!((onset - 58.0).abs() < 1e-9);
        assert!(diabetes.onset_age(Sex::Man, 0.21, 1.0).is_none());
    }
}
