//! Days as Arrow's Date32 counts them: since 1970-01-01.

use chrono::{Datelike, NaiveDate};

pub type Day = i32;

/// Days from the start of the common era, as chrono counts, to 1970-01-01.
const EPOCH: i32 = 719_163;

pub const YEAR_DAYS: f64 = 365.25;

/// First year of the data.
pub const FIRST_YEAR: i32 = 2020;
/// Last year of the data.
pub const LAST_YEAR: i32 = 2025;

pub fn date(day: Day) -> NaiveDate {
    NaiveDate::from_num_days_from_ce_opt(day.saturating_add(EPOCH)).unwrap_or_default()
}

pub fn day_of(date: NaiveDate) -> Day {
    date.num_days_from_ce() - EPOCH
}

/// A day of the calendar; days past the month's end fall on its last day.
pub fn day(year: i32, month: u32, day: u32) -> Day {
    let month = month.clamp(1, 12);
    (1..=day.clamp(1, 31))
        .rev()
        .find_map(|day| NaiveDate::from_ymd_opt(year, month, day))
        .map(day_of)
        .unwrap_or_default()
}

pub fn data_start() -> Day {
    day(FIRST_YEAR, 1, 1)
}

pub fn data_end() -> Day {
    day(LAST_YEAR, 12, 31)
}

/// First day of the last three years of the data.
pub fn window_start() -> Day {
    day(LAST_YEAR - 2, 1, 1)
}

pub fn year(day: Day) -> i32 {
    date(day).year()
}

pub fn month(day: Day) -> u32 {
    date(day).month()
}

/// Completed years.
pub fn age(birth: Day, at: Day) -> i32 {
    let (birth, at) = (date(birth), date(at));
    let before_birthday = (at.month(), at.day()) < (birth.month(), birth.day());
    at.year() - birth.year() - i32::from(before_birthday)
}

/// 0 is Monday, 6 is Sunday.
pub fn weekday(day: Day) -> i32 {
    // 1970-01-01 was a Thursday.
    (day + 3).rem_euclid(7)
}

/// How much a respiratory infection is more likely in a month than on average.
pub fn respiratory_season(month: u32) -> f64 {
    const SEASON: [f64; 12] = [
        1.75, 1.55, 1.25, 0.90, 0.75, 0.60, 0.45, 0.40, 0.75, 1.00, 1.15, 1.45,
    ];
    SEASON
        .get(month.saturating_sub(1) as usize)
        .copied()
        .unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_match_the_calendar() {
        assert_eq!(day(1970, 1, 1), 0);
        assert_eq!(day(2025, 12, 31), 20_453);
        assert_eq!(day(2023, 2, 31), day(2023, 2, 28));
        assert_eq!(weekday(day(2025, 12, 28)), 6);
        assert_eq!(age(day(2000, 2, 29), day(2023, 2, 28)), 22);
        assert_eq!(age(day(2000, 2, 29), day(2023, 3, 1)), 23);
        let season: f64 = (1..=12).map(respiratory_season).sum();
        assert!((season - 12.0).abs() < 1e-9);
    }
}
