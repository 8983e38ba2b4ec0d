//! The functions of Hubflight on the CPU: pure, Arrow arrays in, Arrow arrays out.
//!
//! Nothing here reads files, speaks SQL or knows of users. Each function also has a plain Rust
//! form in its module, usable without Arrow.

mod execute;
mod rows;

pub mod dicom;
pub mod signal;
pub mod text;

pub use execute::{ComputeError, Output, RowError, execute};
pub use rows::{Limits, image_fields};
