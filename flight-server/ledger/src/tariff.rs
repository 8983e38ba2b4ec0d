//! Prices, and what a quantity costs: exact decimals, rounded in one place.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize};

use crate::LedgerError;
use crate::quantities::{Measured, WorkUnit};

/// Decimals of every amount: a millionth of the currency unit.
const AMOUNT_SCALE: u32 = 6;
/// Decimals that a price may have.
const PRICE_SCALE_MAX: u32 = 9;
/// Largest price of a priced unit. With it, [`amount`] cannot overflow, nor can the sum of
/// the lines that one record can have, even where every quantity is `u64::MAX`.
const PRICE_MAX: Decimal = Decimal::from_parts(10_000, 0, 0, false, 0);
const VERSION_CHARS_MAX: usize = 64;

/// What is counted and charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    BytesScanned,
    BytesReturned,
    Work(WorkUnit),
}

impl Unit {
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::BytesScanned => "bytes_scanned",
            Unit::BytesReturned => "bytes_returned",
            Unit::Work(work) => work.as_str(),
        }
    }

    /// The reverse of [`Unit::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "bytes_scanned" => Some(Unit::BytesScanned),
            "bytes_returned" => Some(Unit::BytesReturned),
            work => WorkUnit::parse(work).map(Unit::Work),
        }
    }

    /// A price is for ten to this power of the unit: gigabytes, millions, thousands.
    fn priced_power(self) -> u32 {
        match self {
            Unit::BytesScanned | Unit::BytesReturned => 9,
            Unit::Work(WorkUnit::Calls) => 3,
            Unit::Work(_) => 6,
        }
    }
}

/// Prices per unit, as decimal texts (`"0.004"`), which keep them exact. What is not priced
/// is free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prices {
    /// Per 10⁹ visible bytes scanned.
    #[serde(deserialize_with = "exact", skip_serializing_if = "Option::is_none")]
    pub gb_scanned: Option<Decimal>,
    /// Per 10⁹ bytes returned.
    #[serde(deserialize_with = "exact", skip_serializing_if = "Option::is_none")]
    pub gb_returned: Option<Decimal>,
    #[serde(deserialize_with = "exact", skip_serializing_if = "Option::is_none")]
    pub million_tokens: Option<Decimal>,
    #[serde(deserialize_with = "exact", skip_serializing_if = "Option::is_none")]
    pub million_pixels: Option<Decimal>,
    #[serde(deserialize_with = "exact", skip_serializing_if = "Option::is_none")]
    pub million_samples: Option<Decimal>,
    #[serde(deserialize_with = "exact", skip_serializing_if = "Option::is_none")]
    pub thousand_calls: Option<Decimal>,
}

impl Prices {
    fn of(&self, unit: Unit) -> Option<Decimal> {
        match unit {
            Unit::BytesScanned => self.gb_scanned,
            Unit::BytesReturned => self.gb_returned,
            Unit::Work(WorkUnit::Tokens) => self.million_tokens,
            Unit::Work(WorkUnit::Pixels) => self.million_pixels,
            Unit::Work(WorkUnit::Samples) => self.million_samples,
            Unit::Work(WorkUnit::Calls) => self.thousand_calls,
        }
    }

    fn all(&self) -> [(&'static str, Option<Decimal>); 6] {
        [
            ("gb_scanned", self.gb_scanned),
            ("gb_returned", self.gb_returned),
            ("million_tokens", self.million_tokens),
            ("million_pixels", self.million_pixels),
            ("million_samples", self.million_samples),
            ("thousand_calls", self.thousand_calls),
        ]
    }
}

/// A decimal from a text: a float literal would already have been rounded.
fn exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Decimal>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let refuse = |_| serde::de::Error::custom(format!("price `{text}` is not a decimal number"));
    Decimal::from_str_exact(&text).map(Some).map_err(refuse)
}

/// What a tariff is made of, as the configuration writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TariffParts {
    pub version: String,
    /// ISO 4217: three capital letters.
    pub currency: String,
    pub prices: Prices,
    /// Prices that replace the general ones for the work of a function or model.
    #[serde(default)]
    pub functions: BTreeMap<String, Prices>,
}

/// A valid version of the prices. A version is never reused with other prices: records name
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TariffParts", into = "TariffParts")]
pub struct Tariff {
    parts: TariffParts,
}

impl From<Tariff> for TariffParts {
    fn from(tariff: Tariff) -> Self {
        tariff.parts
    }
}

impl TryFrom<TariffParts> for Tariff {
    type Error = LedgerError;

    fn try_from(parts: TariffParts) -> Result<Self, LedgerError> {
        parts.validate()?;
        Ok(Tariff { parts })
    }
}

/// One line of a record: `amount` is `quantity × unit_price`, rounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub unit: Unit,
    /// The function or model that worked; none for bytes.
    pub function: Option<String>,
    pub quantity: u64,
    /// Exact price of one byte, token, pixel, sample or call.
    pub unit_price: Decimal,
    pub amount: Decimal,
}

impl TariffParts {
    fn validate(&self) -> Result<(), LedgerError> {
        let refuse = |text: String| Err(LedgerError::Tariff(text));
        if self.version.is_empty() || self.version.len() > VERSION_CHARS_MAX {
            return refuse(format!(
                "version `{}` must have 1 to {VERSION_CHARS_MAX} characters",
                self.version
            ));
        }
        if self.currency.len() != 3 || !self.currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return refuse(format!(
                "currency `{}` is not a code of three capital letters; write one like `EUR`",
                self.currency
            ));
        }
        let general = ("prices", &self.prices);
        let functions = self.functions.iter().map(|(name, p)| (name.as_str(), p));
        for (place, prices) in std::iter::once(general).chain(functions) {
            for (name, price) in prices.all() {
                let Some(price) = price else { continue };
                if price.is_sign_negative() || price > PRICE_MAX {
                    return refuse(format!(
                        "price `{name} = {price}` of `{place}` is out of range; write 0 to \
                         {PRICE_MAX}"
                    ));
                }
                if price.normalize().scale() > PRICE_SCALE_MAX {
                    return refuse(format!(
                        "price `{name} = {price}` of `{place}` is too fine; write at most \
                         {PRICE_SCALE_MAX} decimals"
                    ));
                }
            }
        }
        for (function, prices) in &self.functions {
            if prices.gb_scanned.is_some() || prices.gb_returned.is_some() {
                return refuse(format!(
                    "function `{function}` cannot price bytes; move the price to `prices`"
                ));
            }
        }
        Ok(())
    }
}

impl Tariff {
    /// # Errors
    /// [`LedgerError::Tariff`] for a negative, too large or too fine price, another kind of
    /// currency, an empty version, or a price of bytes for one function.
    pub fn new(parts: TariffParts) -> Result<Self, LedgerError> {
        parts.try_into()
    }

    pub fn version(&self) -> &str {
        &self.parts.version
    }

    /// ISO 4217 code.
    pub fn currency(&self) -> &str {
        &self.parts.currency
    }

    pub fn prices(&self) -> &Prices {
        &self.parts.prices
    }

    /// The lines of what was measured, without those of nothing. The cost is their sum.
    pub fn price(&self, measured: &Measured) -> Vec<Line> {
        let bytes = [
            (Unit::BytesScanned, None, measured.bytes_scanned),
            (Unit::BytesReturned, None, measured.bytes_returned),
        ];
        let work = measured.work.iter().map(|work| {
            (
                Unit::Work(work.unit),
                Some(work.function.as_str()),
                work.quantity,
            )
        });
        bytes
            .into_iter()
            .chain(work)
            .filter(|(_, _, quantity)| *quantity > 0)
            .map(|(unit, function, quantity)| {
                let price = self.unit_price(unit, function);
                Line {
                    unit,
                    function: function.map(str::to_owned),
                    quantity,
                    unit_price: unit_price(price, unit),
                    amount: amount(quantity, price, unit),
                }
            })
            .collect()
    }

    fn unit_price(&self, unit: Unit, function: Option<&str>) -> Decimal {
        function
            .and_then(|name| self.parts.functions.get(name))
            .and_then(|prices| prices.of(unit))
            .or_else(|| self.parts.prices.of(unit))
            .unwrap_or_default()
            .normalize()
    }
}

/// The sum of lines, exact.
pub(crate) fn total(lines: &[Line]) -> Decimal {
    lines.iter().map(|line| line.amount).sum()
}

fn unit_price(price: Decimal, unit: Unit) -> Decimal {
    Decimal::from_i128_with_scale(price.mantissa(), price.scale() + unit.priced_power()).normalize()
}

/// The one place where money is rounded: half to even, to a millionth, once per line of a
/// record. Costs, bills and invoices are sums of lines and round nothing.
///
/// With a validated price the mantissa is below 10¹³, so that the product of any `u64` stays
/// below 2¹⁰⁸ and the result below 2·10²⁶ millionths, which a decimal holds 400 times over.
fn amount(quantity: u64, price: Decimal, unit: Unit) -> Decimal {
    let product = i128::from(quantity) * price.mantissa();
    let scale = price.scale() + unit.priced_power();
    let millionths = if scale <= AMOUNT_SCALE {
        product * 10_i128.pow(AMOUNT_SCALE - scale)
    } else {
        divide_half_even(product, 10_i128.pow(scale - AMOUNT_SCALE))
    };
    Decimal::from_i128_with_scale(millionths, AMOUNT_SCALE)
}

/// Both positive, the divisor even.
fn divide_half_even(dividend: i128, divisor: i128) -> i128 {
    let quotient = dividend / divisor;
    let remainder = dividend % divisor;
    let half = divisor / 2;
    let up = remainder > half || (remainder == half && quotient % 2 == 1);
    quotient + i128::from(up)
}
