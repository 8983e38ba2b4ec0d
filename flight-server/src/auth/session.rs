//! Session options, kept per session and bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hubflight_tickets::{Compression, Priority};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::exec::dealt::PARTS_MAX;

/// What a session asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionOptions {
    /// The project, as `catalog`.
    pub catalog: Option<String>,
    /// The schema that unqualified names are looked up in.
    pub schema: Option<String>,
    /// IANA name or offset.
    pub time_zone: Option<String>,
    /// How many endpoints a result is read from, where its rows have no order.
    pub wire_endpoints: Endpoints,
    /// Send `Utf8View` and `BinaryView` as they are.
    pub wire_views: bool,
    pub compression: Compression,
    pub statement_seconds: Option<u64>,
    pub priority: Priority,
    /// Free text kept with each statement, for cost reports.
    pub tags: Option<String>,
}

impl SessionOptions {
    /// Sets one option by its name on the wire; an empty value clears it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let text = (!value.is_empty()).then(|| value.to_owned());
        match name {
            "catalog" => self.catalog = text.map(|text| short(name, text)).transpose()?,
            "schema" => self.schema = text.map(|text| short(name, text)).transpose()?,
            "time_zone" | "timezone" => self.time_zone = text.map(time_zone).transpose()?,
            "tags" => self.tags = text.map(|text| short(name, text)).transpose()?,
            "wire.endpoints" => self.wire_endpoints = endpoints(value)?,
            "wire.views" => self.wire_views = boolean(name, value)?,
            "wire.compression" => self.compression = compression(value)?,
            "priority" => self.priority = priority(value)?,
            "statement_seconds" => {
                self.statement_seconds = text
                    .map(|text| {
                        let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
                        seconds.ok_or_else(|| {
                            Error::invalid(format!(
                                "`{value}` is no number of seconds for `statement_seconds`"
                            ))
                        })
                    })
                    .transpose()?;
            }
            _ => {
                return Err(Error::invalid(format!(
                    "unknown session option `{name}`; there are {}",
                    OPTION_NAMES.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// Every option that is set, by its name on the wire.
    pub fn list(&self) -> Vec<(&'static str, Setting)> {
        let compression = match self.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        let priority = match self.priority {
            Priority::Interactive => "interactive",
            Priority::Batch => "batch",
        };
        let text = |text: &str| Setting::Text(text.to_owned());
        let texts = [
            ("catalog", &self.catalog),
            ("schema", &self.schema),
            ("time_zone", &self.time_zone),
            ("tags", &self.tags),
        ];
        let seconds = self.statement_seconds.map(i64::try_from);
        let seconds = seconds.map(|seconds| Setting::Count(seconds.unwrap_or(i64::MAX)));
        [
            (
                "wire.endpoints",
                Setting::Count(i64::from(self.wire_endpoints.0)),
            ),
            ("wire.views", Setting::Bool(self.wire_views)),
            ("wire.compression", text(compression)),
            ("priority", text(priority)),
        ]
        .into_iter()
        .chain(seconds.map(|seconds| ("statement_seconds", seconds)))
        .chain(
            texts
                .into_iter()
                .filter_map(|(name, value)| Some((name, text(value.as_deref()?)))),
        )
        .collect()
    }
}

/// The value of an option, as clients are told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    Bool(bool),
    Count(i64),
    Text(String),
}

/// The names that `SetSessionOptions` takes.
pub const OPTION_NAMES: [&str; 9] = [
    "catalog",
    "priority",
    "schema",
    "statement_seconds",
    "tags",
    "time_zone",
    "wire.compression",
    "wire.endpoints",
    "wire.views",
];

/// A longer text is refused: it is kept with the session, and sent in each ticket.
const TEXT_BYTES_MAX: usize = 1024;

fn short(name: &str, text: String) -> Result<String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::invalid(format!(
            "`{name}` has {} bytes; at most {TEXT_BYTES_MAX} are kept",
            text.len()
        )));
    }
    Ok(text)
}

fn time_zone(text: String) -> Result<String> {
    text.parse::<arrow::array::timezone::Tz>().map_err(|_| {
        Error::invalid(format!(
            "unknown time zone `{text}`; write an IANA name such as `Europe/Paris` or an offset"
        ))
    })?;
    Ok(text)
}

/// From 1 to [`PARTS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints(pub u16);

impl Default for Endpoints {
    fn default() -> Self {
        Self(1)
    }
}

fn endpoints(value: &str) -> Result<Endpoints> {
    if value.is_empty() {
        return Ok(Endpoints::default());
    }
    let count = value.parse().ok();
    let count = count.filter(|count| (1..=PARTS_MAX).contains(count));
    count.map(Endpoints).ok_or_else(|| {
        Error::invalid(format!(
            "`{value}` is no number of endpoints for `wire.endpoints`; write one from 1 to \
             {PARTS_MAX}"
        ))
    })
}

fn boolean(name: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" | "" => Ok(false),
        _ => Err(Error::invalid(format!(
            "`{value}` is no boolean for `{name}`; write `true` or `false`"
        ))),
    }
}

fn priority(value: &str) -> Result<Priority> {
    match value {
        "" | "interactive" => Ok(Priority::Interactive),
        "batch" => Ok(Priority::Batch),
        _ => Err(Error::invalid(format!(
            "unknown `priority` `{value}`; there are `interactive` and `batch`"
        ))),
    }
}

fn compression(value: &str) -> Result<Compression> {
    match value {
        "" | "none" => Ok(Compression::None),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        _ => Err(Error::invalid(format!(
            "unknown `wire.compression` `{value}`; there are `none`, `lz4` and `zstd`"
        ))),
    }
}

/// Sessions with options that one person may have at once: a person who opens sessions without
/// end spends their own share only.
pub const SESSIONS_PER_PERSON_MAX: usize = 200;

/// Which session, and whose: what it takes up counts against its person.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    pub person: String,
    pub name: String,
}

/// The sessions that set options. A session that set none takes no room here.
#[derive(Debug)]
pub struct Sessions {
    entries: Mutex<HashMap<SessionId, Entry>>,
    sessions_max: usize,
    idle_max: Duration,
}

#[derive(Debug)]
struct Entry {
    options: SessionOptions,
    used: Instant,
}

impl Sessions {
    pub fn new(sessions_max: usize, idle_max: Duration) -> Self {
        Self {
            entries: Mutex::new(HashMap::new()),
            sessions_max,
            idle_max,
        }
    }

    pub fn options(&self, session: &SessionId) -> SessionOptions {
        let mut entries = self.entries.lock();
        let Some(entry) = entries.get_mut(session) else {
            return SessionOptions::default();
        };
        if entry.used.elapsed() > self.idle_max {
            entries.remove(session);
            return SessionOptions::default();
        }
        entry.used = Instant::now();
        entry.options.clone()
    }

    /// Replaces a session's options; refused when too many sessions are alive, of this person
    /// or of all.
    pub fn put(&self, session: &SessionId, options: SessionOptions) -> Result<()> {
        let mut entries = self.entries.lock();
        if !entries.contains_key(session) {
            self.make_room(&mut entries, &session.person)?;
        }
        let used = Instant::now();
        entries.insert(session.clone(), Entry { options, used });
        Ok(())
    }

    fn make_room(&self, entries: &mut HashMap<SessionId, Entry>, person: &str) -> Result<()> {
        let own = |entries: &HashMap<SessionId, Entry>| {
            entries.keys().filter(|id| id.person == person).count()
        };
        let full = |entries: &HashMap<SessionId, Entry>| {
            entries.len() >= self.sessions_max || own(entries) >= SESSIONS_PER_PERSON_MAX
        };
        if full(entries) {
            entries.retain(|_, entry| entry.used.elapsed() <= self.idle_max);
        }
        if own(entries) >= SESSIONS_PER_PERSON_MAX {
            return Err(Error::exhausted(format!(
                "{SESSIONS_PER_PERSON_MAX} of your sessions are open; close some and try again"
            )));
        }
        if entries.len() >= self.sessions_max {
            return Err(Error::exhausted(
                "too many sessions are open on this hub; try again later",
            ));
        }
        Ok(())
    }

    pub fn close(&self, session: &SessionId) -> bool {
        self.entries.lock().remove(session).is_some()
    }

    /// Sessions that hold options, idle ones included.
    pub fn count(&self) -> usize {
        self.entries.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_set_listed_and_refused_by_name() {
        let mut options = SessionOptions::default();
        options.set("catalog", "readmission").expect("known");
        options.set("wire.compression", "zstd").expect("known");
        options.set("time_zone", "Europe/Paris").expect("known");
        let catalog = Setting::Text("readmission".into());
        assert!(options.list().contains(&("catalog", catalog)));
        options.set("statement_seconds", "7").expect("known");
        assert!(
            options
                .list()
                .contains(&("statement_seconds", Setting::Count(7)))
        );
        for wrong in ["0", "-1", "soon"] {
            assert!(options.set("statement_seconds", wrong).is_err(), "{wrong}");
        }
        options.set("priority", "batch").expect("known");
        assert!(options.set("priority", "urgent").is_err());
        options.set("wire.endpoints", "16").expect("known");
        for wrong in ["0", "17", "-1", "many", "1.5"] {
            assert!(options.set("wire.endpoints", wrong).is_err(), "{wrong}");
        }
        assert!(options.set("catalgo", "x").is_err());
        assert!(options.set("time_zone", "Mars/Olympus").is_err());
        options.set("catalog", "").expect("clears");
        assert_eq!(options.catalog, None);
        for name in ["catalog", "schema", "tags"] {
            options.set(name, &"x".repeat(1024)).expect("short");
            assert!(options.set(name, &"x".repeat(1025)).is_err(), "{name}");
        }
    }

    fn id(person: &str, name: &str) -> SessionId {
        SessionId {
            person: person.into(),
            name: name.into(),
        }
    }

    #[test]
    fn sessions_are_bounded_and_expire() {
        let (a, b) = (id("ada", "a"), id("ada", "b"));
        let sessions = Sessions::new(1, Duration::from_secs(60));
        sessions.put(&a, SessionOptions::default()).expect("room");
        assert!(sessions.put(&b, SessionOptions::default()).is_err());
        assert!(sessions.close(&a));
        sessions.put(&b, SessionOptions::default()).expect("room");

        let expiring = Sessions::new(1, Duration::ZERO);
        let mut options = SessionOptions::default();
        options.set("schema", "snds").expect("known");
        expiring.put(&a, options).expect("room");
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(expiring.options(&a), SessionOptions::default());
    }

    #[test]
    fn a_person_fills_their_own_share_only() {
        let sessions = Sessions::new(10_000, Duration::from_secs(60));
        let options = SessionOptions::default;
        for session in 0..SESSIONS_PER_PERSON_MAX {
            let session = id("mallory", &session.to_string());
            sessions.put(&session, options()).expect("their share");
        }
        let error = sessions
            .put(&id("mallory", "more"), options())
            .expect_err("is full");
        assert_eq!(error.kind, crate::error::ErrorKind::ResourceExhausted);
        sessions
            .put(&id("mallory", "0"), options())
            .expect("replaces their own");
        sessions
            .put(&id("ada", "a"), options())
            .expect("others are not hindered");
    }
}
