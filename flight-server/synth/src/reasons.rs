//! Why people stay in hospital: how often, how long, what is coded, how likely they come back.

use crate::calendar::{self, Day, respiratory_season};
use crate::codes::{self as c, Act, Diagnosis};
use crate::diseases::Disease;
use crate::people::{Person, Sex};

pub struct Reason {
    pub diagnosis: &'static Diagnosis,
    /// Root of the GHM (5 characters).
    pub ghm: &'static str,
    pub severity: Severity,
    /// Mean length, days; 0 is a stay without a night.
    pub days: f64,
    /// Probability that a patient who goes home alive comes back within 30 days.
    pub readmission: f64,
    /// Diagnosis of the return, when it is for something else.
    pub returns_for: Option<&'static Reason>,
    pub act: Option<&'static Act>,
    /// Share that comes through the emergency department.
    pub emergency: f64,
    /// The stay is for a treatment: the related diagnosis says of what.
    pub related: bool,
    /// Winter respiratory season.
    pub winter: bool,
    /// Events a year of a person of that age.
    pub rate: fn(&Person, i32, Day) -> f64,
}

/// How the sixth character of the GHM is found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// 1 to 4 by associated diagnoses; T when no night is spent.
    Levels,
    /// Always this letter.
    Fixed(char),
}

use Severity::{Fixed, Levels};

macro_rules! reasons {
    ($($name:ident { $($field:ident: $value:expr),* $(,)? })*) => {
        $(pub static $name: Reason = Reason { $($field: $value),* , ..BASE };)*
        pub static REASONS: &[&Reason] = &[$(&$name),*];
    };
}

const BASE: Reason = Reason {
    diagnosis: &c::R074,
    ghm: "",
    severity: Levels,
    days: 5.0,
    readmission: 0.05,
    returns_for: None,
    act: None,
    emergency: 0.8,
    related: false,
    winter: false,
    rate: |_, _, _| 0.0,
};

/// Events a year by age: the rate of the band whose upper bound is above the age.
fn by_age(age: i32, bands: &[(i32, f64)]) -> f64 {
    bands
        .iter()
        .find(|(upper, _)| age < *upper)
        .map_or(0.0, |(_, rate)| *rate)
}

fn if_has(person: &Person, disease: Disease, at: Day, rate: f64) -> f64 {
    if person.has(disease, at) { rate } else { 0.0 }
}

/// Cancers are operated on and treated soon after they are found, then followed.
fn cancer(person: &Person, disease: Disease, at: Day, soon: f64, later: f64) -> f64 {
    person
        .conditions_at(at)
        .find(|(known, _)| *known == disease)
        .map_or(
            0.0,
            |(_, onset)| if at - onset < 548 { soon } else { later },
        )
}

reasons! {
    PNEUMONIA {
        diagnosis: &c::J189, ghm: "04M05", days: 8.5, readmission: 0.14, act: Some(&c::ZBQK002), winter: true,
        rate: |p, age, at| by_age(age, &[(5, 0.005), (60, 0.0012), (75, 0.006), (85, 0.018), (130, 0.045)])
            * if p.has(Disease::Copd, at) { 2.5 } else { 1.0 },
    }
    BRONCHIOLITIS {
        diagnosis: &c::J219, ghm: "04M18", days: 3.5, readmission: 0.06, winter: true,
        rate: |_, age, _| by_age(age, &[(1, 0.05), (2, 0.01)]),
    }
    COVID {
        diagnosis: &c::U0710, ghm: "04M07", days: 9.5, readmission: 0.09, act: Some(&c::ZBQH001), winter: true,
        rate: |_, age, at| if (2020..2023).contains(&calendar::year(at)) {
            by_age(age, &[(40, 0.0008), (60, 0.003), (75, 0.008), (85, 0.018), (130, 0.03)])
        } else { 0.0 },
    }
    HEART_FAILURE {
        diagnosis: &c::I500, ghm: "05M09", days: 9.5, readmission: 0.24, act: Some(&c::DZQM006), winter: true,
        rate: |p, _, at| if_has(p, Disease::HeartFailure, at, 0.42),
    }
    COPD {
        diagnosis: &c::J441, ghm: "04M08", days: 8.0, readmission: 0.21, act: Some(&c::ZBQK002), winter: true,
        rate: |p, _, at| if_has(p, Disease::Copd, at, 0.18),
    }
    FIBRILLATION {
        diagnosis: &c::I489, ghm: "05M08", days: 4.0, readmission: 0.13, act: Some(&c::DEQP003),
        rate: |p, _, at| if_has(p, Disease::AtrialFibrillation, at, 0.11),
    }
    INFARCTION {
        diagnosis: &c::I219, ghm: "05M04", days: 5.5, readmission: 0.12, returns_for: Some(&HEART_FAILURE), act: Some(&c::DEQP003), emergency: 0.95,
        rate: |p, age, at| by_age(age, &[(40, 0.0001), (60, 0.0012), (75, 0.003), (130, 0.006)])
            + if_has(p, Disease::Ischaemic, at, 0.015),
    }
    STROKE {
        diagnosis: &c::I639, ghm: "01M30", days: 10.5, readmission: 0.11, returns_for: Some(&PNEUMONIA), act: Some(&c::ACQN001), emergency: 0.95,
        rate: |p, age, at| by_age(age, &[(45, 0.0002), (60, 0.001), (75, 0.004), (130, 0.010)])
            * if p.has(Disease::AtrialFibrillation, at) { 2.0 } else { 1.0 },
    }
    HIP_FRACTURE {
        diagnosis: &c::S7200, ghm: "08C49", days: 11.5, readmission: 0.12, returns_for: Some(&PNEUMONIA), emergency: 0.98,
        rate: |p, age, _| by_age(age, &[(65, 0.0002), (75, 0.002), (85, 0.010), (130, 0.030)])
            * if p.sex == Sex::Woman { 1.3 } else { 0.7 },
    }
    HIP_REPLACEMENT {
        diagnosis: &c::M161, ghm: "08C48", days: 5.0, readmission: 0.05, act: Some(&c::NEKA020), emergency: 0.0,
        rate: |_, age, _| by_age(age, &[(50, 0.0002), (60, 0.002), (85, 0.005), (130, 0.002)]),
    }
    KNEE_REPLACEMENT {
        diagnosis: &c::M171, ghm: "08C24", days: 5.0, readmission: 0.05, act: Some(&c::NFKA007), emergency: 0.0,
        rate: |p, _, at| if_has(p, Disease::Arthrosis, at, 0.012),
    }
    CATARACT {
        diagnosis: &c::H259, ghm: "02C05", severity: Fixed('J'), days: 0.0, readmission: 0.02, act: Some(&c::BFGA004), emergency: 0.0,
        rate: |_, age, _| by_age(age, &[(55, 0.0003), (65, 0.012), (75, 0.045), (90, 0.075), (130, 0.02)]),
    }
    COLONOSCOPY {
        diagnosis: &c::K635, ghm: "06K04", severity: Fixed('J'), days: 0.0, readmission: 0.015, act: Some(&c::HHFE002), emergency: 0.0,
        rate: |_, age, _| by_age(age, &[(35, 0.002), (50, 0.012), (80, 0.030), (130, 0.01)]),
    }
    GALLSTONES {
        diagnosis: &c::K802, ghm: "07C14", days: 2.5, readmission: 0.05, act: Some(&c::HMFC004), emergency: 0.4,
        rate: |_, age, _| by_age(age, &[(20, 0.0), (80, 0.0030), (130, 0.0015)]),
    }
    APPENDICITIS {
        diagnosis: &c::K358, ghm: "06C09", days: 3.0, readmission: 0.06, act: Some(&c::HHFA016), emergency: 0.98,
        rate: |_, age, _| by_age(age, &[(5, 0.0002), (40, 0.0016), (130, 0.0005)]),
    }
    DELIVERY {
        diagnosis: &c::O800, ghm: "14Z14", severity: Fixed('A'), days: 3.5, readmission: 0.02, returns_for: Some(&PYELONEPHRITIS), act: Some(&c::JQGD010), emergency: 0.2,
        rate: |p, age, _| if p.sex == Sex::Woman {
            by_age(age, &[(18, 0.0), (20, 0.010), (25, 0.045), (30, 0.10), (35, 0.11), (40, 0.05), (44, 0.009)])
        } else { 0.0 },
    }
    // Made at birth, not drawn by rate.
    BIRTH {
        diagnosis: &c::Z380, ghm: "15M05", severity: Fixed('A'), days: 3.5, readmission: 0.03, returns_for: Some(&BRONCHIOLITIS), emergency: 0.0,
    }
    DIABETES {
        diagnosis: &c::E117, ghm: "10M02", days: 7.0, readmission: 0.13, emergency: 0.5,
        rate: |p, _, at| if_has(p, Disease::Diabetes, at, 0.06),
    }
    PYELONEPHRITIS {
        diagnosis: &c::N10, ghm: "11M04", days: 5.5, readmission: 0.11, act: Some(&c::ZCQM008),
        rate: |p, age, _| by_age(age, &[(60, 0.0012), (75, 0.003), (130, 0.012)])
            * if p.sex == Sex::Woman { 1.3 } else { 0.7 },
    }
    BLEEDING {
        diagnosis: &c::K922, ghm: "06M04", days: 5.5, readmission: 0.13, act: Some(&c::HHQE005), emergency: 0.9,
        rate: |p, age, at| by_age(age, &[(50, 0.0003), (75, 0.002), (130, 0.008)])
            * if p.has(Disease::AtrialFibrillation, at) { 1.8 } else { 1.0 },
    }
    DEPRESSION {
        diagnosis: &c::F322, ghm: "19M07", days: 9.0, readmission: 0.15, emergency: 0.6,
        rate: |p, _, at| if_has(p, Disease::Depression, at, 0.035),
    }
    HERNIA {
        diagnosis: &c::K409, ghm: "06C12", severity: Fixed('J'), days: 0.0, readmission: 0.02, emergency: 0.05,
        rate: |p, age, _| by_age(age, &[(15, 0.001), (40, 0.001), (130, 0.004)])
            * if p.sex == Sex::Man { 1.7 } else { 0.3 },
    }
    CARPAL_TUNNEL {
        diagnosis: &c::G560, ghm: "01C13", severity: Fixed('J'), days: 0.0, readmission: 0.01, emergency: 0.0,
        rate: |_, age, _| by_age(age, &[(35, 0.0002), (85, 0.0035), (130, 0.001)]),
    }
    TEETH {
        diagnosis: &c::K011, ghm: "03K02", severity: Fixed('J'), days: 0.0, readmission: 0.01, emergency: 0.0,
        rate: |_, age, _| by_age(age, &[(14, 0.0005), (30, 0.020), (130, 0.001)]),
    }
    GASTROENTERITIS {
        diagnosis: &c::A099, ghm: "06M03", days: 3.0, readmission: 0.07, emergency: 0.95,
        rate: |_, age, _| by_age(age, &[(3, 0.008), (70, 0.0008), (130, 0.004)]),
    }
    BREAST {
        diagnosis: &c::C509, ghm: "09C05", days: 2.5, readmission: 0.12, emergency: 0.05,
        rate: |p, _, at| cancer(p, Disease::BreastCancer, at, 0.9, 0.05),
    }
    PROSTATE {
        diagnosis: &c::C61, ghm: "12C11", days: 5.0, readmission: 0.11, emergency: 0.05,
        rate: |p, _, at| cancer(p, Disease::ProstateCancer, at, 0.5, 0.05),
    }
    COLON {
        diagnosis: &c::C189, ghm: "06C04", days: 9.0, readmission: 0.17, emergency: 0.2,
        rate: |p, _, at| cancer(p, Disease::ColonCancer, at, 1.1, 0.10),
    }
    LUNG {
        diagnosis: &c::C349, ghm: "04M09", days: 7.5, readmission: 0.23, act: Some(&c::ZBQH001), emergency: 0.4,
        rate: |p, _, at| cancer(p, Disease::LungCancer, at, 1.6, 0.5),
    }
    CHEMOTHERAPY {
        diagnosis: &c::Z511, ghm: "17M06", days: 2.5, readmission: 0.20, emergency: 0.0, related: true,
        rate: |p, _, at| cancer(p, Disease::BreastCancer, at, 0.5, 0.02)
            + cancer(p, Disease::ColonCancer, at, 0.8, 0.05)
            + cancer(p, Disease::LungCancer, at, 1.2, 0.4),
    }
    KIDNEY {
        diagnosis: &c::N185, ghm: "11M06", days: 7.0, readmission: 0.17, emergency: 0.5,
        rate: |p, _, at| if_has(p, Disease::Kidney, at, 0.09),
    }
    FALLS {
        diagnosis: &c::R296, ghm: "23M20", days: 7.5, readmission: 0.14, emergency: 0.95,
        rate: |p, age, at| by_age(age, &[(70, 0.0), (80, 0.005), (90, 0.02), (130, 0.045)])
            * if p.has(Disease::Dementia, at) || p.has(Disease::Parkinson, at) { 2.0 } else { 1.0 },
    }
    CHEST_PAIN {
        diagnosis: &c::R074, ghm: "05M13", days: 1.5, readmission: 0.05, act: Some(&c::DEQP003), emergency: 0.95,
        rate: |_, age, _| by_age(age, &[(35, 0.0005), (130, 0.0035)]),
    }
    ASTHMA {
        diagnosis: &c::J459, ghm: "04M03", days: 3.0, readmission: 0.08, winter: true, emergency: 0.95,
        rate: |p, _, at| if_has(p, Disease::Asthma, at, 0.02),
    }
    EPILEPSY {
        diagnosis: &c::G409, ghm: "01M25", days: 4.0, readmission: 0.12, act: Some(&c::ACQN001), emergency: 0.95,
        rate: |p, _, at| if_has(p, Disease::Epilepsy, at, 0.07),
    }
}

/// Brings the total to about 0.17 stays a person-year, that of the PMSI without sessions and
/// for the reasons simulated here.
const FREQUENCY: f64 = 1.55;

/// Events a year of each reason around that day, season included, in the order of `REASONS`.
pub fn rates_at(person: &Person, at: Day) -> Vec<f64> {
    let age = person.age(at);
    let season = respiratory_season(calendar::month(at));
    REASONS
        .iter()
        .map(|reason| {
            let births = std::ptr::eq(*reason, &DELIVERY);
            (reason.rate)(person, age, at)
                * if reason.winter { season } else { 1.0 }
                * if births { 1.0 } else { FREQUENCY }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_coherent() {
        for reason in REASONS {
            assert_eq!(reason.ghm.len(), 5, "{}", reason.diagnosis.code);
            assert!((0.0..0.5).contains(&reason.readmission));
        }
    }
}
