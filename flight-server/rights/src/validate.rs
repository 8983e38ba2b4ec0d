//! Checks of datasets and habilitations before anybody relies on them. What only the files
//! can tell (types, columns of a table that lists none) is checked when a table is opened.

use std::collections::HashSet;
use std::sync::Arc;

use crate::dataset::{Dataset, ForeignKey, PERSONS_MIN_LEAST, PersonPath, Table};
use crate::error::RightsError;
use crate::habilitation::{
    Cohort, Columns, Habilitation, Mask, Predicate, TableGrant, Tables, Value,
};

/// Its name is part of what a key is asked by.
const LINKAGE_GROUP_CHARS_MAX: usize = 128;

/// Schemas of every catalog that no dataset may take.
pub const RESERVED_SCHEMAS: [&str; 5] = ["exports", "hub", "information_schema", "sample", "space"];
/// Characters of a dataset's or table's name.
pub const NAME_CHARS_MAX: usize = 63;
/// Nested predicates of one row filter.
pub const PREDICATE_DEPTH_MAX: usize = 64;

impl Dataset {
    /// # Errors
    /// [`RightsError::Dataset`], naming the table, the column and the rule that is broken.
    pub fn validate(&self) -> Result<(), RightsError> {
        if !is_name(&self.name) {
            return Err(self.error(None, None, NAME_RULE));
        }
        if RESERVED_SCHEMAS.contains(&self.name.as_str()) {
            return Err(self.error(None, None, "is a reserved schema; choose another name"));
        }
        if self.persons_min < PERSONS_MIN_LEAST {
            let problem =
                format!("has `persons_min` below {PERSONS_MIN_LEAST}, the least that noise allows");
            return Err(self.error(None, None, problem));
        }
        if self.producer.is_empty() {
            return Err(self.error(
                None,
                None,
                "has no producer; name who is remunerated for it",
            ));
        }
        let mut names = HashSet::new();
        for table in &self.tables {
            if !names.insert(&table.name) {
                return Err(self.error(Some(table), None, "is declared twice; keep one"));
            }
            self.validate_table(table)?;
        }
        Ok(())
    }

    fn validate_table(&self, table: &Table) -> Result<(), RightsError> {
        if !is_name(&table.name) {
            return Err(self.error(Some(table), None, NAME_RULE));
        }
        if table.location.is_empty() {
            return Err(self.error(
                Some(table),
                None,
                "has no location; name its folder or file",
            ));
        }
        let mut names = HashSet::new();
        for column in &table.columns {
            if column.name.is_empty() || !names.insert(&column.name) {
                let problem = "is declared twice or has no name; keep one";
                return Err(self.error(Some(table), Some(&column.name), problem));
            }
            if column.identifier.as_ref().is_some_and(String::is_empty) {
                let problem = "is an identifier of no domain; name what it identifies";
                return Err(self.error(Some(table), Some(&column.name), problem));
            }
        }
        self.known(
            table,
            table,
            &table.primary_key,
            "is in the primary key but not declared",
        )?;
        for key in &table.foreign_keys {
            self.validate_foreign_key(table, key)?;
        }
        self.validate_person(table)
    }

    fn validate_foreign_key(&self, table: &Table, key: &ForeignKey) -> Result<(), RightsError> {
        let Some(parent) = self.table(&key.parent) else {
            let problem = format!(
                "has a foreign key to `{}`, which does not exist",
                key.parent
            );
            return Err(self.error(Some(table), None, problem));
        };
        if key.columns.is_empty() || key.columns.len() != key.parent_columns.len() {
            let problem = format!(
                "has a foreign key to `{}` with {} columns to {}; pair them",
                key.parent,
                key.columns.len(),
                key.parent_columns.len()
            );
            return Err(self.error(Some(table), None, problem));
        }
        self.known(
            table,
            table,
            &key.columns,
            "is in a foreign key but not declared",
        )?;
        self.known(
            table,
            parent,
            &key.parent_columns,
            "is in a foreign key but not in the parent",
        )
    }

    fn validate_person(&self, table: &Table) -> Result<(), RightsError> {
        let mut path = vec![table.name.as_str()];
        let mut table = table;
        loop {
            match &table.person {
                PersonPath::None => return Ok(()),
                PersonPath::Column(column) => {
                    let problem = "identifies the person but is not declared";
                    return self.known(table, table, std::slice::from_ref(column), problem);
                }
                PersonPath::Parent { table: name, on } => {
                    let Some(parent) = self.table(name) else {
                        let problem = format!("leads to the person by `{name}`, which is missing");
                        return Err(self.error(Some(table), None, problem));
                    };
                    if on.is_empty() {
                        let problem = format!("leads to `{name}` by no column; name the pairs");
                        return Err(self.error(Some(table), None, problem));
                    }
                    for (own, parents) in on {
                        let problem = "leads to the person but is not declared";
                        self.known(table, table, std::slice::from_ref(own), problem)?;
                        self.known(table, parent, std::slice::from_ref(parents), problem)?;
                        self.same_domain(table, own, parent, parents)?;
                    }
                    if path.contains(&name.as_str()) {
                        let problem = format!(
                            "leads to the person in a circle (`{}`, `{name}`); break it",
                            path.join("`, `")
                        );
                        return Err(self.error(Some(table), None, problem));
                    }
                    path.push(name);
                    table = parent;
                }
            }
        }
    }

    /// A key that leads to the person is one identifier in both tables. Two domains, or one on
    /// one side only, would show the same value under two pseudonyms, or as stored.
    fn same_domain(
        &self,
        table: &Table,
        own: &str,
        parent: &Table,
        parents: &str,
    ) -> Result<(), RightsError> {
        let Some(domain) = table.identifier(own) else {
            return Ok(());
        };
        let problem = match self.identifier(parent, parents) {
            Some(other) if other == domain => return Ok(()),
            Some(other) => format!(
                "is an identifier of domain `{domain}` but leads to `{}.{parents}` of domain \
                 `{other}`; declare one domain",
                parent.name
            ),
            None => format!(
                "is an identifier of domain `{domain}` but leads to `{}.{parents}`, which is \
                 none; declare it there too",
                parent.name
            ),
        };
        Err(self.error(Some(table), Some(own), problem))
    }

    /// Every name is a column of `holder`, as far as its columns are declared.
    fn known(
        &self,
        table: &Table,
        holder: &Table,
        names: &[String],
        problem: &str,
    ) -> Result<(), RightsError> {
        match names.iter().find(|name| !may_have(holder, name)) {
            Some(name) => Err(self.error(Some(table), Some(name), problem)),
            None => Ok(()),
        }
    }

    fn error(
        &self,
        table: Option<&Table>,
        column: Option<&str>,
        problem: impl Into<String>,
    ) -> RightsError {
        RightsError::Dataset {
            dataset: self.name.clone(),
            table: table.map(|table| table.name.clone()),
            column: column.map(str::to_owned),
            problem: problem.into(),
        }
    }
}

impl Habilitation {
    /// Checks against the datasets that it names.
    ///
    /// # Errors
    /// [`RightsError::Habilitation`], naming the table, the column and the rule.
    pub fn validate(
        &self,
        dataset: impl Fn(&str) -> Option<Arc<Dataset>>,
    ) -> Result<(), RightsError> {
        let named = [
            (&self.id, "has no id; name it"),
            (&self.project, "has no project; name one"),
            (&self.linkage_group, "has no linkage group; name one"),
            (
                &self.decision,
                "has no decision; cite the one that grants it",
            ),
        ];
        if let Some((_, problem)) = named.iter().find(|(name, _)| name.is_empty()) {
            return Err(self.error(None, None, *problem));
        }
        let is_long = self.linkage_group.chars().count() > LINKAGE_GROUP_CHARS_MAX;
        if is_long || self.linkage_group.chars().any(char::is_control) {
            let problem =
                "has a linkage group of control characters, or of more than 128; name it shortly";
            return Err(self.error(None, None, problem));
        }
        if self.valid_to <= self.valid_from {
            return Err(self.error(None, None, "ends before it begins; set `valid_to` later"));
        }
        if let Some(zones) = &self.zones
            && !zones.iter().any(|zone| self.is_open_in(zone))
        {
            let problem = "names no zone from which it may be used: outside only aggregates with \
                           `export = \"rules\"` are read; name another zone than `outside`, or none";
            return Err(self.error(None, None, problem));
        }
        let Some(granted) = dataset(&self.dataset) else {
            let problem = format!("names dataset `{}`, which does not exist", self.dataset);
            return Err(self.error(None, None, problem));
        };
        if let Tables::Only(grants) = &self.tables {
            let mut names = HashSet::new();
            for grant in grants {
                if !names.insert(&grant.table) {
                    return Err(self.error(Some(&grant.table), None, "is granted twice; keep one"));
                }
                self.validate_grant(&granted, grant)?;
            }
        }
        match &self.persons {
            Some(cohort) => self.validate_cohort(dataset(&cohort.dataset).as_deref(), cohort),
            None => Ok(()),
        }
    }

    fn validate_grant(&self, dataset: &Dataset, grant: &TableGrant) -> Result<(), RightsError> {
        let Some(table) = dataset.table(&grant.table) else {
            return Err(self.error(Some(&grant.table), None, "does not exist in the dataset"));
        };
        let named: &[String] = match &grant.columns {
            Columns::All => &[],
            Columns::Only(names) if names.is_empty() => {
                let problem = "is granted without a column; name some or remove the table";
                return Err(self.error(Some(&table.name), None, problem));
            }
            Columns::Only(names) | Columns::Except(names) => names,
        };
        if let Some(name) = named.iter().find(|name| !may_have(table, name)) {
            return Err(self.error(Some(&table.name), Some(name), "does not exist"));
        }
        let mut masked = HashSet::new();
        for (index, (column, mask)) in grant.masks.iter().enumerate() {
            let problem = if !may_have(table, column) {
                "is masked but does not exist"
            } else if !masked.insert(column) {
                "has two masks; keep one"
            } else if dataset.identifier(table, column).is_some() {
                "is an identifier, which is re-keyed; remove its mask or the column"
            } else if !is_opened(&grant.columns, column) {
                "is masked but not granted; grant it or remove the mask"
            } else if matches!(mask, Mask::AgeBand(0) | Mask::Round(0)) {
                "is masked to multiples of zero; name a step of 1 or more"
            } else {
                continue;
            };
            let problem = format!("{problem} (rule `masks[{index}]`)");
            return Err(self.error(Some(&table.name), Some(column), problem));
        }
        match &grant.rows {
            Some(rows) => self.validate_predicate(table, rows, "rows"),
            None => Ok(()),
        }
    }

    fn validate_cohort(
        &self,
        dataset: Option<&Dataset>,
        cohort: &Cohort,
    ) -> Result<(), RightsError> {
        let Some(dataset) = dataset else {
            let problem = format!(
                "takes persons from dataset `{}`, which does not exist",
                cohort.dataset
            );
            return Err(self.error(None, None, problem));
        };
        let Some(table) = dataset.table(&cohort.table) else {
            let problem = format!(
                "holds the persons but is not in dataset `{}`",
                cohort.dataset
            );
            return Err(self.error(Some(&cohort.table), None, problem));
        };
        if !may_have(table, &cohort.column) {
            let problem = "holds the persons but does not exist";
            return Err(self.error(Some(&table.name), Some(&cohort.column), problem));
        }
        self.validate_predicate(table, &cohort.rows, "persons.rows")
    }

    fn validate_predicate(
        &self,
        table: &Table,
        rows: &Predicate,
        rule: &str,
    ) -> Result<(), RightsError> {
        let broken = Broken::find(table, rows, rule.to_owned(), 0);
        broken.map_or(
            Ok(()),
            |Broken {
                 rule,
                 column,
                 problem,
             }| {
                let problem = format!("{problem} (rule `{rule}`)");
                Err(self.error(Some(&table.name), column.as_deref(), problem))
            },
        )
    }

    fn error(
        &self,
        table: Option<&str>,
        column: Option<&str>,
        problem: impl Into<String>,
    ) -> RightsError {
        RightsError::Habilitation {
            id: self.id.clone(),
            version: self.version,
            table: table.map(str::to_owned),
            column: column.map(str::to_owned),
            problem: problem.into(),
        }
    }
}

/// What is wrong in a row predicate, and where: `rows.and[1].not`.
struct Broken {
    rule: String,
    column: Option<String>,
    problem: &'static str,
}

impl Broken {
    fn find(table: &Table, predicate: &Predicate, rule: String, depth: usize) -> Option<Self> {
        let in_parts = |parts: &[Predicate], name: &str| {
            let mut parts = parts.iter().enumerate();
            parts.find_map(|(index, part)| {
                Self::find(table, part, format!("{rule}.{name}[{index}]"), depth + 1)
            })
        };
        let (column, problem) = match predicate {
            _ if depth > PREDICATE_DEPTH_MAX => (
                None,
                Some("has a row predicate nested too deep; flatten it"),
            ),
            Predicate::And(parts) | Predicate::Or(parts) if parts.is_empty() => (
                None,
                Some("has a row predicate of no parts; fill or remove it"),
            ),
            Predicate::And(parts) => return in_parts(parts, "and"),
            Predicate::Or(parts) => return in_parts(parts, "or"),
            Predicate::Not(part) => {
                return Self::find(table, part, format!("{rule}.not"), depth + 1);
            }
            Predicate::Compare { column, value, .. } => (Some(column), not_finite([value])),
            Predicate::In { column, values } if values.is_empty() => (
                Some(column),
                Some("is compared with an empty list; name the values"),
            ),
            Predicate::In { column, values } => (Some(column), not_finite(values)),
            Predicate::Between { column, low, high } => {
                let problem = not_finite([low, high]).or_else(|| disorder(low, high));
                (Some(column), problem)
            }
            Predicate::IsNull { column } => (Some(column), None),
        };
        let missing = column.is_some_and(|column| !may_have(table, column));
        let missing = missing.then_some("is in a row predicate but does not exist");
        missing.or(problem).map(|problem| Self {
            rule,
            column: column.cloned(),
            problem,
        })
    }
}

fn not_finite<'a>(values: impl IntoIterator<Item = &'a Value>) -> Option<&'static str> {
    let infinite = |value: &Value| matches!(value, Value::Float(value) if !value.is_finite());
    let mut values = values.into_iter();
    values
        .any(infinite)
        .then_some("is compared with a number that is not finite")
}

/// Bounds between which no value can lie, or that no column can have both.
fn disorder(low: &Value, high: &Value) -> Option<&'static str> {
    let ordered = match (low, high) {
        (Value::Bool(low), Value::Bool(high)) => low <= high,
        (Value::Int(low), Value::Int(high)) => low <= high,
        (Value::Float(low), Value::Float(high)) => low <= high,
        (Value::Text(low), Value::Text(high)) => low <= high,
        (Value::Date(low), Value::Date(high)) => low <= high,
        _ => return Some("is between bounds of two types; write both as one"),
    };
    (!ordered).then_some("is between bounds in the wrong order; swap them")
}

const NAME_RULE: &str = "needs a name of lowercase letters, digits and `_`, from a letter on, \
                         of at most 63 characters";

fn is_name(name: &str) -> bool {
    name.len() <= NAME_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// False only when the table declares its columns and this is none of them.
fn may_have(table: &Table, column: &str) -> bool {
    table.columns.is_empty() || table.column(column).is_some()
}

fn is_opened(columns: &Columns, column: &str) -> bool {
    match columns {
        Columns::All => true,
        Columns::Only(names) => names.iter().any(|name| name == column),
        Columns::Except(names) => names.iter().all(|name| name != column),
    }
}
