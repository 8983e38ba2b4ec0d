//! Prices: exact, rounded once, and lawful.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use hubflight_ledger::{Line, Measured, Quantities, Tariff, Unit, Work, WorkUnit};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rust_decimal::{Decimal, RoundingStrategy};

fn cost(lines: &[Line]) -> Decimal {
    lines.iter().map(|line| line.amount).sum()
}

fn measured(scanned: u64, returned: u64, work: &[(&str, WorkUnit, u64)]) -> Measured {
    Measured {
        bytes_scanned: scanned,
        bytes_returned: returned,
        work: work
            .iter()
            .map(|(function, unit, quantity)| Work {
                function: (*function).to_owned(),
                unit: *unit,
                quantity: *quantity,
            })
            .collect(),
        ..Measured::default()
    }
}

fn with_price(name: &str, price: &str) -> Result<Tariff, String> {
    toml::from_str(&format!(
        "version = \"1\"\ncurrency = \"EUR\"\n[prices]\n{name} = {price}\n"
    ))
    .map_err(|error: toml::de::Error| error.to_string())
}

/// (price, unit's name in the tariff, quantity, amount), the amounts by hand.
#[test]
fn amounts() {
    for (price, quantity, expected) in [
        ("0.005", 1_000_000_000, "0.005000"),
        ("0.005", 1, "0.000000"),
        // Half to even, both ways: 0.5, 1.5 and 2.5 millionths.
        ("1", 500, "0.000000"),
        ("1", 1_500, "0.000002"),
        ("1", 2_500, "0.000002"),
        ("1", 501, "0.000001"),
        ("0.000000001", u64::MAX, "18.446744"),
        ("10000", u64::MAX, "184467440737095.516150"),
    ] {
        let tariff = with_price("gb_scanned", &format!("\"{price}\"")).unwrap();
        let lines = tariff.price(&measured(quantity, 0, &[]));
        assert_eq!(lines.len(), 1);
        assert_eq!(
            lines[0].amount.to_string(),
            expected,
            "{quantity} at {price}"
        );
    }
    let tariff = with_price("thousand_calls", "\"9999.999999999\"").unwrap();
    let lines = tariff.price(&measured(0, 0, &[("f", WorkUnit::Calls, u64::MAX)]));
    assert_eq!(lines[0].amount.to_string(), "184467440737077069405.926290");
    assert_eq!(lines[0].unit_price.to_string(), "9.999999999999");
}

/// Everything at its largest, in the most lines that one execution can have.
#[test]
fn no_overflow() {
    let tariff: Tariff = toml::from_str(
        "version = \"1\"\ncurrency = \"EUR\"\n[prices]\ngb_scanned = \"10000\"\n\
         gb_returned = \"10000\"\nmillion_tokens = \"10000\"\nmillion_pixels = \"10000\"\n\
         million_samples = \"10000\"\nthousand_calls = \"10000\"\n",
    )
    .unwrap();
    let quantities = Quantities::default();
    for _ in 0..2 {
        quantities.add_scanned(u64::MAX);
        quantities.add_returned(u64::MAX, u64::MAX);
        for function in 0..1_000 {
            for unit in [
                WorkUnit::Calls,
                WorkUnit::Tokens,
                WorkUnit::Pixels,
                WorkUnit::Samples,
            ] {
                quantities.add_work(&format!("f{function}"), unit, u64::MAX);
            }
        }
    }
    let measured = quantities.measured();
    assert_eq!(
        (measured.bytes_scanned, measured.rows_returned),
        (u64::MAX, u64::MAX)
    );
    assert_eq!(measured.work.len(), 64);
    let lines = tariff.price(&measured);
    assert_eq!(lines.len(), 66);
    let sum: Decimal = lines.iter().map(|line| line.amount).sum();
    assert!(sum > Decimal::from(u64::MAX));
}

#[test]
fn laws_on_random_quantities() {
    let tariff = common::tariff();
    let mut random = StdRng::seed_from_u64(3);
    let functions = ["image_embed", "text_ner", "ecg_rpeaks"];
    let units = [
        WorkUnit::Calls,
        WorkUnit::Tokens,
        WorkUnit::Pixels,
        WorkUnit::Samples,
    ];
    let mut draw = || {
        let bits = random.random_range(0..50);
        random.random_range(0..=1_u64 << bits)
    };
    for _ in 0..2_000 {
        let (a, b) = (draw(), draw());
        for unit in units {
            for function in functions {
                let of = |quantity| tariff.price(&measured(0, 0, &[(function, unit, quantity)]));
                let (one, other, both) = (cost(&of(a)), cost(&of(b)), cost(&of(a + b)));
                // Additive up to the rounding of each record, half a millionth.
                let gap = (one + other - both).abs();
                assert!(
                    gap <= Decimal::new(15, 7),
                    "{unit:?} {function} {a} {b}: {gap}"
                );
                assert!(both >= one && both >= other, "monotone");
                for line in of(a) {
                    let exact = Decimal::from(line.quantity) * line.unit_price;
                    let nearest = RoundingStrategy::MidpointNearestEven;
                    let rounded = exact.round_dp_with_strategy(6, nearest);
                    assert_eq!(line.amount, rounded, "{line:?}");
                }
            }
        }
        // Lines of different units do not touch each other.
        let work = [
            (functions[0], WorkUnit::Pixels, a),
            (functions[1], WorkUnit::Tokens, b),
        ];
        let whole = cost(&tariff.price(&measured(a, b, &work)));
        let parts: Decimal = [
            measured(a, 0, &[]),
            measured(0, b, &[]),
            measured(0, 0, &work[..1]),
            measured(0, 0, &work[1..]),
        ]
        .iter()
        .map(|part| cost(&tariff.price(part)))
        .sum();
        assert_eq!(whole, parts);
    }
    assert!(tariff.price(&Measured::default()).is_empty());
}

#[test]
fn a_function_may_have_its_own_price() {
    let tariff = common::tariff();
    let work = [
        ("dicom_window", WorkUnit::Pixels, 1_000_000),
        ("image_embed", WorkUnit::Pixels, 1_000_000),
        ("image_embed", WorkUnit::Calls, 1_000),
    ];
    let lines = tariff.price(&measured(0, 0, &work));
    let amounts: Vec<String> = lines.iter().map(|line| line.amount.to_string()).collect();
    assert_eq!(amounts, ["0.020000", "0.250000", "0.400000"]);
    assert!(lines.iter().all(|line| matches!(line.unit, Unit::Work(_))));
}

#[test]
fn bad_tariffs_are_refused() {
    for (price, reason) in [
        ("\"-0.1\"", "out of range"),
        ("\"10000.1\"", "out of range"),
        ("\"0.0000000001\"", "too fine"),
        ("\"NaN\"", "not a decimal number"),
        ("\"1e3\"", "not a decimal number"),
        ("\"\"", "not a decimal number"),
        ("0.1", "expected a string"),
        ("nan", "expected a string"),
    ] {
        let error = with_price("gb_scanned", price).unwrap_err();
        assert!(error.contains(reason), "{price}: {error}");
    }
    assert!(
        with_price("gb_scaned", "\"1\"")
            .unwrap_err()
            .contains("unknown field")
    );
    let text = common::TARIFF;
    for (bad, reason) in [
        (text.replace("EUR", "eur"), "three capital letters"),
        (text.replace("EUR", "EURO"), "three capital letters"),
        (text.replace("2026-1", ""), "1 to 64 characters"),
        (format!("{text}gb_scanned = \"1\"\n"), "cannot price bytes"),
    ] {
        let error = toml::from_str::<Tariff>(&bad).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let json = serde_json::to_string(&common::tariff()).unwrap();
    assert_eq!(
        serde_json::from_str::<Tariff>(&json).unwrap(),
        common::tariff()
    );
}
