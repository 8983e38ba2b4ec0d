//! The hub's store: persons, projects, habilitations, tokens, the manifests of project
//! spaces, and the tables of the ledger, on SQLite or PostgreSQL.
//!
//! Both databases run the same statements through sqlx's `Any` driver: `$1` parameters;
//! 64-bit integers, text and bytes only; times are microseconds since 1970 in UTC, money is
//! decimal text, lists are JSON text. Only the DDL differs, in two folders of migrations.
//!
//! The store knows nothing of SQL statements of users, of policies (a habilitation's body
//! is opaque text here) or of prices.

mod answers;
mod columns;
mod error;
mod exports;
mod habilitations;
mod identities;
mod linkage;
mod logins;
mod open;
mod oppositions;
mod passwords;
mod people;
mod rights;
mod roles;
mod secrets;
mod sizes;
mod space;
mod space_commit;
mod space_keys;
mod text_keys;
mod tokens;

pub use columns::{instant, instant_or_null, micros};
pub use error::StoreError;
pub use exports::{Export, ExportCounts, ExportDecision, ExportState, NewExport};
pub use habilitations::{HabilitationRow, NewHabilitation};
pub use hubflight_keys::{Key, KeyError, Secrets};
pub use identities::Identity;
pub use linkage::LinkageGeneration;
pub use logins::Login;
pub use open::{Backend, Store, StoreLimits, WriteTransaction};
pub use oppositions::Opposition;
pub use passwords::HashedPassword;
pub use people::{Member, Organisation, Person, PersonProfile, Project, Put};
pub use rights::Rights;
pub use roles::AdminRole;
pub use sizes::{VisibleSize, VisibleSizes};
pub use space::{ObjectKind, SpaceFile, SpaceObject, SpaceRoom, SpaceView};
pub use space_commit::{NewObject, SpaceChange, SpaceCommit, SpaceLimits};
pub use space_keys::SpaceKey;
pub use text_keys::TextHolder;
pub use tokens::{IssuedToken, NewToken, Token, TokenHolder};
