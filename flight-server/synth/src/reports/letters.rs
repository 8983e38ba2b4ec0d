//! The three kinds of documents: discharge letters, imaging and pathology reports.

use anyhow::{Context, Result};

use super::document::Document;
use super::phrases::{
    CLOSINGS, EXAMINATIONS, LIVING, NEGATIVES, NOTICE, SALUTATIONS, STORIES, Story,
};
use super::scene::Scene;
use crate::codes::Diagnosis;
use crate::diseases::{PROFILES, Profile};
use crate::identity::pick;
use crate::people::Person;
use crate::places::of;
use crate::stays::Stay;

/// A document and the diagnoses that it states.
pub struct Written {
    pub document: Document,
    pub diagnoses: Vec<&'static str>,
}

struct Letter<'a, 'b> {
    document: Document,
    scene: &'b mut Scene<'a>,
}

impl Letter<'_, '_> {
    fn say(&mut self, template: &str) -> Result<()> {
        self.document.say(template, self.scene)
    }

    fn one_of(&mut self, templates: &[&str]) -> Result<()> {
        let template = pick(&mut self.scene.dice, templates);
        self.say(template)
    }

    /// Two different sentences, or one when there are no two.
    fn two_of(&mut self, templates: &[&str]) -> Result<()> {
        let first = self.scene.dice.below(templates.len());
        let second = (first + 1) % templates.len().max(1);
        self.say(templates.get(first).copied().unwrap_or_default())?;
        if second != first && self.scene.dice.chance(0.6) {
            self.say(" ")?;
            self.say(templates.get(second).copied().unwrap_or_default())?;
        }
        Ok(())
    }

    fn header(&mut self, service: &str) -> Result<()> {
        self.say("{HOPITAL} - Service ")?;
        self.say(&of(service))?;
        self.one_of(&[
            "\nTél. : {TEL_SERVICE}\n",
            "\nSecrétariat : {TEL_SERVICE}\n",
            "\nTéléphone {TEL_SERVICE}\n",
        ])?;
        self.say(NOTICE)?;
        self.say("\n\n")
    }

    fn patient(&mut self) -> Result<()> {
        self.one_of(&[
            "Patient{e} : {PATIENT}\nNé{e} le {NAISSANCE} à {VILLE_NAISSANCE}\nNIR : {NIR}\n",
            "Concerne : {M} {PATIENT}, né{e} le {NAISSANCE}\nIPP : {IPP}\nAdresse : {ADRESSE}\n",
            "Nom et prénom : {PATIENT}\nDate de naissance : {NAISSANCE}\nN° de sécurité sociale : {NIR}\nTéléphone : {TEL}\n",
            "{M} {PATIENT} - {NAISSANCE} - IPP {IPP}\n",
        ])
    }

    fn signature(&mut self) -> Result<()> {
        self.say("\n\n")?;
        self.one_of(SALUTATIONS)?;
        self.one_of(&[
            "\nDr {SIGNATAIRE}\n",
            "\n\nDocteur {SIGNATAIRE}\n",
            "\nPr {SIGNATAIRE}\n",
        ])
    }
}

/// Letter at the end of a stay: what brought the patient, what was found, what follows.
pub fn discharge(person: &Person, stay: &Stay, scene: &mut Scene<'_>) -> Result<Written> {
    let story = story(stay.reason.diagnosis)?;
    let mut letter = Letter {
        document: Document::default(),
        scene,
    };
    let service = service(stay.reason.ghm);
    letter.header(service)?;
    letter.say("COMPTE RENDU D'HOSPITALISATION\n\n{VILLE}, le {JOUR}\n\n")?;
    letter.patient()?;
    letter.one_of(&[
        "Médecin traitant : Dr {MEDECIN}\n\n",
        "\nCher confrère, cher Docteur {NOM_MEDECIN},\n\n",
        "Destinataire : Docteur {MEDECIN}\n\nChère consœur, cher confrère,\n\n",
    ])?;
    letter.one_of(&[
        "{M} {NOM}, {âge} ans, a été hospitalisé{e} du {ENTRÉE} au {SORTIE} pour ",
        "Votre {patient} {M} {NOM} a séjourné dans notre service du {ENTRÉE} au {SORTIE} pour ",
        "Nous avons pris en charge {M} {PATIENT} ({âge} ans) du {ENTRÉE} au {SORTIE} pour ",
    ])?;
    letter.say(story.reason)?;
    letter.say(".\n\n")?;
    let mut diagnoses = vec![stay.reason.diagnosis.code];
    history(&mut letter, person, stay, &mut diagnoses)?;
    letter.say("Mode de vie : ")?;
    letter.one_of(LIVING)?;
    letter.say("\n\nHistoire de la maladie : ")?;
    letter.two_of(story.onset)?;
    letter.say("\n\n")?;
    letter.one_of(EXAMINATIONS)?;
    letter.say(" ")?;
    letter.two_of(story.findings)?;
    letter.say(" ")?;
    letter.one_of(NEGATIVES)?;
    letter.say("\n\nÉvolution : ")?;
    letter.two_of(story.course)?;
    treatment(&mut letter, person, stay)?;
    outcome(&mut letter, stay)?;
    letter.signature()?;
    Ok(Written {
        document: letter.document,
        diagnoses,
    })
}

/// Known conditions: those of the stay's associated diagnoses are stated, and coded.
fn history(
    letter: &mut Letter<'_, '_>,
    person: &Person,
    stay: &Stay,
    diagnoses: &mut Vec<&'static str>,
) -> Result<()> {
    letter.say("Antécédents : ")?;
    let known: Vec<&Profile> = person
        .conditions_at(stay.entry)
        .filter_map(|(disease, _)| PROFILES.get(disease as usize))
        .filter(|profile| {
            stay.associated
                .iter()
                .any(|diagnosis| diagnosis.code == profile.diagnosis.code)
        })
        .collect();
    if known.is_empty() {
        letter.one_of(&[
            "aucun antécédent notable",
            "pas d'antécédent médical ni chirurgical",
            "appendicectomie dans l'enfance",
        ])?;
    }
    for (rank, profile) in known.iter().enumerate() {
        letter.say(if rank == 0 { "" } else { ", " })?;
        letter.say(&lower_first(profile.diagnosis.label))?;
        diagnoses.push(profile.diagnosis.code);
    }
    letter.one_of(&[
        ". Pas d'allergie connue.\n",
        ". Père décédé d'un cancer du poumon.\n",
        ".\n",
    ])
}

fn treatment(letter: &mut Letter<'_, '_>, person: &Person, stay: &Stay) -> Result<()> {
    letter.say("\n\nTraitement de sortie : ")?;
    let mut drugs: Vec<&'static str> = person
        .conditions_at(stay.exit)
        .filter_map(|(disease, _)| PROFILES.get(disease as usize))
        .flat_map(|profile| profile.drugs)
        .filter(|(_, share)| *share >= 0.5)
        .map(|(drug, _)| drug.name)
        .collect();
    drugs.sort_unstable();
    drugs.dedup();
    drugs.truncate(6);
    if drugs.is_empty() {
        drugs.push("PARACETAMOL 1 g cpr");
    }
    for (rank, drug) in drugs.iter().enumerate() {
        let dose = pick(
            &mut letter.scene.dice,
            &["1-0-0", "1 matin et soir", "0-0-1", "1 cp x 3/jour"],
        );
        let separator = if rank == 0 { "" } else { " ; " };
        letter.say(&format!("{separator}{drug} {dose}"))?;
    }
    letter.say(".")
}

fn outcome(letter: &mut Letter<'_, '_>, stay: &Stay) -> Result<()> {
    match stay.exit_mode {
        '9' => letter.say("\n\nMalgré les soins, {le_patient} est décédé{e} le {SORTIE}, {proche} {PROCHE} étant présent à ses côtés."),
        '6' => {
            letter.say("\n\nTransfert en soins de suite le {SORTIE}. ")?;
            letter.one_of(CLOSINGS)
        }
        _ => {
            letter.say("\n\nRetour à domicile le {SORTIE}. ")?;
            letter.two_of(CLOSINGS)
        }
    }
}

/// Report of an imaging examination made during a stay.
pub fn imaging(stay: &Stay, scene: &mut Scene<'_>) -> Result<Written> {
    let story = story(stay.reason.diagnosis)?;
    let mut letter = Letter {
        document: Document::default(),
        scene,
    };
    letter.header("radiologie et imagerie médicale")?;
    letter.patient()?;
    letter.say("Examen du {EXAMEN}, demandé par le Dr {NOM_MEDECIN}\n\n")?;
    let chest = stay.reason.ghm.starts_with("04") || stay.reason.ghm.starts_with("05");
    letter.one_of(if chest {
        &[
            "RADIOGRAPHIE DU THORAX DE FACE\n",
            "SCANNER THORACIQUE AVEC INJECTION\n",
        ]
    } else {
        &[
            "ÉCHOGRAPHIE ABDOMINALE\n",
            "SCANNER ABDOMINO-PELVIEN AVEC INJECTION\n",
        ]
    })?;
    letter.say("Indication : {M} {NOM}, {âge} ans, ")?;
    letter.say(story.reason)?;
    letter.say(".\nRésultats : ")?;
    let normal = letter.scene.dice.chance(0.4);
    letter.one_of(match (chest, normal) {
        (true, true) => &[
            "silhouette cardiomédiastinale de taille normale, pas d'épanchement pleural ni de pneumothorax",
            "transparence pulmonaire normale, culs-de-sac libres, pas de foyer",
        ],
        (true, false) => &[
            "index cardiothoracique à 0,58, redistribution vasculaire vers les sommets, culs-de-sac libres",
            "opacité alvéolaire systématisée du lobe inférieur gauche, sans excavation",
            "nodule du lobe supérieur droit de {mm} mm, non connu ; pas d'adénopathie",
        ],
        (false, true) => &[
            "foie de taille normale, homogène, sans lésion focale ; vésicule alithiasique",
            "pas de dilatation des cavités pyélocalicielles, reins de taille normale",
            "pas d'épanchement intrapéritonéal, pas de pneumopéritoine",
        ],
        (false, false) => &[
            "lésion arrondie de {mm} mm, bien limitée, d'allure bénigne, stable par rapport à l'examen antérieur",
            "infiltration de la graisse adjacente et épaississement pariétal de {mm} mm, sans collection",
        ],
    })?;
    letter.say(". ")?;
    letter.one_of(NEGATIVES)?;
    letter.one_of(if normal {
        &[
            "\nConclusion : examen sans particularité.",
            "\nConclusion : pas d'anomalie décelable.",
        ]
    } else {
        &[
            "\nConclusion : anomalies décrites ci-dessus, à confronter à la clinique.",
            "\nConclusion : contrôle conseillé dans {semaines} semaines.",
        ]
    })?;
    letter.signature()?;
    Ok(Written {
        document: letter.document,
        diagnoses: vec![stay.reason.diagnosis.code],
    })
}

/// Pathology report of a specimen taken during a stay.
pub fn pathology(stay: &Stay, scene: &mut Scene<'_>) -> Result<Written> {
    let mut letter = Letter {
        document: Document::default(),
        scene,
    };
    letter.header("anatomie et cytologie pathologiques")?;
    letter.patient()?;
    letter.say(
        "Prélèvement reçu le {EXAMEN}, adressé par le Dr {MEDECIN}. Compte rendu du {JOUR}.\n\n",
    )?;
    let (specimen, lines): (&str, &[&str]) = match stay.reason.diagnosis.code {
        "C509" => (
            "tumorectomie du sein",
            &[
                "Carcinome infiltrant de type non spécifique, grade 2 de Scarff, Bloom et Richardson, de {mm} mm. Récepteurs aux œstrogènes positifs, HER2 négatif. Limites saines.",
                "Carcinome lobulaire infiltrant de {mm} mm, absence d'embole vasculaire. Ganglion sentinelle indemne.",
            ],
        ),
        "C61" => (
            "biopsies prostatiques",
            &[
                "Adénocarcinome de la prostate, score de Gleason 7 (3+4), intéressant trois fragments sur douze.",
                "Adénocarcinome acineux, score de Gleason 6 (3+3). Pas d'engainement périnerveux.",
            ],
        ),
        "C189" => (
            "pièce de colectomie",
            &[
                "Adénocarcinome lieberkühnien moyennement différencié du côlon, infiltrant la sous-séreuse. Quinze ganglions examinés, tous indemnes.",
                "Adénocarcinome du côlon de {mm} mm, deux ganglions métastatiques sur dix-huit. Limites de résection saines.",
            ],
        ),
        "C349" => (
            "biopsies bronchiques",
            &[
                "Adénocarcinome pulmonaire, TTF1 positif. Recherche de mutation EGFR en cours.",
                "Carcinome épidermoïde moyennement différencié, p40 positif.",
            ],
        ),
        "K635" => (
            "polypes du côlon",
            &[
                "Adénome tubuleux en dysplasie de bas grade, exérèse complète. Absence de carcinome.",
                "Polype hyperplasique, pas de dysplasie.",
            ],
        ),
        _ => (
            "pièce opératoire",
            &[
                "Lésions inflammatoires non spécifiques. Absence de signe de malignité.",
                "Remaniements fibreux et inflammatoires chroniques, pas de tumeur.",
            ],
        ),
    };
    letter.say("Renseignements cliniques : ")?;
    letter.say(story(stay.reason.diagnosis)?.reason)?;
    letter.say(", {M} {NOM}, {âge} ans.\nPrélèvement : ")?;
    letter.say(specimen)?;
    letter.say(".\nMicroscopie et conclusion : ")?;
    letter.one_of(lines)?;
    letter.signature()?;
    Ok(Written {
        document: letter.document,
        diagnoses: vec![stay.reason.diagnosis.code],
    })
}

fn story(diagnosis: &Diagnosis) -> Result<&'static Story> {
    STORIES
        .iter()
        .find(|story| story.code == diagnosis.code)
        .with_context(|| format!("no story for the diagnosis `{}`", diagnosis.code))
}

fn lower_first(label: &str) -> String {
    let mut letters = label.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}

/// The service, by major category of the GHM.
fn service(ghm: &str) -> &'static str {
    match ghm.get(..2) {
        Some("01") => "neurologie",
        Some("02") => "ophtalmologie",
        Some("04") => "pneumologie",
        Some("05") => "cardiologie",
        Some("06" | "07") => "chirurgie digestive et gastro-entérologie",
        Some("08") => "chirurgie orthopédique",
        Some("09" | "17") => "oncologie",
        Some("10") => "diabétologie",
        Some("11" | "12") => "néphrologie et urologie",
        Some("14" | "15") => "maternité",
        Some("19") => "psychiatrie",
        _ => "médecine polyvalente",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reasons::REASONS;

    #[test]
    fn each_reason_has_a_story() {
        for reason in REASONS {
            assert!(story(reason.diagnosis).is_ok(), "{}", reason.diagnosis.code);
        }
    }
}
