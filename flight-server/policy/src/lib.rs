//! Habilitations, pure decisions and the barrier (`PolicyScan`) between users and data.

pub mod dataset;
pub mod habilitation;
