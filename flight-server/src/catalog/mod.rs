//! What a project sees: its datasets through the barrier, its space, and schema `hub`.

pub(crate) mod bucket;
pub mod datasets;
pub mod dicom_folder;
pub mod hub_schema;
pub mod project;
pub mod space;
#[cfg(test)]
mod tests;
pub mod visible;
