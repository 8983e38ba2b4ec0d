//! Where callers are, told by the listener that they called.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::habilitation::{ExportRule, Habilitation, Mode};

/// The zone of listeners that declare none: nothing but aggregates and released exports leaves
/// the hub by it.
pub const OUTSIDE: &str = "outside";

const CHARACTERS_MAX: usize = 32;

/// The name of a zone: `inside`, `outside`, `hospital`, …
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(String);

impl Zone {
    pub fn name(&self) -> &str {
        &self.0
    }

    pub fn is_outside(&self) -> bool {
        self.0 == OUTSIDE
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self(OUTSIDE.to_owned())
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |character: char| {
            character.is_ascii_lowercase() || character.is_ascii_digit() || "_-".contains(character)
        };
        let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
        if begins && name.len() <= CHARACTERS_MAX && name.chars().all(plain) {
            return Ok(Self(name));
        }
        Err(format!(
            "zone `{}` is no name; write up to {CHARACTERS_MAX} of a-z, 0-9, `_` and `-`, a \
             letter first",
            name.escape_debug()
        ))
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Habilitation {
    /// Whether it may be used from a zone: one that it names, or any where it names none; from
    /// outside only in aggregate mode with exports as the rules decide, whatever it names.
    pub fn is_open_in(&self, zone: &Zone) -> bool {
        let is_named = match &self.zones {
            Some(zones) => zones.contains(zone),
            None => true,
        };
        is_named && (!zone.is_outside() || self.leaves_alone())
    }

    /// What it shows may leave without anybody's decision.
    fn leaves_alone(&self) -> bool {
        self.mode == Mode::Aggregate && self.export == ExportRule::Rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["inside", "outside", "chu-2", "a"] {
            assert_eq!(Zone::try_from(name.to_owned()).expect("valid").name(), name);
        }
        for name in [
            "",
            "Inside",
            "2nd",
            "in side",
            "in\nside",
            "é",
            &"z".repeat(33),
        ] {
            assert!(Zone::try_from(name.to_owned()).is_err(), "{name}");
        }
    }
}
