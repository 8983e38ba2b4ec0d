//! Rebuilds the crate when a migration is added, which the macro alone does not notice.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
