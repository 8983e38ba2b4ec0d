//! Synthetic demo data, seeded: `snds`, `cardio`, `imaging`, `reports` and the raw two, with the
//! truth beside them.
//!
//! Persons are shared between the datasets, so that dates and identifiers agree. Nothing is
//! taken from real data; distributions are rounded from published statistics. A dataset is a
//! folder with `dataset.json` and one folder of Parquet files a table; identifiers are stored as
//! dense numbers in an order that the seed alone determines, and are declared as such.

mod calendar;
mod cardio;
mod care;
mod choice;
mod codes;
mod dice;
mod diseases;
mod facts;
mod generate;
mod identity;
mod imaging;
mod parallel;
mod people;
mod places;
mod reasons;
mod reports;
mod snds;
mod stays;
mod tables;
mod world;

pub use facts::Facts;
pub use generate::{Request, Summary, generate, generate_with};
pub use snds::truth::{DiagnosisRate, Rate, Readmission};

/// Version of the generator: any change of a value it writes is a new version, and demo data of
/// another version are made again.
pub const DATA_VERSION: u32 = 1;
