//! The keys of pseudonyms: one for each project, linkage group and generation, had from the key
//! provider one by one, so that who has one scope's has no other's.

use std::sync::Arc;

use hubflight_policy::{LinkageKeys, Secret};
use hubflight_store::Secrets;

use crate::error::Result;

pub fn keys(
    secrets: &Secrets,
    project: &str,
    linkage_group: &str,
    generation: u32,
) -> Result<Arc<LinkageKeys>> {
    let secret = Secret {
        pseudonyms: secrets.derive(&label(project, linkage_group, generation))?,
        cells: secrets.derive("cell keys")?,
    };
    Ok(Arc::new(LinkageKeys::new(secret, project, linkage_group)))
}

/// With the lengths of its parts, so that no name can imitate another scope. It names them for
/// whoever reads a key process's trace.
fn label(project: &str, linkage_group: &str, generation: u32) -> String {
    format!(
        "pseudonyms {generation} {}:{project} {}:{linkage_group}",
        project.len(),
        linkage_group.len()
    )
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn scopes_and_generations_share_no_pseudonym() {
        let secrets = Secrets::new([7; 32]);
        let shown = |project: &str, group: &str, generation: u32| {
            let keys = keys(&secrets, project, group, generation).expect("keys");
            let shown = keys
                .cipher("person")
                .encrypt_array(&Int64Array::from(vec![1]));
            shown.expect("a pseudonym").value(0).to_owned()
        };
        let all = [
            shown("a", "b", 1),
            shown("a", "b", 2),
            shown("a", "c", 1),
            shown("b", "b", 1),
            shown("a b", "c", 1),
            shown("a", "b c", 1),
        ];
        let distinct: std::collections::BTreeSet<&String> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(shown("a", "b", 1), all[0]);
    }

    /// Who looks for one person's noise anew finds the same.
    #[test]
    fn noise_is_the_same_in_every_scope_and_generation() {
        let secrets = Secrets::new([7; 32]);
        let cells = |project: &str, generation: u32| {
            let keys = keys(&secrets, project, "g", generation).expect("keys");
            keys.cells("person").fingerprint()
        };
        assert_eq!(cells("a", 1), cells("a", 2));
        assert_eq!(cells("a", 1), cells("b", 1));
    }

    #[test]
    fn labels_are_what_a_key_process_takes() {
        assert_eq!(label("étude", "main", 3), "pseudonyms 3 6:étude 4:main");
    }
}
