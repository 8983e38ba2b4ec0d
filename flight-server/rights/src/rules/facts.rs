//! A request in Cedar's terms: the entities of this request only, and its context.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request as Asked,
    RestrictedExpression,
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::decision::{Action, Request};
use crate::error::RightsError;
use crate::habilitation::Habilitation;

/// The last instant that Cedar can write, in seconds: the end of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;
/// Instants that are kept as expressions.
const INSTANTS_MAX: usize = 1_000;

/// What is made once for all requests: the types of entities, and instants.
pub(super) struct Names {
    person: EntityTypeName,
    project: EntityTypeName,
    dataset: EntityTypeName,
    action: EntityTypeName,
    /// Instants that were asked about: those of periods recur, and a call decides on everything as
    /// of one. They are the dearest part of a request, because Cedar parses the name of their type
    /// each time.
    instants: Mutex<HashMap<DateTime<Utc>, RestrictedExpression>>,
}

pub(super) struct Facts {
    pub request: Asked,
    pub entities: Entities,
}

type Failure = Box<dyn std::error::Error>;

impl Names {
    pub fn new() -> Result<Self, RightsError> {
        let name = |text: &str| {
            text.parse::<EntityTypeName>()
                .map_err(|error| RightsError::of_the_hub(format!("type `{text}`: {error}")))
        };
        Ok(Self {
            person: name("Person")?,
            project: name("Project")?,
            dataset: name("Dataset")?,
            action: name("Action")?,
            instants: Mutex::default(),
        })
    }

    /// # Errors
    /// Where a fact is none that Cedar knows.
    pub fn facts(
        &self,
        request: &Request<'_>,
        habilitation: &Habilitation,
    ) -> Result<Facts, Failure> {
        let person = uid(&self.person, &request.who.person);
        let dataset = uid(&self.dataset, request.dataset);
        let action = uid(&self.action, request.action.label());
        let context = Context::from_pairs(self.context(request, habilitation)?)?;
        let entities = Entities::from_entities(
            [
                self.person(request, person.clone())?,
                self.project(request)?,
                Self::dataset(request, dataset.clone())?,
            ],
            None,
        )?;
        // Neither is compared with the schema here: what they are made of does not depend on the
        // request, and a test compares each of its forms.
        let request = Asked::new(person, action, dataset, context, None)?;
        Ok(Facts { request, entities })
    }

    fn person(&self, request: &Request<'_>, uid_of: EntityUid) -> Result<Entity, Failure> {
        let who = request.who;
        let attributes = HashMap::from([
            ("id".to_owned(), text(&who.person)),
            ("roles".to_owned(), set(&who.roles)),
        ]);
        let projects = who.projects.keys().map(|id| uid(&self.project, id));
        let projects: HashSet<EntityUid> = projects.collect();
        Ok(Entity::new(uid_of, attributes, projects)?)
    }

    /// Without what is not known of it to somebody who is no member.
    fn project(&self, request: &Request<'_>) -> Result<Entity, Failure> {
        let organisation = request.who.projects.get(request.project);
        let attributes = organisation.map(|name| ("organisation".to_owned(), text(name)));
        let uid = uid(&self.project, request.project);
        Ok(Entity::new(
            uid,
            attributes.into_iter().collect(),
            HashSet::new(),
        )?)
    }

    /// Without attributes where nobody describes it: a policy that asks for one denies then.
    fn dataset(request: &Request<'_>, uid: EntityUid) -> Result<Entity, Failure> {
        let attributes = request.described.map(|dataset| {
            let synthetic = RestrictedExpression::new_bool(dataset.synthetic);
            [
                ("producer".to_owned(), text(&dataset.producer)),
                ("synthetic".to_owned(), synthetic),
            ]
        });
        let attributes = attributes.into_iter().flatten().collect();
        Ok(Entity::new(uid, attributes, HashSet::new())?)
    }

    fn context(
        &self,
        request: &Request<'_>,
        habilitation: &Habilitation,
    ) -> Result<[(String, RestrictedExpression); 5], Failure> {
        let project = uid(&self.project, request.project);
        let login = request.who.login;
        let login = [
            ("method".to_owned(), text(login.method.label())),
            (
                "second_factor".to_owned(),
                RestrictedExpression::new_bool(login.second_factor),
            ),
        ];
        Ok([
            (
                "project".to_owned(),
                RestrictedExpression::new_entity_uid(project),
            ),
            ("habilitation".to_owned(), self.habilitation(habilitation)?),
            ("zone".to_owned(), text(request.zone.name())),
            ("now".to_owned(), self.instant(request.at)),
            ("login".to_owned(), RestrictedExpression::new_record(login)?),
        ])
    }

    fn habilitation(&self, habilitation: &Habilitation) -> Result<RestrictedExpression, Failure> {
        // Up to the next millisecond, so that the last instant of a period is in it.
        let end = habilitation
            .valid_to
            .checked_add_signed(TimeDelta::nanoseconds(999_999));
        let end = end.unwrap_or(habilitation.valid_to);
        let mut fields = vec![
            ("id".to_owned(), text(&habilitation.id)),
            (
                "version".to_owned(),
                RestrictedExpression::new_long(i64::from(habilitation.version)),
            ),
            ("mode".to_owned(), text(habilitation.mode.label())),
            ("decision".to_owned(), text(&habilitation.decision)),
            (
                "linkage_group".to_owned(),
                text(&habilitation.linkage_group),
            ),
            ("export".to_owned(), text(habilitation.export.label())),
            (
                "valid_from".to_owned(),
                self.instant(habilitation.valid_from),
            ),
            ("valid_to".to_owned(), self.instant(end)),
        ];
        if let Some(zones) = &habilitation.zones {
            let names = zones.iter().map(crate::zone::Zone::name);
            fields.push(("zones".to_owned(), set(names)));
        }
        Ok(RestrictedExpression::new_record(fields)?)
    }

    fn instant(&self, at: DateTime<Utc>) -> RestrictedExpression {
        let mut instants = self.instants.lock().unwrap_or_else(PoisonError::into_inner);
        if instants.len() >= INSTANTS_MAX {
            instants.clear();
        }
        instants.entry(at).or_insert_with(|| instant(at)).clone()
    }
}

impl Action {
    /// What policies call it.
    fn label(self) -> &'static str {
        match self {
            Self::Browse => "browse",
            Self::ReadRows => "read_rows",
            Self::Aggregate => "aggregate",
            Self::Export => "export",
        }
    }
}

/// Made of its parts: whatever an identifier is written like, it stays one.
fn uid(name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn set<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> RestrictedExpression {
    RestrictedExpression::new_set(texts.into_iter().map(|part| text(part.as_ref())))
}

/// An instant, down to its millisecond; what Cedar cannot write is the nearest that it can.
fn instant(at: DateTime<Utc>) -> RestrictedExpression {
    let last = DateTime::from_timestamp(SECONDS_MAX, 0).unwrap_or(DateTime::UNIX_EPOCH);
    let at = at.clamp(DateTime::UNIX_EPOCH, last);
    RestrictedExpression::new_datetime(at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}
