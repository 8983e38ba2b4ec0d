//! `flight-server admin review`: what is looked through every month.

use chrono::{Months, NaiveDate, NaiveTime};
use hubflight_ledger::review;

use super::Desk;
use super::lists::Table;
use crate::error::{Error, Result};

/// Months before the one that is reviewed, which say what is usual.
const MONTHS_BEFORE: u32 = 3;
/// A volume is unusual where it is this many times the mean of the months before, …
const GROWTH_UNUSUAL: f64 = 3.0;
/// … and larger than this.
const BYTES_UNUSUAL_MIN: u64 = 100 << 20;

/// The month of `2026-11`.
pub fn month(text: &str) -> std::result::Result<NaiveDate, String> {
    NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d")
        .map_err(|_| format!("`{text}` is no month; write it as 2026-11"))
}

/// The review of a month, as text.
pub async fn of_month(desk: &Desk, month: NaiveDate) -> Result<String> {
    let from = month.and_time(NaiveTime::MIN).and_utc();
    let to = from
        .checked_add_months(Months::new(1))
        .ok_or_else(|| Error::invalid("there is no month after that one"))?;
    let review = review(&desk.store, from, to, MONTHS_BEFORE).await?;
    let mut volumes = Table::new(&["project", "statements", "rows", "bytes", "mean before", ""]);
    for volume in review.volumes {
        let growth = volume.growth();
        let large = volume.bytes_returned >= BYTES_UNUSUAL_MIN;
        let note = match growth {
            Some(growth) if large && growth >= GROWTH_UNUSUAL => format!("unusual: {growth:.1} ×"),
            None if large => "unusual: nothing before".to_owned(),
            _ => String::new(),
        };
        let before = volume.bytes_before;
        volumes.row([
            volume.project,
            volume.statements.to_string(),
            volume.rows_returned.to_string(),
            volume.bytes_returned.to_string(),
            before.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}")),
            note,
        ]);
    }
    let mut refused = Table::new(&["person", "event", "refusal", "times"]);
    for entry in review.refused {
        let person = entry.person.unwrap_or_else(|| "-".to_owned());
        refused.row([person, entry.event, entry.kind, entry.times.to_string()]);
    }
    let mut acts = Table::new(&["at", "act", "person", "project", "outcome", "by"]);
    for act in review.acts {
        let [person, project] =
            [act.person, act.project].map(|id| id.unwrap_or_else(|| "-".into()));
        let at = act.at.format("%Y-%m-%d %H:%M:%S").to_string();
        acts.row([at, act.event, person, project, act.outcome, act.client]);
    }
    Ok(format!(
        "Volumes of {month}\n{}\nRefusals and failures\n{}\nActs on rights, keys and logs\n{}",
        volumes.text(),
        refused.text(),
        acts.text(),
        month = month.format("%Y-%m"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_read() {
        assert_eq!(
            month("2026-11").expect("valid"),
            NaiveDate::from_ymd_opt(2026, 11, 1).expect("valid")
        );
        for wrong in ["", "2026", "2026-13", "2026-11-01", "x"] {
            assert!(month(wrong).is_err(), "{wrong}");
        }
    }
}
