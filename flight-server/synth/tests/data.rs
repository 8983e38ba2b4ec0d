//! The data as written, read back from the files and compared with the truth and with one
//! another.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
};
use dicom_dictionary_std::tags;
use hubflight_compute::dicom::{Image, WindowOptions, window};
use hubflight_rights::dataset::{Dataset, PersonPath};
use hubflight_synth::{Facts, Readmission, Request, generate_with};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const SCALE: f64 = 0.06;

fn request(dir: &Path) -> Request<'_> {
    Request {
        dir,
        scale: SCALE,
        seed: 42,
        progress: false,
    }
}

/// The data that the tests of this file share.
fn data() -> &'static Path {
    static DATA: OnceLock<tempfile::TempDir> = OnceLock::new();
    DATA.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        generate_with(&request(dir.path()), 2).expect("data are made");
        dir
    })
    .path()
}

fn parts(folder: &Path) -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    parts.sort();
    parts
}

fn read_file(path: &Path) -> RecordBatch {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let schema = builder.schema().clone();
    let batches: Vec<RecordBatch> = builder
        .build()
        .expect("a reader")
        .collect::<Result<_, _>>()
        .expect("batches");
    concat_batches(&schema, &batches).expect("one batch")
}

fn table(dataset: &str, table: &str) -> RecordBatch {
    let folder = data().join("datasets").join(dataset).join(table);
    let batches: Vec<RecordBatch> = parts(&folder).iter().map(|part| read_file(part)).collect();
    concat_batches(&batches[0].schema(), &batches).expect("one batch")
}

fn truth(name: &str) -> RecordBatch {
    read_file(&data().join("truth").join(name))
}

fn ids(batch: &RecordBatch, column: &str) -> Vec<i64> {
    let column = batch.column_by_name(column).expect("the column exists");
    column.as_primitive::<Int64Type>().values().to_vec()
}

fn ints(batch: &RecordBatch, column: &str) -> Vec<i32> {
    let column = batch.column_by_name(column).expect("the column exists");
    column.as_primitive::<Int32Type>().values().to_vec()
}

fn dates(batch: &RecordBatch, column: &str) -> Vec<i32> {
    let column = batch.column_by_name(column).expect("the column exists");
    column.as_primitive::<Date32Type>().values().to_vec()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let column = batch.column_by_name(column).expect("the column exists");
    column
        .as_string::<i32>()
        .iter()
        .map(|text| text.unwrap_or_default().to_owned())
        .collect()
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in parts(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(dir)
                    .expect("under the folder")
                    .to_path_buf();
                found.insert(name, std::fs::read(&path).expect("a readable file"));
            }
        }
    }
    // The time that the run took is the one thing that may differ.
    found.remove(Path::new("facts.json"));
    found
}

#[test]
fn the_seed_decides_every_byte_whatever_the_threads() {
    let once = files(data());
    let again = tempfile::tempdir().expect("a temporary folder");
    generate_with(&request(again.path()), 1).expect("data are made");
    let twice = files(again.path());
    assert_eq!(
        once.keys().collect::<Vec<_>>(),
        twice.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &once {
        assert!(twice[name] == *bytes, "{} differs", name.display());
    }
    let other = tempfile::tempdir().expect("a temporary folder");
    let request = Request {
        seed: 43,
        ..request(other.path())
    };
    generate_with(&request, 2).expect("data are made");
    let claims = Path::new("datasets/snds/er_prs_f/part-0.parquet");
    assert!(files(other.path())[claims] != once[claims]);
}

#[test]
fn facts_say_what_is_there() {
    let facts = Facts::current(&request(data())).expect("complete data");
    assert_eq!(facts.persons, table("snds", "ir_ben_r").num_rows() as u64);
    assert_eq!(
        facts.summary.claims,
        table("snds", "er_prs_f").num_rows() as u64
    );
    assert_eq!(
        facts.summary.stays,
        table("snds", "t_mco_b").num_rows() as u64
    );
    assert_eq!(
        facts.summary.recordings,
        table("cardio", "ecg").num_rows() as u64
    );
    assert_eq!(
        facts.summary.images,
        table("imaging", "instances").num_rows() as u64
    );
    assert_eq!(
        facts.summary.documents,
        table("reports", "documents").num_rows() as u64
    );
    let per_person = facts.summary.claims as f64 / facts.persons as f64;
    assert!(
        (70.0..140.0).contains(&per_person),
        "{per_person} claims a person"
    );
    let other_seed = Request {
        seed: 1,
        ..request(data())
    };
    assert_eq!(Facts::current(&other_seed), None);
    assert!(!data().join(".partial").exists());
}

#[test]
fn a_cut_off_run_is_replaced_and_bad_requests_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::create_dir_all(dir.path().join(".partial/datasets/snds")).expect("a folder");
    std::fs::write(dir.path().join(".partial/datasets/snds/half"), b"x").expect("a file");
    let small = Request {
        dir: dir.path(),
        scale: 0.01,
        seed: 1,
        progress: false,
    };
    assert_eq!(Facts::current(&small), None);
    let summary = generate_with(&small, 2).expect("data are made");
    assert_eq!(summary.persons, 100);
    assert!(Facts::current(&small).is_some());
    assert!(!dir.path().join(".partial").exists());
    for scale in [0.0, -1.0, f64::NAN, 1e9] {
        let error = generate_with(&Request { scale, ..small }, 1).expect_err("a bad scale");
        assert!(error.to_string().contains("out of range"), "{error}");
    }
    let file = dir.path().join("facts.json");
    let inside_a_file = Request {
        dir: &file,
        ..small
    };
    let error = generate_with(&inside_a_file, 1).expect_err("a file is not a folder");
    assert!(error.to_string().contains("facts.json"), "{error}");
}

/// The readmission rate by the definition of the truth, from the table alone.
fn readmissions(stays: &RecordBatch, from: i32, last_exit: i32) -> (u64, u64) {
    let mut by_person: HashMap<i64, Vec<(i32, i32)>> = HashMap::new();
    let (entries, exits) = (dates(stays, "ent_dat"), dates(stays, "sor_dat"));
    for ((person, entry), exit) in ids(stays, "ben_idt").into_iter().zip(entries).zip(exits) {
        if entry >= from {
            by_person.entry(person).or_default().push((entry, exit));
        }
    }
    let (mut index, mut readmitted) = (0, 0);
    for stays in by_person.values() {
        for (_, exit) in stays.iter().filter(|(_, exit)| *exit <= last_exit) {
            index += 1;
            readmitted += u64::from(
                stays
                    .iter()
                    .any(|(entry, _)| (1..=30).contains(&(entry - exit))),
            );
        }
    }
    (index, readmitted)
}

#[test]
fn the_readmission_rate_is_that_of_the_truth() {
    let text = std::fs::read(data().join("truth/readmission.json")).expect("the truth");
    let truth: Readmission = serde_json::from_slice(&text).expect("the truth");
    let stays = table("snds", "t_mco_b");
    let day = |date: chrono::NaiveDate| {
        (date - chrono::NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date")).num_days() as i32
    };
    for rate in [&truth.overall, &truth.window] {
        let (index, readmitted) = readmissions(&stays, day(rate.from), day(rate.last_exit));
        assert_eq!((index, readmitted), (rate.index_stays, rate.readmitted));
        assert!((rate.rate - readmitted as f64 / index as f64).abs() < 1e-12);
        assert!((0.04..0.20).contains(&rate.rate), "{}", rate.rate);
        // It follows from the generator: what was decided, less what death prevented.
        let sd = (rate.decided * (1.0 - rate.decided) / index as f64).sqrt();
        assert!((rate.rate - rate.decided).abs() < 4.0 * sd + 0.02);
    }
    assert!(truth.window.index_stays < truth.overall.index_stays);
    assert_eq!(Facts::read(data()).expect("facts").readmission, truth);
}

#[test]
fn identifiers_are_dense_unique_and_shuffled() {
    for (dataset, name, column) in [
        ("snds", "ir_ben_r", "ben_idt"),
        ("snds", "t_mco_b", "rsa_num"),
        ("cardio", "ecg", "rec_id"),
        ("imaging", "instances", "instance_uid"),
        ("reports", "documents", "doc_id"),
    ] {
        let stored = ids(&table(dataset, name), column);
        let mut sorted = stored.clone();
        sorted.sort_unstable();
        assert_eq!(
            sorted,
            (0..stored.len() as i64).collect::<Vec<_>>(),
            "{name}"
        );
        if column != "ben_idt" {
            assert_ne!(
                sorted, stored,
                "{name} stands in the order of its identifiers"
            );
        }
    }
    let claims = table("snds", "er_prs_f");
    let lines: HashSet<(i64, i32)> = ids(&claims, "dct_ord_num")
        .into_iter()
        .zip(ints(&claims, "prs_ord_num"))
        .collect();
    assert_eq!(lines.len(), claims.num_rows());
}

#[test]
fn everything_happens_within_a_life() {
    let people = table("snds", "ir_ben_r");
    let deaths = people
        .column_by_name("ben_dcd_dte")
        .expect("a column")
        .as_primitive::<Date32Type>();
    let birth = ints(&people, "ben_nai_ann")
        .into_iter()
        .zip(ints(&people, "ben_nai_moi"));
    let lives: HashMap<i64, (i32, i32)> = ids(&people, "ben_idt")
        .into_iter()
        .zip(birth)
        .enumerate()
        .map(|(row, (person, (year, month)))| {
            let first = chrono::NaiveDate::from_ymd_opt(year, month as u32, 1).expect("a month");
            let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
            let death = if deaths.is_null(row) {
                i32::MAX
            } else {
                deaths.value(row)
            };
            (person, ((first - epoch).num_days() as i32, death))
        })
        .collect();
    // A letter, or a pathologist's report, may be written after a death.
    for (dataset, name, column, after) in [
        ("snds", "er_prs_f", "exe_soi_dtd", 0),
        ("snds", "er_pha_f", "exe_soi_dtd", 0),
        ("snds", "er_cam_f", "exe_soi_dtd", 0),
        ("snds", "t_mco_b", "ent_dat", 0),
        ("snds", "t_mco_b", "sor_dat", 0),
        ("snds", "ir_imb_r", "imb_ald_dtd", 0),
        ("cardio", "ecg", "rec_dte", 0),
        ("imaging", "instances", "study_dte", 0),
        ("imaging_raw", "instances", "study_dte", 0),
        ("reports", "documents", "doc_dte", 12),
    ] {
        let rows = table(dataset, name);
        for (person, day) in ids(&rows, "ben_idt").into_iter().zip(dates(&rows, column)) {
            let (birth, death) = lives[&person];
            assert!(birth <= day, "{name}: before birth");
            assert!(day <= death.saturating_add(after), "{name}: after death");
            assert!(day <= 20_453, "{name}: after the end of the data");
        }
    }
}

#[test]
fn details_and_labels_match_their_lines() {
    let claims = table("snds", "er_prs_f");
    let key = |batch: &RecordBatch| -> Vec<(i64, i32)> {
        ids(batch, "dct_ord_num")
            .into_iter()
            .zip(ints(batch, "prs_ord_num"))
            .collect()
    };
    let natures: HashMap<(i64, i32), i32> = key(&claims)
        .into_iter()
        .zip(ints(&claims, "prs_nat_ref"))
        .collect();
    let drugs = table("snds", "er_pha_f");
    for line in key(&drugs) {
        assert!((3311..=3341).contains(&natures[&line]));
    }
    let acts = table("snds", "er_cam_f");
    for line in key(&acts) {
        assert!([1324, 1351, 1352, 1451].contains(&natures[&line]));
    }
    let paid = claims
        .column_by_name("prs_pai_mnt")
        .expect("a column")
        .as_primitive::<Decimal128Type>();
    let back = claims
        .column_by_name("bse_rem_mnt")
        .expect("a column")
        .as_primitive::<Decimal128Type>();
    assert!(
        paid.values()
            .iter()
            .zip(back.values())
            .all(|(paid, back)| 0 < *paid && back <= paid)
    );

    let covered = |from: &RecordBatch, column: &str, labels: &str, code: &str| {
        let known: HashSet<String> = texts(&table("snds", labels), code).into_iter().collect();
        for value in texts(from, column) {
            assert!(
                known.contains(&value),
                "`{value}` of {column} is not in {labels}"
            );
        }
    };
    covered(&table("snds", "t_mco_b"), "dgn_pal", "ir_cim_v", "cim_cod");
    covered(&table("snds", "t_mco_d"), "ass_dgn", "ir_cim_v", "cim_cod");
    covered(&drugs, "pha_atc_cla", "ir_atc_v", "atc_cod");
    covered(&drugs, "pha_prs_c13", "ir_pha_r", "pha_cip_c13");
    covered(&acts, "cam_prs_ide", "ir_ccam_v", "ccam_cod");
    let stays: HashSet<(i64, i64)> = {
        let stays = table("snds", "t_mco_b");
        ids(&stays, "eta_num")
            .into_iter()
            .zip(ids(&stays, "rsa_num"))
            .collect()
    };
    let diagnoses = table("snds", "t_mco_d");
    for stay in ids(&diagnoses, "eta_num")
        .into_iter()
        .zip(ids(&diagnoses, "rsa_num"))
    {
        assert!(stays.contains(&stay));
    }
}

#[test]
fn descriptions_match_the_files_and_row_groups_are_bounded() {
    for name in [
        "snds",
        "cardio",
        "imaging",
        "imaging_raw",
        "reports",
        "reports_raw",
    ] {
        let folder = data().join("datasets").join(name);
        let text = std::fs::read(folder.join("dataset.json")).expect("a description");
        let dataset: Dataset = serde_json::from_slice(&text).expect("a description");
        dataset.validate().expect("a valid description");
        assert_eq!(dataset.name, name);
        assert!(dataset.synthetic);
        for table in &dataset.tables {
            for part in parts(&folder.join(&table.location)) {
                let file = File::open(&part).expect("a file");
                let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
                let schema = reader.schema();
                let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let described: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
                assert_eq!(names, described, "{name}.{}", table.name);
                for (field, column) in schema.fields().iter().zip(&table.columns) {
                    assert_eq!(field.is_nullable(), !column.not_null, "{}", column.name);
                    assert!(!column.remarks.is_empty(), "{}", column.name);
                }
                for group in reader.metadata().row_groups() {
                    assert!(group.num_rows() <= 131_072);
                    assert!(group.total_byte_size() < 24 << 20, "{}", part.display());
                    assert!(group.column(0).offset_index_offset().is_some());
                }
            }
            let column = |name: &String| table.column(name).is_some();
            assert!(table.primary_key.iter().all(column));
            match &table.person {
                PersonPath::Column(name) => assert!(column(name)),
                PersonPath::Parent { table: parent, on } => {
                    assert!(dataset.table(parent).is_some());
                    assert!(on.iter().all(|(own, _)| column(own)));
                }
                PersonPath::None => assert!(table.name.starts_with("ir_")),
            }
        }
    }
}

#[test]
fn images_are_dicom_files_and_lesions_are_where_the_truth_says() {
    let raw = table("imaging_raw", "instances");
    let curated = table("imaging", "instances");
    let known = truth("imaging.parquet");
    let places: HashMap<i64, usize> = ids(&known, "instance_uid").into_iter().zip(0..).collect();
    let number = |column: &str, row: usize| {
        let column = known.column_by_name(column).expect("a column");
        column.as_primitive::<Float64Type>().value(row)
    };
    let sick = known
        .column_by_name("has_lesion")
        .expect("a column")
        .as_boolean();
    let (mut syntaxes, mut modalities, mut lesions) = (HashSet::new(), HashSet::new(), 0);
    for (row, instance) in ids(&raw, "instance_uid").into_iter().enumerate() {
        let file = |batch: &RecordBatch| {
            batch
                .column_by_name("content")
                .expect("a column")
                .as_binary::<i32>()
                .value(row)
                .to_vec()
        };
        let (before, after) = (file(&raw), file(&curated));
        let before = dicom_object::from_reader(before.as_slice()).expect("a DICOM file");
        let after = dicom_object::from_reader(after.as_slice()).expect("a DICOM file");
        let modality = before
            .element(tags::MODALITY)
            .expect("a modality")
            .to_str()
            .expect("text")
            .to_string();
        assert_eq!(modality, texts(&raw, "modality")[row]);
        let name = before
            .element(tags::PATIENT_NAME)
            .expect("a name")
            .to_str()
            .expect("text")
            .to_string();
        assert!(name.contains('^'));
        assert!(after.get(tags::PATIENT_NAME).is_none_or(|element| {
            !element
                .to_str()
                .expect("text")
                .contains(name.split('^').next().expect("a part"))
        }));
        syntaxes.insert(
            before
                .meta()
                .transfer_syntax()
                .trim_end_matches('\0')
                .to_owned(),
        );
        modalities.insert(modality.clone());
        let at = places[&instance];
        if sick.value(at) && modality == "CT" {
            lesions += 1;
            let columns = before
                .element(tags::COLUMNS)
                .expect("columns")
                .to_int::<usize>()
                .expect("a number");
            if let Ok(pixels) = before
                .element(tags::PIXEL_DATA)
                .expect("pixels")
                .to_multi_int::<i32>()
            {
                let value =
                    |row: f64, column: f64| pixels[row as usize * columns + column as usize] - 1024;
                let inside = value(number("lesion_row", at), number("lesion_column", at));
                assert!((-40..160).contains(&inside), "{inside} HU in the lesion");
            }
        }
    }
    assert_eq!(syntaxes.len(), 4, "{syntaxes:?}");
    assert_eq!(modalities.len(), 6, "{modalities:?}");
    assert!(lesions > 0);
}

/// Mean of an image's pixels (first channel) at distances from a point.
fn mean_around(image: &Image, place: (f64, f64), distances: std::ops::Range<f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for row in 0..image.rows {
        for column in 0..image.columns {
            let distance = (row as f64 - place.0).hypot(column as f64 - place.1);
            if distances.contains(&distance) {
                sum += f64::from(image.pixels[(row * image.columns + column) * image.samples]);
                count += 1.0;
            }
        }
    }
    sum / count
}

#[test]
fn curated_images_are_decoded_and_show_their_lesions() {
    let curated = table("imaging", "instances");
    let known = truth("imaging.parquet");
    let places: HashMap<i64, usize> = ids(&known, "instance_uid").into_iter().zip(0..).collect();
    let number = |column: &str, row: usize| {
        let column = known.column_by_name(column).expect("a column");
        column.as_primitive::<Float64Type>().value(row)
    };
    let sick = known
        .column_by_name("has_lesion")
        .expect("a column")
        .as_boolean();
    let contents = curated
        .column_by_name("content")
        .expect("a column")
        .as_binary::<i32>();
    let (mut lesions, mut seen) = (0, 0);
    for (row, instance) in ids(&curated, "instance_uid").into_iter().enumerate() {
        let image = window(contents.value(row), &WindowOptions::default()).expect("an image");
        let at = places[&instance];
        assert_eq!(image.rows as i32, ints(&known, "rows")[at]);
        assert_eq!(image.columns as i32, ints(&known, "columns")[at]);
        let colour = texts(&known, "modality")[at] == "XC";
        assert_eq!(image.samples, if colour { 3 } else { 1 });
        if sick.value(at) {
            let place = (number("lesion_row", at), number("lesion_column", at));
            let radius = number("lesion_radius", at);
            let inside = mean_around(&image, place, 0.0..radius * 0.7);
            let outside = mean_around(&image, place, radius + 2.0..radius + 5.0);
            let contrast = f64::from(ints(&known, "lesion_contrast")[at]);
            lesions += 1;
            seen += usize::from((inside - outside) * contrast > 5.0);
        }
    }
    println!("{seen} of {lesions} lesions stand out");
    assert!(lesions >= 5);
    // One may lie over a rib, the heart or a ventricle.
    assert!(
        seen as f64 >= 0.85 * f64::from(lesions),
        "{seen} of {lesions}"
    );
}

#[test]
fn r_peaks_are_found_where_the_truth_has_them() {
    let ecg = table("cardio", "ecg");
    let known = truth("ecg.parquet");
    let rows: HashMap<i64, usize> = ids(&known, "rec_id").into_iter().zip(0..).collect();
    let peaks = known
        .column_by_name("rpeaks")
        .expect("a column")
        .as_list::<i32>();
    let clean = known
        .column_by_name("clean")
        .expect("a column")
        .as_boolean();
    let signal = ecg
        .column_by_name("signal")
        .expect("a column")
        .as_list::<i32>();
    let fs = ints(&ecg, "fs");
    let (mut beats, mut found, mut extra) = (0, 0, 0);
    for (row, recording) in ids(&ecg, "rec_id").into_iter().enumerate() {
        let leads = signal.value(row);
        let leads = leads.as_list::<i32>();
        assert_eq!(leads.len(), 12);
        let two = leads.value(1);
        let two: Vec<f32> = two.as_primitive::<Float32Type>().values().to_vec();
        assert_eq!(two.len() as i32, fs[row] * ints(&ecg, "dur_s")[row]);
        let at = rows[&recording];
        if !clean.value(at) {
            continue;
        }
        let truth = peaks.value(at);
        let truth: Vec<i32> = truth.as_primitive::<Int32Type>().values().to_vec();
        let detected = hubflight_compute::signal::rpeaks(&two, fs[row]).expect("a signal");
        let near = |a: i32, list: &[i32]| list.iter().any(|b| (a - b).abs() * 50 <= fs[row]);
        beats += truth.len();
        found += truth.iter().filter(|peak| near(**peak, &detected)).count();
        extra += detected.iter().filter(|peak| !near(**peak, &truth)).count();
    }
    println!("{found} of {beats} beats found within 20 ms, {extra} others");
    assert!(beats > 300);
    assert!(found as f64 >= 0.99 * beats as f64, "{found} of {beats}");
    assert!(
        extra as f64 <= 0.01 * beats as f64,
        "{extra} more than {beats}"
    );
}

#[test]
fn spans_of_reports_point_at_what_identifies() {
    let (raw, curated) = (
        table("reports_raw", "documents"),
        table("reports", "documents"),
    );
    let known = truth("reports.parquet");
    let rows: HashMap<i64, usize> = ids(&known, "doc_id").into_iter().zip(0..).collect();
    let spans = known
        .column_by_name("spans")
        .expect("a column")
        .as_list::<i32>();
    let (mut total, mut hidden) = (0, 0);
    for (row, document) in ids(&raw, "doc_id").into_iter().enumerate() {
        let text: Vec<char> = texts(&raw, "text")[row].chars().collect();
        let clean = &texts(&curated, "text")[row];
        assert!(clean.contains("synthétique"));
        let found = spans.value(rows[&document]);
        let found = found.as_struct();
        let (starts, ends) = (
            found.column(0).as_primitive::<Int32Type>(),
            found.column(1).as_primitive::<Int32Type>(),
        );
        let kinds = found.column(2).as_string::<i32>();
        assert!(found.len() >= 6);
        let mut last = 0;
        for index in 0..found.len() {
            let (start, end) = (starts.value(index) as usize, ends.value(index) as usize);
            assert!(last <= start && start < end && end <= text.len());
            last = end;
            let span: String = text[start..end].iter().collect();
            match kinds.value(index) {
                "MAIL" => assert!(span.contains('@'), "{span}"),
                "NIR" | "TEL" => assert!(
                    span.chars().filter(char::is_ascii_digit).count() >= 8,
                    "{span}"
                ),
                "DATE" => assert!(span.chars().any(|c| c.is_ascii_digit()), "{span}"),
                _ => assert!(span.chars().any(char::is_alphabetic), "{span}"),
            }
            total += 1;
            hidden += usize::from(!clean.contains(&span));
        }
    }
    println!("{hidden} of {total} identifying texts are gone from the curated documents");
    assert!(hidden as f64 >= 0.97 * total as f64, "{hidden} of {total}");
}
