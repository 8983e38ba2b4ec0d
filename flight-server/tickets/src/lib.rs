//! What clients carry for the hub, sealed so that they can neither read, make nor alter it: the
//! ticket of a query and the bearer token of a session.
//!
//! What this crate does not know: who may do what (a ticket and a token carry no right), SQL,
//! Arrow, storage, HTTP. Times are passed in.

mod error;
mod sealed;
mod ticket;
mod token;

pub use error::TicketError;
pub use sealed::{Sealer, random};
pub use ticket::{Compression, InTransaction, Part, Priority, Ticket};
pub use token::{Origin, SessionToken, Tokens};

use chrono::{DateTime, TimeDelta, Utc};

/// `seconds` after `now`, or the end of time where that is later.
pub fn after(now: DateTime<Utc>, seconds: u64) -> DateTime<Utc> {
    let seconds = i64::try_from(seconds).ok();
    seconds
        .and_then(TimeDelta::try_seconds)
        .and_then(|life| now.checked_add_signed(life))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_seconds_leaves_the_calendar() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(after(now, 60), now + TimeDelta::seconds(60));
        let end = DateTime::<Utc>::MAX_UTC;
        for seconds in [1 << 43, i64::MAX as u64 / 1000 + 1, u64::MAX] {
            assert_eq!(after(now, seconds), end, "{seconds}");
        }
        assert_eq!(after(end, 1), end);
    }
}
