//! Pseudonyms against values computed with Python's `hmac` and OpenSSL's AES, and their laws.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, DictionaryArray, Int8Array, Int32Array, Int64Array,
    LargeStringArray, StringArray, StringViewArray, UInt64Array,
};
use arrow::datatypes::{DataType, Int32Type};
use data_encoding::BASE32_NOPAD;
use hubflight_policy::{Cipher, LinkageKeys, Secret};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use zeroize::Zeroizing;

fn master() -> [u8; 32] {
    std::array::from_fn(|index| index as u8)
}

fn cipher(project: &str, group: &str, domain: &str) -> Cipher {
    keys(master(), project, group).cipher(domain)
}

fn keys(key: [u8; 32], project: &str, group: &str) -> LinkageKeys {
    let pseudonyms = Zeroizing::new(key);
    let cells = Zeroizing::new([1; 32]);
    LinkageKeys::new(Secret { pseudonyms, cells }, project, group)
}

fn shown(cipher: &Cipher, array: &dyn Array) -> Vec<Option<String>> {
    let shown = cipher.encrypt_array(array).unwrap();
    shown.iter().map(|text| text.map(str::to_owned)).collect()
}

const IDS: [(i64, &str); 5] = [
    (0, "aoysiolxh4mwyutmiinbqkpnym"),
    (1, "sftffyxijy4cii6gehslwmcw2y"),
    (42, "g2h7kespndkiiy722kwmsjxvce"),
    (-1, "bcvma22rs6txveqixtw57d6z3e"),
    (i64::MAX, "k2lowintjkj65hk4bxmuejercm"),
];
const TEXTS: [(&str, &str); 3] = [
    ("", "q7gxh4awuxzajqqrt4atctf22e"),
    ("P-0001", "66atqoxgbu6vgwsdijmmufa54a"),
    ("é", "35hvnpdjwzvutylzn6roxjassa"),
];

#[test]
fn equal_an_independent_implementation() {
    let cipher = cipher("readmission", "main", "person");
    let ids = Int64Array::from_iter_values(IDS.map(|(id, _)| id));
    let expected: Vec<_> = IDS.map(|(_, text)| Some(text.to_owned())).to_vec();
    assert_eq!(shown(&cipher, &ids), expected);
    for (id, text) in IDS {
        assert_eq!(cipher.decrypt(text), Some(id));
    }
    let expected: Vec<_> = TEXTS.map(|(_, shown)| Some(shown.to_owned())).to_vec();
    let texts = TEXTS.map(|(text, _)| text);
    assert_eq!(
        shown(&cipher, &StringArray::from_iter_values(texts)),
        expected
    );
    assert_eq!(
        shown(&cipher, &LargeStringArray::from_iter_values(texts)),
        expected
    );
    assert_eq!(
        shown(&cipher, &StringViewArray::from_iter_values(texts)),
        expected
    );
    assert_eq!(
        shown(&cipher, &BinaryViewArray::from_iter_values(texts)),
        expected
    );
}

#[test]
fn every_width_shows_the_same() {
    let cipher = cipher("readmission", "main", "person");
    let expected = shown(&cipher, &Int64Array::from(vec![Some(42), None, Some(-1)]));
    let narrow: Vec<ArrayRef> = vec![
        Arc::new(Int8Array::from(vec![Some(42), None, Some(-1)])),
        Arc::new(Int32Array::from(vec![Some(42), None, Some(-1)])),
        Arc::new(UInt64Array::from(vec![Some(42), None, Some(u64::MAX)])),
    ];
    for array in narrow {
        assert_eq!(shown(&cipher, array.as_ref()), expected);
    }
    let dictionary: DictionaryArray<Int32Type> = [Some("b"), None, Some("a"), Some("b")]
        .into_iter()
        .collect();
    let plain = StringArray::from(vec![Some("b"), None, Some("a"), Some("b")]);
    assert_eq!(shown(&cipher, &dictionary), shown(&cipher, &plain));
}

#[test]
fn one_to_one_of_fixed_length_and_invertible() {
    let cipher = cipher("readmission", "main", "stay");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let ids: Vec<Option<i64>> = (0..100_000)
        .map(|id| {
            if rng.random_bool(0.1) {
                None
            } else {
                Some(id / 3)
            }
        })
        .collect();
    let texts = shown(&cipher, &Int64Array::from(ids.clone()));
    assert_eq!(texts.len(), ids.len());
    let (mut distinct_ids, mut distinct_texts) = (HashSet::new(), HashSet::new());
    for (id, text) in ids.iter().zip(&texts) {
        assert_eq!(id.is_none(), text.is_none());
        let (Some(id), Some(text)) = (id, text) else {
            continue;
        };
        assert_eq!(text.len(), 26);
        assert_eq!(*text, text.to_lowercase());
        // The reference decoder accepts it and gives sixteen bytes.
        assert_eq!(
            BASE32_NOPAD
                .decode(text.to_uppercase().as_bytes())
                .unwrap()
                .len(),
            16
        );
        assert_eq!(cipher.decrypt(text), Some(*id));
        distinct_ids.insert(*id);
        distinct_texts.insert(text.clone());
    }
    assert_eq!(distinct_ids.len(), distinct_texts.len());
}

#[test]
fn nulls_and_empty_arrays() {
    let cipher = cipher("readmission", "main", "stay");
    assert_eq!(
        shown(&cipher, &Int64Array::from(Vec::<i64>::new())),
        Vec::new()
    );
    assert_eq!(
        shown(&cipher, &Int64Array::from(vec![None; 3])),
        vec![None; 3]
    );
    assert_eq!(
        shown(&cipher, &StringArray::from(vec![None::<&str>; 3])),
        vec![None; 3]
    );
    // A slice shows what its rows show, nothing of what lies around them.
    let ids = Int64Array::from(
        (0..100)
            .map(|id| (id % 7 != 0).then_some(id))
            .collect::<Vec<_>>(),
    );
    let whole = shown(&cipher, &ids);
    assert_eq!(shown(&cipher, &ids.slice(20, 30)), whole[20..50]);
}

#[test]
fn keys_of_other_projects_groups_and_domains_share_nothing() {
    let ids = Int64Array::from_iter_values(0..5_000);
    let own = cipher("readmission", "main", "person");
    assert_eq!(
        shown(&own, &ids),
        shown(&cipher("readmission", "main", "person"), &ids)
    );
    let own: HashSet<_> = shown(&own, &ids).into_iter().collect();
    let others = [
        cipher("linked", "main", "person"),
        cipher("readmission", "other", "person"),
        cipher("readmission", "main", "stay"),
        // Parts that join to the same text must not give the same key.
        cipher("readmissionmain", "", "person"),
        // Another generation.
        keys([9; 32], "readmission", "main").cipher("person"),
    ];
    for other in others {
        let texts = shown(&other, &ids);
        assert!(texts.iter().all(|text| !own.contains(text)));
        let mine = cipher("readmission", "main", "person");
        assert!(
            texts
                .iter()
                .flatten()
                .all(|text| mine.decrypt(text).is_none())
        );
    }
}

#[test]
fn what_is_no_pseudonym_decrypts_to_nothing() {
    let cipher = cipher("readmission", "main", "person");
    let true_one = IDS[1].1;
    let mut wrong = vec![
        String::new(),
        "a".repeat(26),
        "a".repeat(25),
        "a".repeat(27),
        "é".repeat(13),
        true_one.to_uppercase(),
        format!("{true_one} "),
        TEXTS[1].1.to_owned(),
        "x".repeat(1_000_000),
    ];
    // The two padding bits of the last character must be zero: one text per identifier.
    wrong.push(format!("{}{}", &true_one[..25], "z"));
    for (index, _) in true_one.char_indices() {
        let mut changed = true_one.as_bytes().to_vec();
        changed[index] = if changed[index] == b'a' { b'b' } else { b'a' };
        wrong.push(String::from_utf8(changed).unwrap());
    }
    for text in wrong {
        assert_eq!(cipher.decrypt(&text), None, "{:.40}", text);
    }
}

#[test]
fn refuses_types_that_identify_nothing_and_prints_no_key() {
    let cipher = cipher("readmission", "main", "person");
    assert!(!Cipher::accepts(&DataType::Float64));
    let floats = arrow::array::Float64Array::from(vec![1.0]);
    assert!(cipher.encrypt_array(&floats).is_err());
    let printed = format!("{cipher:?} {:?}", keys([0xAB; 32], "p", "g"));
    assert!(
        !printed.contains("171") && !printed.to_lowercase().contains("abab"),
        "{printed}"
    );
    let shown = cipher
        .encrypt_array(&Int64Array::from(vec![1, 1, 1]))
        .unwrap();
    assert_eq!(
        shown.data_buffers()[0].len(),
        26,
        "equal neighbours share their characters"
    );
}
