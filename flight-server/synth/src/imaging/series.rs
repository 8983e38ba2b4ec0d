//! What the files of a series say of the examination, the patient and the geometry.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;

use super::file::Attribute;
use crate::calendar::{self, Day};
use crate::dice::Dice;
use crate::identity::{self, Identity};
use crate::people::{Person, Sex};
use crate::places::of_town;

/// Who is examined, when and how.
pub struct Subject<'a> {
    pub seed: u64,
    pub person: &'a Person,
    pub day: Day,
    pub modality: &'static str,
    pub class: &'static str,
    pub description: &'static str,
    pub part: &'static str,
}

pub struct Series {
    shared: Vec<Attribute>,
    /// Distinguishes the UIDs of the series.
    root: u64,
}

impl Series {
    pub fn new(subject: &Subject<'_>, dice: &mut Dice) -> Self {
        let root = dice.word() >> 1;
        let mut series = Self {
            shared: Vec::new(),
            root,
        };
        series.examination(subject, dice);
        series.patient(subject);
        series.geometry(subject.modality);
        series
    }

    fn put(&mut self, tag: Tag, vr: VR, value: impl Into<String>) {
        self.shared.push((tag, vr, value.into()));
    }

    fn examination(&mut self, subject: &Subject<'_>, dice: &mut Dice) {
        let day = date_text(subject.day);
        let (hour, minute, second) = (dice.range(8, 18), dice.range(0, 59), dice.range(0, 59));
        let time = format!("{hour:02}{minute:02}{second:02}");
        let department = subject.person.department();
        let (postal, town) = (department.postal, department.town);
        let root = self.root;
        self.put(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
        self.put(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY");
        self.put(tags::SOP_CLASS_UID, VR::UI, subject.class);
        for tag in [tags::STUDY_DATE, tags::SERIES_DATE, tags::CONTENT_DATE] {
            self.put(tag, VR::DA, day.clone());
        }
        for tag in [tags::STUDY_TIME, tags::CONTENT_TIME] {
            self.put(tag, VR::TM, time.clone());
        }
        let accession = format!("A{:09}", dice.below(1_000_000_000));
        self.put(tags::ACCESSION_NUMBER, VR::SH, accession);
        self.put(tags::MODALITY, VR::CS, subject.modality);
        self.put(tags::MANUFACTURER, VR::LO, "Hubflight (synthetic)");
        let hospital = format!("CH {}", of_town(town));
        self.put(tags::INSTITUTION_NAME, VR::LO, hospital);
        let address = format!("1 rue de l'Hôpital {postal} {town}");
        self.put(tags::INSTITUTION_ADDRESS, VR::ST, address);
        let station = format!("RADIO{}", dice.range(1, 9));
        self.put(tags::STATION_NAME, VR::SH, station);
        for tag in [tags::REFERRING_PHYSICIAN_NAME, tags::OPERATORS_NAME] {
            self.put(tag, VR::PN, doctor(dice));
        }
        self.put(tags::STUDY_DESCRIPTION, VR::LO, subject.description);
        self.put(tags::BODY_PART_EXAMINED, VR::CS, subject.part);
        self.put(tags::STUDY_INSTANCE_UID, VR::UI, format!("2.25.{root}1"));
        self.put(tags::SERIES_INSTANCE_UID, VR::UI, format!("2.25.{root}2"));
        self.put(tags::STUDY_ID, VR::SH, dice.below(100_000).to_string());
        self.put(tags::SERIES_NUMBER, VR::IS, "1");
        self.put(tags::BURNED_IN_ANNOTATION, VR::CS, "NO");
    }

    fn patient(&mut self, subject: &Subject<'_>) {
        let person = subject.person;
        let who = Identity::of(subject.seed, person);
        let sex = if person.sex == Sex::Woman { "F" } else { "M" };
        let name = format!("{}^{}", who.surname.to_uppercase(), who.given);
        self.put(tags::PATIENT_NAME, VR::PN, name);
        self.put(tags::PATIENT_ID, VR::LO, who.patient_number);
        self.put(tags::PATIENT_BIRTH_DATE, VR::DA, date_text(person.birth));
        self.put(tags::PATIENT_SEX, VR::CS, sex);
        let age = format!("{:03}Y", person.age(subject.day));
        self.put(tags::PATIENT_AGE, VR::AS, age);
        // Retired, and still met: a second number of the patient, here the NIR.
        self.put(Tag(0x0010, 0x1000), VR::LO, who.nir);
        let address = format!("{} {} {}", who.street, who.postal, who.town);
        self.put(tags::PATIENT_ADDRESS, VR::LO, address);
        let phone = who.phone.replace([' ', '.'], "");
        self.put(tags::PATIENT_TELEPHONE_NUMBERS, VR::SH, phone);
        let notice = "Image synthétique : patient fictif";
        self.put(tags::PATIENT_COMMENTS, VR::LT, notice);
        // A private block that repeats the patient's name, as some scanners do.
        self.put(Tag(0x0009, 0x0010), VR::LO, "HUBFLIGHT SYNTH");
        let name = format!("{} {}", who.surname, who.given);
        self.put(Tag(0x0009, 0x1001), VR::LO, name);
    }

    fn geometry(&mut self, modality: &str) {
        const SPACING: &str = "1.4\\1.4";
        if is_slice(modality) {
            self.put(tags::SLICE_THICKNESS, VR::DS, "5");
            let orientation = "1\\0\\0\\0\\1\\0";
            self.put(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, orientation);
        }
        if is_slice(modality) || modality == "CR" {
            self.put(tags::PIXEL_SPACING, VR::DS, SPACING);
        }
        if modality == "DX" {
            self.put(tags::IMAGER_PIXEL_SPACING, VR::DS, SPACING);
            self.put(tags::VIEW_POSITION, VR::CS, "PA");
        }
    }

    /// The attributes of one instance: those of the series, and its own.
    pub fn attributes(&self, slice: usize, modality: &str, dice: &mut Dice) -> Vec<Attribute> {
        let unique = dice.word() >> 32;
        let uid = format!("2.25.{}3{slice}{unique}", self.root);
        let mut attributes = self.shared.clone();
        attributes.push((tags::SOP_INSTANCE_UID, VR::UI, uid));
        attributes.push((tags::INSTANCE_NUMBER, VR::IS, (slice + 1).to_string()));
        if is_slice(modality) {
            let position = format!("-180\\-180\\{}", slice * 5);
            attributes.push((tags::IMAGE_POSITION_PATIENT, VR::DS, position));
        }
        attributes
    }
}

fn is_slice(modality: &str) -> bool {
    matches!(modality, "CT" | "MR")
}

fn doctor(dice: &mut Dice) -> String {
    let sex = if dice.chance(0.5) {
        Sex::Woman
    } else {
        Sex::Man
    };
    let given = identity::given_name(sex, dice);
    format!("{}^{given}^^Dr", identity::surname(dice).to_uppercase())
}

fn date_text(day: Day) -> String {
    calendar::date(day).format("%Y%m%d").to_string()
}
