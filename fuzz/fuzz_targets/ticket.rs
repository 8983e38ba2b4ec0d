//! Tickets: what nobody sealed never opens, whatever stands behind a seal is read or refused, and
//! what opens seals again to an equal ticket.
#![no_main]

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use hubflight_tickets::{Sealer, Ticket, TicketError};
use libfuzzer_sys::fuzz_target;

static SEALER: LazyLock<Sealer> = LazyLock::new(|| Sealer::new(&[7; 32], b"hubflight ticket 1"));

fn open(sealed: &[u8], person: &str, now: DateTime<Utc>) -> Result<Ticket, TicketError> {
    Ticket::open(sealed, &SEALER, person, now)
}

fuzz_target!(|data: &[u8]| {
    let sealed = SEALER.seal(data).expect("random bytes");
    let Ok(ticket) = serde_json::from_slice::<Ticket>(data) else {
        for bytes in [data, &sealed] {
            let opened = open(bytes, "ada", DateTime::UNIX_EPOCH);
            assert!(matches!(opened, Err(TicketError::Invalid)), "{opened:?}");
        }
        return;
    };
    let person = &ticket.person;
    assert!(open(data, person, ticket.now).is_err(), "nobody sealed it");
    assert!(open(&sealed, &format!("{person}x"), ticket.now).is_err());
    let sum: usize = data.iter().copied().map(usize::from).sum();
    let mut altered = sealed.clone();
    altered[sum % sealed.len()] ^= 1;
    assert!(open(&altered, person, ticket.now).is_err(), "altered");

    let opens = open(&sealed, person, ticket.now).is_ok();
    assert_eq!(opens, ticket.now <= ticket.expires);
    let ends = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC];
    for now in [ticket.now, ticket.expires].into_iter().chain(ends) {
        let Ok(opened) = open(&sealed, person, now) else {
            continue;
        };
        assert!(opened == ticket && now <= ticket.expires, "{opened:?}");
        let again = opened.seal(&SEALER).expect("seals");
        assert_eq!(open(&again, person, now).expect("opens again"), ticket);
    }
});
