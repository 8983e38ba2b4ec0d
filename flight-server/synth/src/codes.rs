//! The codes that the data use: diagnoses (CIM-10 as the PMSI writes it, without a dot), drugs
//! (ATC, CIP), acts (CCAM) and natures of care (the SNDS's PRS_NAT_REF), with French labels.
//!
//! Each code is a constant, so that a rule which names one that does not exist cannot compile.

use std::fmt::Write as _;

#[derive(Debug)]
pub struct Diagnosis {
    pub code: &'static str,
    pub label: &'static str,
}

macro_rules! diagnoses {
    ($($name:ident $label:literal),* $(,)?) => {
        $(pub static $name: Diagnosis = Diagnosis { code: stringify!($name), label: $label };)*
        pub static DIAGNOSES: &[&Diagnosis] = &[$(&$name),*];
    };
}

diagnoses![
    A099 "Gastroentérite et colite d'origine non précisée",
    C189 "Tumeur maligne du côlon, sans précision",
    C349 "Tumeur maligne de bronche ou du poumon, sans précision",
    C509 "Tumeur maligne du sein, sans précision",
    C61 "Tumeur maligne de la prostate",
    D120 "Tumeur bénigne du cæcum",
    D509 "Anémie par carence en fer, sans précision",
    D649 "Anémie, sans précision",
    E039 "Hypothyroïdie, sans précision",
    E119 "Diabète sucré de type 2, sans complication",
    E117 "Diabète sucré de type 2, avec complications multiples",
    E440 "Malnutrition protéino-énergétique modérée",
    E669 "Obésité, sans précision",
    E785 "Hyperlipidémie, sans précision",
    E876 "Hypokaliémie",
    F03 "Démence, sans précision",
    F322 "Épisode dépressif sévère sans symptômes psychotiques",
    F329 "Épisode dépressif, sans précision",
    G20 "Maladie de Parkinson",
    G309 "Maladie d'Alzheimer, sans précision",
    G560 "Syndrome du canal carpien",
    G409 "Épilepsie, sans précision",
    H259 "Cataracte sénile, sans précision",
    I10 "Hypertension essentielle (primitive)",
    I219 "Infarctus aigu du myocarde, sans précision",
    I251 "Cardiopathie artérioscléreuse",
    I489 "Fibrillation et flutter auriculaires, sans précision",
    I500 "Insuffisance cardiaque congestive",
    I639 "Infarctus cérébral, sans précision",
    J189 "Pneumopathie, sans précision",
    J219 "Bronchiolite aiguë, sans précision",
    J441 "Maladie pulmonaire obstructive chronique avec épisodes aigus, sans précision",
    J449 "Maladie pulmonaire obstructive chronique, sans précision",
    J459 "Asthme, sans précision",
    J960 "Insuffisance respiratoire aiguë",
    K011 "Dents incluses",
    K409 "Hernie inguinale, sans occlusion ni gangrène",
    K358 "Appendicite aiguë, autre et non précisée",
    K635 "Polype du côlon",
    K802 "Calcul de la vésicule biliaire sans cholécystite",
    K922 "Hémorragie gastro-intestinale, sans précision",
    M161 "Coxarthrose primaire unilatérale",
    M171 "Gonarthrose primaire unilatérale",
    M179 "Gonarthrose, sans précision",
    N10 "Néphrite tubulo-interstitielle aiguë",
    N183 "Maladie rénale chronique, stade 3",
    N185 "Maladie rénale chronique, stade 5",
    N390 "Infection des voies urinaires, siège non précisé",
    O800 "Accouchement spontané par présentation du sommet",
    R074 "Douleur thoracique, sans précision",
    R296 "Chutes à répétition",
    S7200 "Fracture fermée du col du fémur",
    U0710 "COVID-19, forme respiratoire, virus identifié",
    Z370 "Naissance unique, enfant vivant",
    Z380 "Enfant unique, né à l'hôpital",
    Z511 "Séance de chimiothérapie pour tumeur",
    Z501 "Autres thérapies physiques",
];

#[derive(Debug)]
pub struct Drug {
    pub atc: &'static str,
    pub substance: &'static str,
    pub name: &'static str,
    /// Short CIP code, 7 digits.
    pub cip7: u32,
    /// Price of a box, euro cents.
    pub price: i64,
    /// Share reimbursed without exemption, percent.
    pub rate: i32,
}

impl Drug {
    /// CIP13: prefix 34009, the CIP7, and the EAN-13 check digit.
    pub fn cip13(&self) -> String {
        let mut code = format!("34009{:07}", self.cip7);
        let sum: u32 = code
            .bytes()
            .zip([1, 3].iter().cycle())
            .map(|(digit, weight)| u32::from(digit - b'0') * weight)
            .sum();
        let _ = write!(code, "{}", (10 - sum % 10) % 10);
        code
    }
}

macro_rules! drugs {
    ($($id:ident $atc:literal $substance:literal $name:literal $cip7:literal $price:literal $rate:literal),* $(,)?) => {
        $(pub static $id: Drug = Drug {
            atc: $atc, substance: $substance, name: $name, cip7: $cip7, price: $price, rate: $rate,
        };)*
        pub static DRUGS: &[&Drug] = &[$(&$id),*];
    };
}

drugs![
    ALPRAZOLAM "N05BA12" "alprazolam" "ALPRAZOLAM 0,25 mg cpr" 3621478 174 65,
    AMIODARONE "C01BD01" "amiodarone" "AMIODARONE 200 mg cpr" 3523947 652 65,
    AMLODIPINE "C08CA01" "amlodipine" "AMLODIPINE 5 mg gél" 3732180 394 65,
    AMOXICILLINE "J01CA04" "amoxicilline" "AMOXICILLINE 1 g cpr" 3585311 312 65,
    AMOXI_CLAV "J01CR02" "amoxicilline et inhibiteur d'enzyme" "AMOXICILLINE ACIDE CLAV 1 g" 3604692 561 65,
    APIXABAN "B01AF02" "apixaban" "APIXABAN 5 mg cpr" 2219363 4712 65,
    ASPIRINE "B01AC06" "acide acétylsalicylique" "ACIDE ACETYLSALICYLIQUE 75 mg" 3437126 238 65,
    ATORVASTATINE "C10AA05" "atorvastatine" "ATORVASTATINE 20 mg cpr" 2192851 562 65,
    BISOPROLOL "C07AB07" "bisoprolol" "BISOPROLOL 2,5 mg cpr" 3690014 421 65,
    BUDESONIDE_FORMOTEROL "R03AK07" "formotérol et budésonide" "BUDESONIDE FORMOTEROL 200/6" 3561877 2986 65,
    DAPAGLIFLOZINE "A10BK01" "dapagliflozine" "DAPAGLIFLOZINE 10 mg cpr" 2670427 3642 65,
    DESLORATADINE "R06AX27" "desloratadine" "DESLORATADINE 5 mg cpr" 2180429 258 30,
    DONEPEZIL "N06DA02" "donépézil" "DONEPEZIL 10 mg cpr" 2190711 1985 15,
    ESCITALOPRAM "N06AB10" "escitalopram" "ESCITALOPRAM 10 mg cpr" 2213208 512 65,
    ETHINYLESTRADIOL "G03AA07" "lévonorgestrel et éthinylestradiol" "LEVONORGESTREL EE 20 µg/100 µg" 3698211 487 65,
    FER "B03AA07" "sulfate ferreux" "SULFATE FERREUX 80 mg" 3330918 272 65,
    FUROSEMIDE "C03CA01" "furosémide" "FUROSEMIDE 40 mg cpr" 3535602 231 65,
    GLICLAZIDE "A10BB09" "gliclazide" "GLICLAZIDE 60 mg cpr LM" 2164826 488 65,
    HYDROCHLOROTHIAZIDE "C03AA03" "hydrochlorothiazide" "HYDROCHLOROTHIAZIDE 25 mg" 3078841 267 65,
    IBUPROFENE "M01AE01" "ibuprofène" "IBUPROFENE 400 mg cpr" 3647732 203 65,
    INSULINE_GLARGINE "A10AE04" "insuline glargine" "INSULINE GLARGINE 100 U/ml" 3539724 4318 65,
    LETROZOLE "L02BG04" "létrozole" "LETROZOLE 2,5 mg cpr" 2186308 3870 100,
    LEUPRORELINE "L02AE02" "leuproréline" "LEUPRORELINE 22,5 mg" 3692266 28950 100,
    LEVETIRACETAM "N03AX14" "lévétiracétam" "LEVETIRACETAM 500 mg cpr" 2199014 1744 65,
    LEVODOPA "N04BA02" "lévodopa et inhibiteur de décarboxylase" "LEVODOPA BENSERAZIDE 125 mg" 3266153 1203 65,
    LEVOTHYROXINE "H03AA01" "lévothyroxine sodique" "LEVOTHYROXINE 75 µg cpr" 3374018 264 65,
    LOSARTAN "C09CA01" "losartan" "LOSARTAN 50 mg cpr" 2206735 581 65,
    METFORMINE "A10BA02" "metformine" "METFORMINE 1000 mg cpr" 3608347 398 65,
    MORPHINE "N02AA01" "morphine" "MORPHINE 10 mg gél LP" 3371120 478 65,
    OMEPRAZOLE "A02BC01" "oméprazole" "OMEPRAZOLE 20 mg gél" 3668119 398 65,
    PARACETAMOL "N02BE01" "paracétamol" "PARACETAMOL 1 g cpr" 3595831 208 65,
    PREDNISOLONE "H02AB06" "prednisolone" "PREDNISOLONE 20 mg cpr orod" 3436835 334 65,
    RAMIPRIL "C09AA05" "ramipril" "RAMIPRIL 5 mg cpr" 3744617 511 65,
    RIVAROXABAN "B01AF01" "rivaroxaban" "RIVAROXABAN 20 mg cpr" 2194967 4690 65,
    SALBUTAMOL "R03AC02" "salbutamol" "SALBUTAMOL 100 µg susp inh" 3400217 283 65,
    SERTRALINE "N06AB06" "sertraline" "SERTRALINE 50 mg gél" 3701438 473 65,
    SEVELAMER "V03AE02" "sévélamer" "SEVELAMER 800 mg cpr" 2239512 6512 65,
    SITAGLIPTINE "A10BH01" "sitagliptine" "SITAGLIPTINE 100 mg cpr" 3769570 1645 65,
    SPIRONOLACTONE "C03DA01" "spironolactone" "SPIRONOLACTONE 25 mg cpr" 3458257 455 65,
    TIOTROPIUM "R03BB04" "bromure de tiotropium" "TIOTROPIUM 18 µg gél inh" 3688716 2861 65,
    TRAMADOL "N02AX02" "tramadol" "TRAMADOL 50 mg gél" 3507815 321 65,
    VACCIN_GRIPPE "J07BB02" "virus grippal inactivé, fragmenté ou antigène de surface" "VACCIN GRIPPE TETRAVALENT" 3006721 1190 65,
    VENLAFAXINE "N06AX16" "venlafaxine" "VENLAFAXINE 75 mg gél LP" 3781246 634 65,
];

#[derive(Debug)]
pub struct Act {
    pub code: &'static str,
    pub label: &'static str,
    /// Tariff, euro cents.
    pub price: i64,
    pub nature: &'static Nature,
}

macro_rules! acts {
    ($($name:ident $price:literal $nature:ident $label:literal),* $(,)?) => {
        $(pub static $name: Act = Act {
            code: stringify!($name), label: $label, price: $price, nature: &$nature,
        };)*
        pub static ACTS: &[&Act] = &[$(&$name),*];
    };
}

acts![
    ACQN001 6900 IMAGING "Remnographie [IRM] du crâne et de son contenu, sans injection intraveineuse de produit de contraste",
    BFGA004 27170 TECHNICAL "Extraction extracapsulaire du cristallin par phakoémulsification, avec implantation de cristallin artificiel",
    BGQP002 2829 TECHNICAL "Examen du fond d'œil par biomicroscopie avec verre de contact",
    BLQP010 2550 TECHNICAL "Examen fonctionnel de la motricité oculaire",
    DEQP003 1426 TECHNICAL "Électrocardiographie sur au moins 12 dérivations",
    DZQM006 9649 ULTRASOUND "Échographie-doppler transthoracique du cœur et des vaisseaux intrathoraciques",
    GLQP012 3788 TECHNICAL "Mesure de la capacité vitale lente et de l'expiration forcée, avec enregistrement [Spirométrie standard]",
    HBJD001 2892 DENTAL "Détartrage et polissage des dents",
    HHFA016 16980 TECHNICAL "Appendicectomie, par cœlioscopie",
    HHFE002 11520 TECHNICAL "Exérèse de 1 à 3 polypes du côlon et/ou du rectum, par endoscopie",
    HHQE005 14592 TECHNICAL "Coloscopie totale avec visualisation du bas-fond cæcal",
    HMFC004 26240 TECHNICAL "Cholécystectomie, par cœlioscopie",
    JQGD010 31350 TECHNICAL "Accouchement céphalique unique par voie naturelle, chez une multipare",
    NEKA020 45975 TECHNICAL "Remplacement de l'articulation coxofémorale par prothèse totale",
    NFKA007 47650 TECHNICAL "Remplacement de l'articulation du genou par prothèse tricompartimentaire",
    NFQK001 1995 IMAGING "Radiographie du genou selon 1 ou 2 incidences",
    QEQK001 6642 IMAGING "Mammographie bilatérale",
    ZBQH001 2527 IMAGING "Scanographie du thorax, avec injection intraveineuse de produit de contraste",
    ZBQK002 2128 IMAGING "Radiographie du thorax",
    ZCQM008 5670 ULTRASOUND "Échographie transcutanée de l'abdomen",
];

/// Nature of a reimbursed service (PRS_NAT_REF).
#[derive(Debug)]
pub struct Nature {
    pub code: i32,
    pub label: &'static str,
    /// Usual price, euro cents; drugs and acts have their own.
    pub price: i64,
    /// Share reimbursed without exemption, percent.
    pub rate: i32,
    /// Specialty of the professional who does it (PSE_SPE_COD).
    pub specialty: i32,
}

macro_rules! natures {
    ($($name:ident $code:literal $price:literal $rate:literal $specialty:literal $label:literal),* $(,)?) => {
        $(pub static $name: Nature = Nature {
            code: $code, label: $label, price: $price, rate: $rate, specialty: $specialty,
        };)*
        pub static NATURES: &[&Nature] = &[$(&$name),*];
    };
}

natures![
    GENERALIST 1110 2650 70 1 "Consultation médecine générale",
    SPECIALIST 1112 3150 70 0 "Consultation cotée CS",
    CARDIOLOGIST 1114 5473 70 3 "Consultation spécifique cardiologie",
    REMOTE 1192 2500 70 1 "Téléconsultation généraliste",
    HOME_VISIT 1210 3650 70 1 "Visite médecine générale",
    ULTRASOUND 1324 0 70 6 "Acte d'échographie CCAM",
    IMAGING 1351 0 70 6 "Acte d'imagerie (hors échographie) CCAM",
    TECHNICAL 1352 0 70 0 "Actes techniques médicaux (hors imagerie) CCAM",
    DENTAL 1451 0 60 19 "Soins dentaires",
    MIDWIFE 1911 2800 70 21 "Actes des sages-femmes",
    NURSE 3112 1050 60 24 "Actes infirmiers de soins",
    PHYSIOTHERAPIST 3125 1661 60 26 "Actes de kinésithérapie ostéo-articulaire",
    BIOLOGY 3211 2700 60 30 "Actes de biologie",
    PHARMACY_100 3311 0 100 50 "Pharmacie 100 %",
    PHARMACY_30 3312 0 30 50 "Pharmacie PH4",
    PHARMACY_65 3313 0 65 50 "Pharmacie 65 %",
    VACCINE 3331 0 65 50 "Vaccin anti-grippe",
    PHARMACY_15 3341 0 15 50 "Pharmacie 15 %",
];

/// Specialties and professions (PSE_SPE_COD, PSP_SPE_COD).
pub static SPECIALTIES: &[(i32, &str)] = &[
    (0, "Sans objet"),
    (1, "Médecine générale"),
    (3, "Pathologie cardio-vasculaire"),
    (4, "Chirurgie générale"),
    (5, "Dermatologie et vénéréologie"),
    (6, "Radiodiagnostic et imagerie médicale"),
    (7, "Gynécologie obstétrique"),
    (8, "Gastro-entérologie et hépatologie"),
    (13, "Pneumologie"),
    (15, "Ophtalmologie"),
    (16, "Chirurgie urologique"),
    (19, "Chirurgien-dentiste"),
    (21, "Sage-femme"),
    (24, "Infirmier"),
    (26, "Masseur-kinésithérapeute"),
    (30, "Laboratoire d'analyses médicales"),
    (32, "Neurologie"),
    (33, "Psychiatrie générale"),
    (35, "Néphrologie"),
    (42, "Endocrinologie et métabolismes"),
    (50, "Pharmacien"),
    (73, "Oncologie médicale"),
];

/// The nature under which a drug is dispensed.
pub fn pharmacy(drug: &Drug) -> &'static Nature {
    match drug.rate {
        _ if drug.atc == VACCIN_GRIPPE.atc => &VACCINE,
        100 => &PHARMACY_100,
        30 => &PHARMACY_30,
        15 => &PHARMACY_15,
        _ => &PHARMACY_65,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let cips: HashSet<u32> = DRUGS.iter().map(|drug| drug.cip7).collect();
        assert_eq!(cips.len(), DRUGS.len());
        for drug in DRUGS {
            assert_eq!(drug.atc.len(), 7, "{}", drug.atc);
            let digits: Vec<u32> = drug.cip13().bytes().map(|b| u32::from(b - b'0')).collect();
            assert_eq!(digits.len(), 13, "{}", drug.name);
            let sum: u32 = digits
                .iter()
                .enumerate()
                .map(|(place, digit)| digit * if place % 2 == 0 { 1 } else { 3 })
                .sum();
            assert_eq!(sum % 10, 0, "{}", drug.name);
        }
        for act in ACTS {
            let (letters, digits) = act.code.split_at(4);
            assert!(
                letters.bytes().all(|b| b.is_ascii_uppercase()),
                "{}",
                act.code
            );
            assert!(digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()));
        }
        let diagnoses: HashSet<&str> = DIAGNOSES.iter().map(|d| d.code).collect();
        assert_eq!(diagnoses.len(), DIAGNOSES.len());
        let natures: HashSet<i32> = NATURES.iter().map(|n| n.code).collect();
        assert_eq!(natures.len(), NATURES.len());
    }

    #[test]
    fn the_check_digit_is_that_of_a_known_code() {
        // Doliprane 1000 mg, 8 tablets: CIP7 3595583, CIP13 3400935955838 (public database of
        // medicines).
        let drug = Drug {
            cip7: 3_595_583,
            atc: "N02BE01",
            substance: "paracétamol",
            name: "",
            price: 0,
            rate: 65,
        };
        assert_eq!(drug.cip13(), "3400935955838");
    }
}
