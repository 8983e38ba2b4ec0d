//! From texts to policies that are checked.

use std::collections::BTreeMap;

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use data_encoding::HEXLOWER;
use miette::Diagnostic;
use sha2::{Digest, Sha256};

use super::{RulesFile, shape};
use crate::error::RightsError;

const SCHEMA: &str = include_str!("hub.cedarschema");
/// The hub's own policies, under the name that messages give them.
const HUB: RulesFile<'_> = RulesFile {
    name: "hub.cedar",
    text: include_str!("hub.cedar"),
};
/// How the identifiers of the hub's own policies begin.
const HUB_PREFIX: &str = "hub.";
/// Size of one file of policies.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Characters of a policy's identifier, which refusals and the audit show.
const ID_CHARACTERS_MAX: usize = 64;

/// Where a policy stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    file: RulesFile<'a>,
    /// From the begin of its file, in bytes.
    offset: usize,
}

/// The hub's policies and those of files, checked in strict mode.
///
/// # Errors
/// [`RightsError::Policy`], naming the file, the line and the policy.
pub(super) fn policies(files: &[RulesFile<'_>]) -> Result<PolicySet, RightsError> {
    let (policies, places) = read(files, true)?;
    check(&policies, &places)?;
    Ok(policies)
}

/// SHA-256 of the schema, the hub's policies and the files in their order, in hexadecimal.
pub(super) fn digest(files: &[RulesFile<'_>]) -> String {
    let mut hash = Sha256::new();
    let own = [SCHEMA, HUB.text].into_iter();
    for text in own.chain(files.iter().map(|file| file.text)) {
        // With its length before it, so that no text can pass for two.
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    HEXLOWER.encode(&hash.finalize())
}

pub(super) fn schema() -> Result<Schema, RightsError> {
    Schema::from_cedarschema_str(SCHEMA)
        .map(|(schema, _)| schema)
        .map_err(|error| RightsError::of_the_hub(error.to_string()))
}

pub(super) type Places<'a> = BTreeMap<String, Place<'a>>;

/// Reads without the check against the schema. `forbids_only` holds the files to policies that
/// forbid: see [`Place::admit`].
pub(super) fn read<'a>(
    files: &[RulesFile<'a>],
    forbids_only: bool,
) -> Result<(PolicySet, Places<'a>), RightsError> {
    let mut policies = PolicySet::new();
    let mut places = Places::new();
    for (index, file) in std::iter::once(&HUB).chain(files).enumerate() {
        let is_own = index == 0;
        for policy in parse(*file)?.policies() {
            let place = Place::of(*file, policy);
            let id = place.id(policy, is_own)?;
            if forbids_only && !is_own {
                place.admit(&id, policy)?;
            }
            if let Some(other) = places.insert(id.clone(), place) {
                let problem = format!(
                    "is also the name of a policy in `{}`, line {}; name each once",
                    other.file.name,
                    other.line()
                );
                return Err(place.error(Some(&id), problem));
            }
            let named = policy.new_id(PolicyId::new(&id));
            policies
                .add(named)
                .map_err(|error| place.error(Some(&id), error.to_string()))?;
        }
    }
    Ok((policies, places))
}

fn parse(file: RulesFile<'_>) -> Result<PolicySet, RightsError> {
    let start = Place { file, offset: 0 };
    if file.text.len() > FILE_BYTES_MAX {
        let problem = format!("is larger than {FILE_BYTES_MAX} bytes; split it");
        return Err(start.error(None, problem));
    }
    if let Some((offset, problem)) = shape::too_deep(file.text) {
        return Err(Place { file, offset }.error(None, problem));
    }
    let parsed: Result<PolicySet, _> = file.text.parse();
    let policies = parsed.map_err(|errors| start.at(&errors).error(None, said(&errors)))?;
    if let Some(template) = policies.templates().next() {
        let problem = "has a slot, which nothing fills; write the person or dataset itself";
        return Err(start.error(template.annotation("id"), problem.to_owned()));
    }
    Ok(policies)
}

/// What Cedar says, with what it would have expected where it knows.
fn said(error: &(impl Diagnostic + std::fmt::Display)) -> String {
    let label = error.labels().and_then(|mut labels| labels.next());
    match label.as_ref().and_then(|label| label.label()) {
        Some(label) => format!("{error}: {label}"),
        None => error.to_string(),
    }
}

/// A warning counts as an error: a policy that can never apply was meant to.
fn check(policies: &PolicySet, places: &Places<'_>) -> Result<(), RightsError> {
    let validator = Validator::new(schema()?);
    let result = validator.validate(policies, ValidationMode::Strict);
    let mut found = result.validation_errors().map(|error| {
        let id = error.policy_id().to_string();
        problem(places, id, error)
    });
    let mut doubted = result.validation_warnings().map(|warning| {
        let id = warning.policy_id().to_string();
        problem(places, id, warning)
    });
    found.next().or_else(|| doubted.next()).map_or(Ok(()), Err)
}

fn problem(
    places: &Places<'_>,
    id: String,
    found: &(impl Diagnostic + std::fmt::Display),
) -> RightsError {
    match places.get(&id) {
        Some(place) => place.at(found).error(Some(&id), said(found)),
        None => RightsError::of_the_hub(said(found)),
    }
}

impl<'a> Place<'a> {
    fn of(file: RulesFile<'a>, policy: &Policy) -> Self {
        // As it was written, which is a part of the file.
        let text = policy.to_cedar();
        let offset = text.and_then(|text| file.text.find(&text)).unwrap_or(0);
        Self { file, offset }
    }

    /// Where an error says that it is; here where it does not say.
    fn at(self, error: &impl Diagnostic) -> Self {
        let label = error.labels().and_then(|mut labels| labels.next());
        let offset = label.map_or(self.offset, |label| label.offset());
        Self { offset, ..self }
    }

    fn line(&self) -> usize {
        let bytes = self.file.text.as_bytes();
        let before = bytes.get(..self.offset).unwrap_or(bytes);
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// The name that a policy gives itself: what it forbids is told under it.
    fn id(&self, policy: &Policy, is_own: bool) -> Result<String, RightsError> {
        let id = policy.annotation("id").unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_plain = !id.is_empty() && id.len() <= ID_CHARACTERS_MAX && id.chars().all(plain);
        if !is_plain {
            let problem = format!(
                "is a policy without a name; write `@id(\"…\")` before it, of up to \
                 {ID_CHARACTERS_MAX} letters, digits and `.`, `_`, `-`"
            );
            return Err(self.error(None, problem));
        }
        if id.starts_with(HUB_PREFIX) != is_own {
            let problem =
                format!("has a name of the hub's own; begin it with another than `{HUB_PREFIX}`");
            return Err(self.error(Some(id), problem));
        }
        Ok(id.to_owned())
    }

    /// Refuses a policy that permits. It would open nothing, since the hub's own forbid whatever
    /// no habilitation grants; whoever wrote it believes that it does.
    fn admit(&self, id: &str, policy: &Policy) -> Result<(), RightsError> {
        match policy.effect() {
            Effect::Forbid => Ok(()),
            Effect::Permit => {
                let problem = "permits, which opens nothing: what is open is what habilitations \
                               grant; write `forbid`, and what it must not meet after `unless`";
                Err(self.error(Some(id), problem.to_owned()))
            }
        }
    }

    fn error(&self, policy: Option<&str>, problem: String) -> RightsError {
        RightsError::Policy {
            file: self.file.name.to_owned(),
            line: self.line(),
            policy: policy.map(str::to_owned),
            problem,
        }
    }
}
