//! One execution that is read from several endpoints: its frames are dealt to those who read.
//!
//! ```text
//!  flight info ──▶ expected ──first part fetched──▶ runs ──▶ every frame to one of the parts
//!                                                    │
//!                                     a part is dropped before the end: all end
//! ```
//!
//! Which rows come from which part is decided as they are read: whoever reads faster gets more,
//! and who reads the parts one after another gets all from the first. Together they are the result,
//! each row once, of any query, for the price of one. So each part is fetched once: what was dealt
//! to a reader that broke off is gone, and the others are told. A part that nobody expects (another
//! server's, from before a restart, fetched before) is refused, since to run it would be to give
//! rows twice.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt};
use hubflight_rights::Zone;
use hubflight_tickets::{Part, Ticket};
use hubflight_wire::Message;
use parking_lot::Mutex;
use tonic::Status;
use uuid::Uuid;

use super::admission::CallPlace;
use super::run;
use crate::auth::standing::Standing;
use crate::error::{Error, ErrorKind, Result};
use crate::flight::BoxStream;
use crate::flight::call::Caller;
use crate::hub::Hub;

/// Endpoints that one result may have.
pub const PARTS_MAX: u16 = 16;
/// Results with several endpoints that one person may have asked for at once; others have one.
const EXPECTED_PER_PERSON_MAX: usize = 64;

/// The results whose parts may be fetched.
#[derive(Debug, Default)]
pub struct Dealt {
    expected: Mutex<HashMap<Uuid, Arc<Group>>>,
}

/// The parts of one result.
struct Group {
    person: String,
    parts: u16,
    /// The last moment at which a ticket of it may be good.
    until: DateTime<Utc>,
    fetched: Mutex<BTreeSet<u16>>,
    /// A part was dropped before its end.
    is_broken: AtomicBool,
    dealer: tokio::sync::Mutex<Dealer>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fetched = &self.fetched;
        f.debug_struct("Group")
            .field("fetched", fetched)
            .finish_non_exhaustive()
    }
}

enum Dealer {
    Waits,
    Runs {
        schema: Message,
        frames: BoxStream<Message>,
        reader: Reader,
    },
    /// What every part begins with, or why there is none.
    Ended(Result<(Message, Reader), Status>),
}

/// Who reads: the one whose rights are looked at while it runs.
#[derive(Clone, PartialEq, Eq)]
struct Reader {
    standing: Standing,
    zone: Zone,
}

impl Dealt {
    /// Expects the parts of a statement until then; false where the person has asked for too many.
    pub fn expect(
        &self,
        statement: Uuid,
        person: &str,
        parts: u16,
        (now, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> bool {
        let mut expected = self.expected.lock();
        expected.retain(|_, group| group.until >= now);
        let own = expected.values().filter(|group| group.person == person);
        if own.count() >= EXPECTED_PER_PERSON_MAX {
            return false;
        }
        let group = Group {
            person: person.to_owned(),
            parts,
            until,
            fetched: Mutex::default(),
            is_broken: AtomicBool::new(false),
            dealer: tokio::sync::Mutex::new(Dealer::Waits),
        };
        expected.insert(statement, Arc::new(group));
        true
    }

    /// Takes a part, once.
    fn take(&self, ticket: &Ticket, part: Part) -> Result<Arc<Group>> {
        let expected = self.expected.lock();
        let group = expected.get(&ticket.statement_id);
        let group = group.filter(|group| group.person == ticket.person && group.parts == part.of);
        let taken = group.is_some_and(|group| group.fetched.lock().insert(part.index));
        match group {
            Some(group) if taken => Ok(Arc::clone(group)),
            _ => Err(gone()),
        }
    }

    fn forget(&self, statement: Uuid) {
        self.expected.lock().remove(&statement);
    }
}

fn gone() -> Error {
    Error::new(
        ErrorKind::Aborted,
        "this part of a result was fetched already, or the result ended before it was, or it is not \
         of this server; each is fetched once: run the statement again, or set `wire.endpoints` to \
         1",
    )
}

/// Streams what is dealt to a part.
///
/// # Errors
/// `Aborted` where the part cannot be fetched any more, `PermissionDenied` where it is fetched by
/// another login or from elsewhere than the first; those of the execution.
pub async fn fetch(
    hub: &Arc<Hub>,
    caller: &Caller,
    ticket: Ticket,
    part: Part,
) -> Result<impl Stream<Item = Result<Message, Status>> + Send + use<>> {
    hub.withdrawn.check(&ticket.person, ticket.statement_id)?;
    let group = hub.dealt.take(&ticket, part)?;
    let mut reading = Reading {
        hub: Arc::clone(hub),
        statement: ticket.statement_id,
        group: Arc::clone(&group),
        is_done: false,
        _call: caller.place.clone(),
    };
    let mut dealer = group.dealer.lock().await;
    let reader = Reader {
        standing: caller.principal.standing.clone(),
        zone: caller.zone.clone(),
    };
    if group.is_broken.load(Ordering::Acquire) {
        return Err(gone());
    }
    if matches!(*dealer, Dealer::Waits) {
        *dealer = match begin(hub, caller, ticket, reader.clone()).await {
            Ok(begun) => begun,
            Err(error) => {
                *dealer = Dealer::Ended(Err(error.clone().into()));
                return Err(error);
            }
        };
    }
    let schema = match dealer.joined(&reader) {
        Ok(schema) => schema,
        Err(error) => {
            // Nothing was dealt to it: the others go on, and whoever may fetches it.
            group.fetched.lock().remove(&part.index);
            reading.is_done = true;
            return Err(error);
        }
    };
    drop(dealer);
    let rest = futures::stream::unfold(reading, |mut reading| async move {
        let item = reading.next().await?;
        Some((item, reading))
    });
    Ok(futures::stream::iter([Ok(schema)]).chain(rest))
}

async fn begin(hub: &Arc<Hub>, caller: &Caller, ticket: Ticket, reader: Reader) -> Result<Dealer> {
    let mut frames = run::redeem(hub, caller, ticket).await?.boxed();
    Ok(match frames.next().await {
        Some(Ok(schema)) => Dealer::Runs {
            schema,
            frames,
            reader,
        },
        Some(Err(status)) => Dealer::Ended(Err(status)),
        None => Dealer::Ended(Err(Error::internal("a result has no schema", &"").into())),
    })
}

impl Dealer {
    /// The schema, for who reads as the first does: it is that one's rights that end the execution
    /// when they end.
    fn joined(&self, reader: &Reader) -> Result<Message> {
        let (schema, first) = match self {
            Self::Runs { schema, reader, .. } | Self::Ended(Ok((schema, reader))) => {
                (schema, reader)
            }
            Self::Ended(Err(status)) => return Err(status.clone().into()),
            Self::Waits => return Err(Error::internal("a result that waits is read", &"")),
        };
        match first == reader {
            true => Ok(schema.clone()),
            false => Err(Error::denied(
                "the parts of a result are fetched with one login, from one zone; fetch this one \
                 as you fetched the first",
            )),
        }
    }

    /// The next frame; none at the end.
    async fn deal(&mut self) -> Option<Result<Message, Status>> {
        let Self::Runs { frames, .. } = self else {
            return match self {
                Self::Ended(Err(status)) => Some(Err(status.clone())),
                _ => None,
            };
        };
        let item = frames.next().await;
        let ended = match &item {
            Some(Ok(_)) => return item,
            Some(Err(status)) => Err(status.clone()),
            None => Ok(()),
        };
        let before = std::mem::replace(self, Self::Waits);
        *self = match (ended, before) {
            (Ok(()), Self::Runs { schema, reader, .. }) => Self::Ended(Ok((schema, reader))),
            (Err(status), _) => Self::Ended(Err(status)),
            (Ok(()), before) => before,
        };
        item
    }
}

/// A part that is being read. Dropped before its end, it ends the others.
struct Reading {
    hub: Arc<Hub>,
    statement: Uuid,
    group: Arc<Group>,
    is_done: bool,
    _call: CallPlace,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Message, Status>> {
        if self.is_done {
            return None;
        }
        let item = self.group.dealer.lock().await.deal().await;
        self.is_done = !matches!(item, Some(Ok(_)));
        if self.is_done && self.group.fetched.lock().len() == usize::from(self.group.parts) {
            self.hub.dealt.forget(self.statement);
        }
        item
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.is_done {
            self.group.is_broken.store(true, Ordering::Release);
            self.hub.running.cancel(self.statement, &self.group.person);
            self.hub.dealt.forget(self.statement);
        }
    }
}
