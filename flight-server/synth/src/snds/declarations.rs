//! The tables of `snds` and their columns, documented.

use hubflight_rights::dataset::PersonPath;

use crate::tables::{Col, Declaration, by_person};

pub struct Tables {
    pub persons: Declaration,
    pub conditions: Declaration,
    pub claims: Declaration,
    pub drugs: Declaration,
    pub acts: Declaration,
    pub stays: Declaration,
    pub diagnoses: Declaration,
    pub stay_acts: Declaration,
    pub cim: Declaration,
    pub atc: Declaration,
    pub pharmacy: Declaration,
    pub ccam: Declaration,
    pub natures: Declaration,
    pub specialties: Declaration,
}

/// Rows of a row group of claims: a date range of a few months in each part.
const CLAIMS_GROUP_ROWS: usize = 131_072;
const STAYS_GROUP_ROWS: usize = 32_768;
const LABELS_GROUP_ROWS: usize = 8192;

/// The nine columns that identify a line of reimbursement in the SNDS.
const LINE_KEY: &[&str] = &[
    "flx_dis_dtd",
    "flx_trt_dtd",
    "flx_emt_typ",
    "flx_emt_num",
    "flx_emt_ord",
    "org_cle_num",
    "dct_ord_num",
    "prs_ord_num",
    "rem_typ_aff",
];

impl Tables {
    pub fn new() -> Self {
        Self {
            persons: persons(),
            conditions: conditions(),
            claims: claims(),
            drugs: drugs(),
            acts: acts(),
            stays: stays(),
            diagnoses: diagnoses(),
            stay_acts: stay_acts(),
            cim: labels(
                "ir_cim_v",
                "Libellés des diagnostics (CIM-10, sans point)",
                &["cim_cod"],
                vec![
                    Col::text("cim_cod", "Code CIM-10"),
                    Col::text("cim_lib", "Libellé"),
                    Col::int(
                        "ald_030_cod",
                        "Numéro de l'affection de longue durée (ALD 30) dont le code relève",
                    )
                    .nullable(),
                ],
            ),
            atc: labels(
                "ir_atc_v",
                "Libellés des substances (classification ATC, 7 caractères)",
                &["atc_cod"],
                vec![
                    Col::text("atc_cod", "Code ATC"),
                    Col::text("atc_lib", "Substance"),
                ],
            ),
            pharmacy: labels(
                "ir_pha_r",
                "Médicaments remboursables : de la boîte (CIP) à la substance (ATC)",
                &["pha_cip_c13"],
                vec![
                    Col::text("pha_cip_c13", "Code CIP à 13 chiffres"),
                    Col::int("pha_cip_ide", "Code CIP à 7 chiffres"),
                    Col::text("pha_med_nom", "Nom du médicament"),
                    Col::text("pha_atc_cla", "Code ATC"),
                    Col::text("pha_atc_lib", "Substance"),
                ],
            ),
            ccam: labels(
                "ir_ccam_v",
                "Libellés des actes (CCAM)",
                &["ccam_cod"],
                vec![
                    Col::text("ccam_cod", "Code CCAM"),
                    Col::text("ccam_lib", "Libellé"),
                ],
            ),
            natures: labels(
                "ir_nat_v",
                "Libellés des natures de prestation",
                &["prs_nat"],
                vec![
                    Col::int("prs_nat", "Nature de prestation (valeurs de prs_nat_ref)"),
                    Col::text("prs_nat_lib", "Libellé"),
                ],
            ),
            specialties: labels(
                "ir_spe_v",
                "Libellés des spécialités et professions de santé",
                &["pfs_spe_cod"],
                vec![
                    Col::int(
                        "pfs_spe_cod",
                        "Spécialité (valeurs de pse_spe_cod et psp_spe_cod)",
                    ),
                    Col::text("pfs_spe_lib", "Libellé"),
                ],
            ),
        }
    }

    pub fn all(&self) -> Vec<Declaration> {
        [
            &self.persons,
            &self.conditions,
            &self.claims,
            &self.drugs,
            &self.acts,
            &self.stays,
            &self.diagnoses,
            &self.stay_acts,
            &self.cim,
            &self.atc,
            &self.pharmacy,
            &self.ccam,
            &self.natures,
            &self.specialties,
        ]
        .map(Declaration::clone)
        .to_vec()
    }
}

fn ben_idt() -> Col {
    Col::id("ben_idt", "person", "Identifiant du bénéficiaire")
}

fn persons() -> Declaration {
    Declaration {
        name: "ir_ben_r",
        remarks: "Référentiel des bénéficiaires : un par ligne",
        person: by_person(),
        primary_key: &["ben_idt"],
        foreign_keys: &[],
        columns: vec![
            ben_idt(),
            Col::int("ben_nai_ann", "Année de naissance"),
            Col::int("ben_nai_moi", "Mois de naissance (1 à 12)"),
            Col::int("ben_sex_cod", "Sexe : 1 homme, 2 femme"),
            Col::text("ben_res_dpt", "Département de résidence (2A, 75, 974…)"),
            Col::text(
                "ben_res_com",
                "Commune de résidence (code INSEE, 5 caractères)",
            ),
            Col::date("ben_dcd_dte", "Date de décès").nullable(),
            Col::int("ben_rng_gem", "Rang de naissance"),
        ],
        sorted_by: &["ben_idt"],
        group_rows: STAYS_GROUP_ROWS,
    }
}

fn conditions() -> Declaration {
    Declaration {
        name: "ir_imb_r",
        remarks: "Affections de longue durée (ALD) : une exonération par ligne",
        person: by_person(),
        primary_key: &["ben_idt", "med_mtf_cod"],
        foreign_keys: &[
            (&["ben_idt"], "ir_ben_r", &["ben_idt"]),
            (&["med_mtf_cod"], "ir_cim_v", &["cim_cod"]),
        ],
        columns: vec![
            ben_idt(),
            Col::int("imb_ald_num", "Numéro de l'ALD (liste des 30)"),
            Col::int("imb_etm_nat", "Motif d'exonération : 41 ALD de la liste"),
            Col::text("med_mtf_cod", "Diagnostic (CIM-10, sans point)"),
            Col::date("imb_ald_dtd", "Début de l'exonération"),
            Col::date("imb_ald_dtf", "Fin de l'exonération, absente si elle court").nullable(),
        ],
        sorted_by: &["imb_ald_dtd"],
        group_rows: STAYS_GROUP_ROWS,
    }
}

/// The key of a line of reimbursement, then the person.
fn line_columns() -> Vec<Col> {
    vec![
        Col::date(
            "flx_dis_dtd",
            "Date de mise à disposition des données (clé de la ligne, 1 sur 9)",
        ),
        Col::date("flx_trt_dtd", "Date d'entrée dans le système (clé, 2)"),
        Col::int("flx_emt_typ", "Type d'émetteur (clé, 3)"),
        Col::int("flx_emt_num", "Numéro de l'émetteur (clé, 4)"),
        Col::int("flx_emt_ord", "Numéro de séquence du flux (clé, 5)"),
        Col::text("org_cle_num", "Organisme de liquidation (clé, 6)"),
        Col::id("dct_ord_num", "claim", "Décompte (clé, 7)"),
        Col::int("prs_ord_num", "Rang de la ligne dans le décompte (clé, 8)"),
        Col::int("rem_typ_aff", "Type de remboursement (clé, 9)"),
        ben_idt(),
        Col::date("exe_soi_dtd", "Date de début des soins"),
    ]
}

fn claims() -> Declaration {
    let mut columns = line_columns();
    columns.extend([
        Col::date("exe_soi_dtf", "Date de fin des soins"),
        Col::int(
            "prs_nat_ref",
            "Nature de la prestation (libellés : ir_nat_v)",
        ),
        Col::int("prs_act_qte", "Quantité"),
        Col::euros("prs_pai_mnt", "Montant payé"),
        Col::euros("bse_rem_bse", "Base de remboursement"),
        Col::euros(
            "bse_rem_mnt",
            "Montant remboursé par l'assurance maladie obligatoire",
        ),
        Col::int("rgo_rem_tau", "Taux de remboursement").unit("%"),
        Col::int(
            "pse_spe_cod",
            "Spécialité du professionnel exécutant (libellés : ir_spe_v)",
        ),
        Col::int(
            "psp_spe_cod",
            "Spécialité du prescripteur, 0 s'il n'y en a pas",
        ),
    ]);
    Declaration {
        name: "er_prs_f",
        remarks: "Prestations remboursées en ville : une par ligne",
        person: by_person(),
        primary_key: LINE_KEY,
        foreign_keys: &[
            (&["ben_idt"], "ir_ben_r", &["ben_idt"]),
            (&["prs_nat_ref"], "ir_nat_v", &["prs_nat"]),
        ],
        columns,
        sorted_by: &["exe_soi_dtd"],
        group_rows: CLAIMS_GROUP_ROWS,
    }
}

fn drugs() -> Declaration {
    let mut columns = line_columns();
    columns.extend([
        Col::text("pha_prs_c13", "Médicament délivré (CIP à 13 chiffres)"),
        Col::int("pha_prs_ide", "Médicament délivré (CIP à 7 chiffres)"),
        Col::text("pha_atc_cla", "Substance (ATC, 7 caractères)"),
        Col::int("pha_act_qsn", "Boîtes délivrées"),
        Col::euros("pha_act_pru", "Prix d'une boîte"),
    ]);
    Declaration {
        name: "er_pha_f",
        remarks: "Médicaments délivrés : complète les lignes de pharmacie d'er_prs_f",
        person: by_person(),
        primary_key: LINE_KEY,
        foreign_keys: &[
            (LINE_KEY, "er_prs_f", LINE_KEY),
            (&["ben_idt"], "ir_ben_r", &["ben_idt"]),
            (&["pha_prs_c13"], "ir_pha_r", &["pha_cip_c13"]),
            (&["pha_atc_cla"], "ir_atc_v", &["atc_cod"]),
        ],
        columns,
        sorted_by: &["exe_soi_dtd"],
        group_rows: CLAIMS_GROUP_ROWS,
    }
}

fn acts() -> Declaration {
    let mut columns = line_columns();
    columns.extend([
        Col::text("cam_prs_ide", "Acte (CCAM)"),
        Col::int("cam_act_cod", "Activité : 1 acte principal"),
        Col::int("cam_trt_pha", "Phase de traitement"),
        Col::int("cam_act_qsn", "Nombre d'actes"),
    ]);
    Declaration {
        name: "er_cam_f",
        remarks: "Actes techniques (CCAM) : complète les lignes d'actes d'er_prs_f",
        person: by_person(),
        primary_key: LINE_KEY,
        foreign_keys: &[
            (LINE_KEY, "er_prs_f", LINE_KEY),
            (&["ben_idt"], "ir_ben_r", &["ben_idt"]),
            (&["cam_prs_ide"], "ir_ccam_v", &["ccam_cod"]),
        ],
        columns,
        sorted_by: &["exe_soi_dtd"],
        group_rows: CLAIMS_GROUP_ROWS,
    }
}

fn stays() -> Declaration {
    Declaration {
        name: "t_mco_b",
        remarks: "Séjours hospitaliers (médecine, chirurgie, obstétrique) : un par ligne",
        person: by_person(),
        primary_key: &["eta_num", "rsa_num"],
        foreign_keys: &[
            (&["ben_idt"], "ir_ben_r", &["ben_idt"]),
            (&["dgn_pal"], "ir_cim_v", &["cim_cod"]),
        ],
        columns: vec![
            Col::id("eta_num", "establishment", "Établissement"),
            Col::id("rsa_num", "stay", "Séjour"),
            ben_idt(),
            Col::date("ent_dat", "Date d'entrée"),
            Col::date("sor_dat", "Date de sortie"),
            Col::text("dgn_pal", "Diagnostic principal (CIM-10, sans point)"),
            Col::text("dgn_rel", "Diagnostic relié").nullable(),
            Col::text("grg_ghm", "Groupe homogène de malades"),
            Col::text("ent_mod", "Mode d'entrée : 7 transfert, 8 domicile"),
            Col::text("ent_prv", "Provenance : 5 passage aux urgences").nullable(),
            Col::text(
                "sor_mod",
                "Mode de sortie : 6 mutation, 8 domicile, 9 décès",
            ),
            Col::int("sej_nbj", "Nuits passées").unit("j"),
            Col::int("age_ann", "Âge à l'entrée").unit("années"),
            Col::text("cod_sex", "Sexe : 1 homme, 2 femme"),
            Col::int("nbr_dgn", "Nombre de diagnostics associés"),
        ],
        sorted_by: &["ent_dat"],
        group_rows: STAYS_GROUP_ROWS,
    }
}

/// The rows of a stay lead to a person through `t_mco_b`.
fn by_stay() -> PersonPath {
    let same = |name: &str| (name.to_owned(), name.to_owned());
    PersonPath::Parent {
        table: "t_mco_b".to_owned(),
        on: vec![same("eta_num"), same("rsa_num")],
    }
}

fn diagnoses() -> Declaration {
    Declaration {
        name: "t_mco_d",
        remarks: "Diagnostics associés des séjours : un par ligne",
        person: by_stay(),
        primary_key: &["eta_num", "rsa_num", "ass_dgn"],
        foreign_keys: &[
            (&["eta_num", "rsa_num"], "t_mco_b", &["eta_num", "rsa_num"]),
            (&["ass_dgn"], "ir_cim_v", &["cim_cod"]),
        ],
        columns: vec![
            Col::id("eta_num", "establishment", "Établissement"),
            Col::id("rsa_num", "stay", "Séjour"),
            Col::text("ass_dgn", "Diagnostic associé (CIM-10, sans point)"),
        ],
        sorted_by: &[],
        group_rows: STAYS_GROUP_ROWS,
    }
}

fn stay_acts() -> Declaration {
    Declaration {
        name: "t_mco_a",
        remarks: "Actes réalisés pendant les séjours : un par ligne",
        person: by_stay(),
        primary_key: &["eta_num", "rsa_num", "cdc_act"],
        foreign_keys: &[
            (&["eta_num", "rsa_num"], "t_mco_b", &["eta_num", "rsa_num"]),
            (&["cdc_act"], "ir_ccam_v", &["ccam_cod"]),
        ],
        columns: vec![
            Col::id("eta_num", "establishment", "Établissement"),
            Col::id("rsa_num", "stay", "Séjour"),
            Col::text("cdc_act", "Acte (CCAM)"),
            Col::int("ent_dat_del", "Délai depuis l'entrée").unit("j"),
        ],
        sorted_by: &[],
        group_rows: STAYS_GROUP_ROWS,
    }
}

fn labels(
    name: &'static str,
    remarks: &'static str,
    primary_key: &'static [&'static str],
    columns: Vec<Col>,
) -> Declaration {
    Declaration {
        name,
        remarks,
        person: PersonPath::None,
        primary_key,
        foreign_keys: &[],
        columns,
        sorted_by: &[],
        group_rows: LABELS_GROUP_ROWS,
    }
}
