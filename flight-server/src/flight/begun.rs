//! Messages that somebody has begun to send and not ended. tonic keeps what came of each until it
//! is whole, where no pool of memory knows of it; a person's calls are bounded in number, and each
//! message in length, but all of them together are more than there is. So the bytes are followed
//! here as they come, message by message, and bounded for each person and for all. A message that
//! has ended goes on to count where something of it stays: the first of a call, whose memory its
//! command shares, and what a verb keeps while it waits for more ([`Held::keep`]).

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tonic::body::Body;
use tonic::{Request, Status};

use crate::config::Limits;
use crate::error::{Error, Result};

/// What gRPC has before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// So many bytes of a call count for nobody, so that ordinary calls come through whatever others
/// send: a person's calls, and with them these bytes, are bounded in number.
const UNCOUNTED_BYTES: usize = 64 << 10;
/// The part of the memory of all queries that all begun messages may have besides.
const MEMORY_SHARE: usize = 8;
/// A command is SQL, of `sql_bytes_max` at most, or names: twice that, or this much.
const COMMAND_BYTES_MIN: usize = 4 << 20;

/// How many bytes are held, and may be.
#[derive(Debug)]
pub struct Begun {
    per_person_max: usize,
    all_max: usize,
    command_max: usize,
    bytes: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Of those who hold some.
    persons: HashMap<String, usize>,
}

impl Begun {
    pub fn new(limits: &Limits) -> Self {
        let per_person_max = limits.begun_bytes_per_person_max();
        let share = limits.memory_mb_max.saturating_mul(1 << 20) / MEMORY_SHARE;
        let command_max = limits.sql_bytes_max.saturating_mul(2);
        Self {
            per_person_max,
            // One alone gets half of it.
            all_max: share.max(per_person_max.saturating_mul(2)),
            command_max: command_max.max(COMMAND_BYTES_MIN),
            bytes: Mutex::default(),
        }
    }

    /// Bytes that count now, of all.
    pub fn bytes(&self) -> usize {
        self.bytes.lock().all
    }

    /// Nothing yet of a call of this person.
    pub fn held(self: &Arc<Self>, person: &str) -> Held {
        Held(Arc::new(HeldBytes {
            begun: Arc::clone(self),
            person: person.to_owned(),
            bytes: Mutex::default(),
        }))
    }

    /// # Errors
    /// `ResourceExhausted` where that is more than the person, or all, may have begun. Nobody has
    /// more than they leave to the others, so that whoever comes next finds room (the dynamic
    /// thresholds of Choudhury and Hahne, 1998).
    fn take(&self, person: &str, more: usize) -> Result<()> {
        let mut bytes = self.bytes.lock();
        let own = bytes.persons.get(person).copied().unwrap_or_default();
        let own = own.saturating_add(more);
        if own > self.per_person_max {
            return Err(Error::exhausted(format!(
                "messages that you have begun to send and not ended have more than {} bytes; end \
                 them before you begin others, or send your rows in smaller batches",
                self.per_person_max
            )));
        }
        let all = bytes.all.saturating_add(more);
        if own > self.all_max.saturating_sub(all) {
            return Err(Error::exhausted(
                "the hub's memory is taken by messages that others send; try again in a moment, or \
                 send your rows in smaller batches",
            ));
        }
        bytes.all = all;
        bytes.persons.insert(person.to_owned(), own);
        Ok(())
    }

    fn give_back(&self, person: &str, less: usize) {
        let mut bytes = self.bytes.lock();
        bytes.all = bytes.all.saturating_sub(less);
        if let Some(own) = bytes.persons.get_mut(person) {
            *own = own.saturating_sub(less);
            if *own == 0 {
                bytes.persons.remove(person);
            }
        }
    }
}

/// What a call holds; given back when its last clone is dropped.
#[derive(Clone, Debug)]
pub struct Held(Arc<HeldBytes>);

#[derive(Debug)]
struct HeldBytes {
    begun: Arc<Begun>,
    person: String,
    bytes: Mutex<OfCall>,
}

#[derive(Debug, Default)]
struct OfCall {
    /// What comes, and the first message.
    coming: usize,
    /// Of messages that have come, what the verb keeps.
    kept: usize,
    /// What of both was taken of the person's.
    counted: usize,
}

impl Held {
    /// So many bytes are coming, or of the first message, from now on.
    fn comes(&self, bytes: usize) -> Result<()> {
        self.count(|call| call.coming = bytes)
    }

    /// Keeps a message that has come, until the call is answered. The first of the call counts as
    /// long without it.
    ///
    /// # Errors
    /// `ResourceExhausted` where that is more than the person, or all, may have.
    pub(super) fn keep(&self, bytes: usize) -> Result<()> {
        self.count(|call| {
            call.kept = call.kept.saturating_add(bytes);
            // It counts as coming until the next is asked for.
            call.coming = call.coming.saturating_sub(bytes);
        })
    }

    fn count(&self, change: impl FnOnce(&mut OfCall)) -> Result<()> {
        let HeldBytes {
            begun,
            person,
            bytes,
        } = &*self.0;
        let mut call = bytes.lock();
        change(&mut call);
        let held = call.coming.saturating_add(call.kept);
        let counted = held.saturating_sub(UNCOUNTED_BYTES);
        if counted > call.counted {
            begun.take(person, counted - call.counted)?;
        } else if counted < call.counted {
            begun.give_back(person, call.counted - counted);
        }
        call.counted = counted;
        Ok(())
    }
}

/// What the door holds of a call.
///
/// # Errors
/// `Internal` for a call that did not come through the door.
pub(super) fn held<T>(request: &Request<T>) -> Result<Held> {
    let held = request.extensions().get::<Held>().cloned();
    held.ok_or_else(|| Error::internal("a call did not come through the door", &""))
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        let counted = self.bytes.get_mut().counted;
        if counted > 0 {
            self.begun.give_back(&self.person, counted);
        }
    }
}

/// What a verb reads of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// One message of SQL or names, and no longer than that.
    Command(&'static str),
    /// One message, which may have a ticket with the parameters of its statement.
    One,
    /// Messages that it takes one after another.
    Many,
}

impl Takes {
    fn of(path: &str) -> Self {
        let verb = path.strip_prefix("/arrow.flight.protocol.FlightService/");
        match verb {
            Some("GetFlightInfo") => Self::Command("GetFlightInfo"),
            Some("PollFlightInfo") => Self::Command("PollFlightInfo"),
            Some("GetSchema") => Self::Command("GetSchema"),
            Some("ListFlights") => Self::Command("ListFlights"),
            Some("ListActions") => Self::Command("ListActions"),
            Some("DoGet" | "DoAction") => Self::One,
            _ => Self::Many,
        }
    }
}

/// The body of a call, followed. Whoever keeps `held` keeps its first message counted.
pub(super) fn followed(held: &Held, path: &str, body: Body) -> Body {
    Body::new(Followed {
        body,
        is_refused: false,
        takes: Takes::of(path),
        place: Place::default(),
        held: held.clone(),
    })
}

/// A body whose messages are counted as they come.
struct Followed {
    body: Body,
    /// Nothing more is read of it.
    is_refused: bool,
    takes: Takes,
    place: Place,
    held: Held,
}

impl Followed {
    /// What is kept when tonic asks for more: a message that has not ended, and the first one. Of a
    /// verb that takes one message, tonic has it and reads to the end of the body first; of others
    /// it has the command.
    fn kept(&self) -> usize {
        self.place.first.unwrap_or_default() + self.place.begun
    }

    fn came(&mut self, data: &[u8]) -> Result<()> {
        let with_it = self.kept() + data.len();
        let length_max = match self.takes {
            Takes::Command(_) => self.held.0.begun.command_max,
            // tonic has the limit.
            Takes::One | Takes::Many => usize::MAX,
        };
        self.place.follow(data, length_max).map_err(|length| {
            let verb = match self.takes {
                Takes::Command(verb) => verb,
                Takes::One | Takes::Many => "this verb",
            };
            Error::invalid(format!(
                "a message of {length} bytes is too large for {verb}, which takes {length_max} \
                 bytes; send shorter SQL, and values as parameters or rows by DoPut"
            ))
        })?;
        self.held.comes(with_it)
    }
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_refused {
            return Poll::Ready(None);
        }
        // Whoever asks for more has taken the messages that were whole.
        let kept = self.kept();
        if let Err(error) = self.held.comes(kept) {
            self.is_refused = true;
            return Poll::Ready(Some(Err(error.into())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(error) = self.came(data)
        {
            self.is_refused = true;
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.is_refused || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where a body is among its messages.
#[derive(Debug, Default)]
struct Place {
    /// Of the message that has begun, as far as it came.
    prefix: [u8; PREFIX_BYTES],
    /// Bytes that came of the message that has begun, its prefix among them.
    begun: usize,
    /// Bytes that are left of it, once the prefix is whole.
    left: usize,
    /// How many the first message had, once it was whole.
    first: Option<usize>,
}

impl Place {
    /// Goes on by some bytes.
    ///
    /// # Errors
    /// The length of a message that is longer than `length_max`.
    fn follow(&mut self, mut bytes: &[u8], length_max: usize) -> std::result::Result<(), usize> {
        while !bytes.is_empty() {
            if let Some(missing) = PREFIX_BYTES.checked_sub(self.begun).filter(|n| *n > 0) {
                let (part, rest) = bytes.split_at(missing.min(bytes.len()));
                self.prefix[self.begun..self.begun + part.len()].copy_from_slice(part);
                self.begun += part.len();
                bytes = rest;
                if self.begun < PREFIX_BYTES {
                    return Ok(());
                }
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length) as usize;
                if self.left > length_max {
                    return Err(self.left);
                }
            }
            let part = bytes.len().min(self.left);
            bytes = &bytes[part..];
            self.left -= part;
            self.begun += part;
            if self.left == 0 {
                self.first.get_or_insert(self.begun);
                self.begun = 0;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use tonic::Code;

    use super::*;
    use crate::error::ErrorKind;

    const MIB: usize = 1 << 20;

    fn limits() -> Limits {
        Limits {
            memory_mb_max: 32,
            message_bytes_max: MIB,
            sql_bytes_max: MIB,
            ..Limits::default()
        }
    }

    fn message(length: usize) -> Vec<u8> {
        let prefix = [&[0][..], &(length as u32).to_be_bytes()].concat();
        [prefix, vec![7; length]].concat()
    }

    /// A body of these bytes in frames as HTTP/2 has them, that does not end.
    fn endless(bytes: Vec<u8>) -> Body {
        let frames = Bytes::from(bytes);
        let count = frames.len().div_ceil(16_384);
        let frames = (0..count).map(move |n| {
            let end = frames.len().min((n + 1) * 16_384);
            Ok::<_, Status>(frames.slice(n * 16_384..end))
        });
        let frames: Vec<_> = frames.collect();
        let stream = futures::stream::iter(frames).chain(futures::stream::pending());
        Body::new(axum::body::Body::from_stream(stream))
    }

    /// Reads until nothing more comes, or the error.
    fn read(body: &mut Body) -> std::result::Result<usize, Status> {
        let mut bytes = 0;
        loop {
            let next = std::future::poll_fn(|context| {
                http_body::Body::poll_frame(Pin::new(&mut *body), context)
            });
            match next.now_or_never() {
                Some(Some(frame)) => bytes += frame?.into_data().map_or(0, |data| data.len()),
                Some(None) | None => return Ok(bytes),
            }
        }
    }

    fn sent(begun: &Arc<Begun>, person: &str, verb: &str, bytes: Vec<u8>) -> (Body, Held) {
        let path = format!("/arrow.flight.protocol.FlightService/{verb}");
        let held = begun.held(person);
        (followed(&held, &path, endless(bytes)), held)
    }

    fn counted(begun: &Begun) -> (usize, usize) {
        let bytes = begun.bytes.lock();
        assert_eq!(bytes.all, bytes.persons.values().sum::<usize>());
        (bytes.all, bytes.persons.len())
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let lengths = [0, 3, 0, 70, 5, 1];
        let all: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
        for step in 1..=all.len() {
            let mut place = Place::default();
            for (index, part) in all.chunks(step).enumerate() {
                place.follow(part, 70).expect("short enough");
                let came = (index * step + part.len()).min(all.len());
                let mut ended = 0;
                for length in lengths {
                    let end = ended + PREFIX_BYTES + length;
                    ended = if end <= came { end } else { break };
                }
                assert_eq!(place.begun, came - ended, "{came} in steps of {step}");
            }
            assert_eq!(place.first, Some(PREFIX_BYTES));
        }
        let mut place = Place::default();
        assert_eq!(place.follow(&all, 69), Err(70));
    }

    #[test]
    fn what_a_person_has_begun_is_bounded_over_all_calls() {
        let begun = Arc::new(Begun::new(&limits()));
        assert_eq!(begun.per_person_max, 2 * MIB);
        // Less than a message each.
        let part = || message(MIB)[..MIB / 2 + UNCOUNTED_BYTES].to_vec();
        for verb in ["DoPut", "DoAction", "DoExchange", "GetFlightInfo"] {
            let mut calls: Vec<_> = (0..4).map(|_| sent(&begun, "ada", verb, part())).collect();
            for (body, _) in &mut calls {
                assert_eq!(read(body).expect("room"), part().len(), "{verb}");
            }
            assert_eq!(counted(&begun), (2 * MIB, 1));
            let (mut more, kept) = sent(&begun, "ada", verb, part());
            let refused = read(&mut more).expect_err("no room");
            assert_eq!(refused.code(), Code::ResourceExhausted, "{verb}");
            assert_eq!(read(&mut more).expect("no more of it"), 0);
            // Short messages of hers come through, and those of others.
            let (mut short, _) = sent(&begun, "ada", verb, message(UNCOUNTED_BYTES / 2));
            read(&mut short).expect("short");
            let (mut other, _) = sent(&begun, "eve", verb, part());
            read(&mut other).expect("hers");
            drop((more, kept, short, other));
            calls.pop();
            let (mut again, _) = sent(&begun, "ada", verb, part());
            read(&mut again).expect("room again");
            drop((calls, again));
            assert_eq!(counted(&begun), (0, 0), "{verb}");
        }
    }

    #[test]
    fn what_all_have_begun_is_bounded_and_nobody_takes_the_last() {
        let limits = Limits {
            memory_mb_max: 16,
            begun_bytes_per_person_max: Some(MIB),
            ..limits()
        };
        let begun = Arc::new(Begun::new(&limits));
        assert_eq!(begun.all_max, 2 * MIB);
        let mut calls = Vec::new();
        // Each takes until they are refused.
        let mut left = 2 * MIB;
        for person in ["ada", "eve", "bob", "kim"] {
            let (mut body, held) = sent(&begun, person, "DoPut", message(2 * MIB));
            let refused = read(&mut body).expect_err("no more");
            assert_eq!(refused.code(), Code::ResourceExhausted, "{person}");
            let now = 2 * MIB - counted(&begun).0;
            let taken = left - now;
            assert_eq!(taken, now, "half of what was left for {person}");
            left = now;
            calls.push((body, held));
        }
        let (mut short, _held) = sent(&begun, "zoe", "DoPut", message(UNCOUNTED_BYTES / 2));
        read(&mut short).expect("short");
        drop(calls);
        assert_eq!(counted(&begun), (0, 0));
    }

    #[test]
    fn messages_that_are_taken_are_given_back() {
        let begun = Arc::new(Begun::new(&limits()));
        // Twenty times what may be begun. The first stays, whatever follows, and its caller's until
        // it has answered.
        let many: Vec<u8> = (0..40).flat_map(|_| message(MIB)).collect();
        let one = PREFIX_BYTES + MIB - UNCOUNTED_BYTES;
        for verb in ["DoPut", "DoAction"] {
            let (mut body, kept) = sent(&begun, "ada", verb, many.clone());
            assert_eq!(read(&mut body).expect("one by one"), many.len());
            assert_eq!(counted(&begun), (one, 1), "{verb}");
            drop(body);
            assert_eq!(counted(&begun), (one, 1), "{verb}");
            drop(kept);
            assert_eq!(counted(&begun), (0, 0), "{verb}");
        }
    }

    #[test]
    fn what_a_verb_keeps_counts_once_until_it_has_answered() {
        let begun = Arc::new(Begun::new(&limits()));
        // A first message, and another that is whole: nothing was asked for behind it.
        let (first, rows) = (UNCOUNTED_BYTES, MIB);
        let call = begun.held("ada");
        call.comes(first + rows).expect("room");
        assert_eq!(counted(&begun), (rows, 1));
        call.keep(rows).expect("it is there already");
        assert_eq!(counted(&begun), (rows, 1));
        call.comes(first).expect("no more");
        assert_eq!(counted(&begun), (rows, 1));
        let other = begun.held("ada");
        let refused = other.keep(first + rows + 1).expect_err("too much");
        assert_eq!(refused.kind, ErrorKind::ResourceExhausted);
        drop(other);
        assert_eq!(counted(&begun), (rows, 1));
        drop(call);
        assert_eq!(counted(&begun), (0, 0));
    }

    #[test]
    fn commands_are_short() {
        let limits = Limits {
            begun_bytes_per_person_max: Some(64 * MIB),
            ..limits()
        };
        let begun = Arc::new(Begun::new(&limits));
        let longest = begun.command_max;
        assert_eq!(longest, 4 * MIB);
        for verb in [
            "GetFlightInfo",
            "PollFlightInfo",
            "GetSchema",
            "ListFlights",
            "ListActions",
        ] {
            let (mut fits, _) = sent(&begun, "ada", verb, message(longest));
            read(&mut fits).expect("as long as may be");
            // Told from the prefix alone.
            let claimed = message(longest + 1)[..PREFIX_BYTES].to_vec();
            let (mut long, _) = sent(&begun, "ada", verb, claimed.clone());
            let refused = read(&mut long).expect_err("too long");
            assert_eq!(refused.code(), Code::InvalidArgument);
            let said = refused.message();
            let length = format!("{} bytes", longest + 1);
            assert!(said.contains(verb) && said.contains(&length), "{said}");
            for verb in ["DoGet", "DoAction", "DoPut", "DoExchange"] {
                let (mut long, _) = sent(&begun, "ada", verb, claimed.clone());
                read(&mut long).expect("tickets and rows may be long");
            }
        }
    }
}
