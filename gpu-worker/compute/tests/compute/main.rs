//! The functions against known truth: hand-computed values, synthetic signals, annotated text.

#![allow(clippy::unwrap_used)] // a test that cannot go on should stop

mod dicom;
mod ecg;
mod execute;
mod hostile;
mod random;
mod text;
