//! Which persons have a recording, an image or a report, and when.

use crate::calendar::Day;
use crate::care::{self, Claim};
use crate::dice::{Dice, Purpose};
use crate::people::Person;
use crate::stays::Stay;
use crate::world::World;

/// `count` persons without replacement, in proportion to their weights (Efraimidis and
/// Spirakis, 2006: the largest `ln(u) / w`). Fewer when fewer have a weight.
pub fn persons(
    world: &World,
    purpose: Purpose,
    count: usize,
    weight: impl Fn(&Person, &[Stay]) -> f64,
) -> Vec<&Person> {
    let mut keyed: Vec<(f64, &Person)> = world
        .people
        .iter()
        .filter_map(|person| {
            let weight = weight(person, world.stays_of(person));
            let draw = 1.0 - Dice::new(world.seed, purpose, person.index).unit();
            (weight > 0.0).then(|| (draw.ln() / weight, person))
        })
        .collect();
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.index.cmp(&b.1.index)));
    keyed.truncate(count);
    keyed.into_iter().map(|(_, person)| person).collect()
}

/// A day on which the person was cared for: within a stay, or the day of a claim that `fits`.
pub fn day_of_care(
    world: &World,
    person: &Person,
    dice: &mut Dice,
    fits: impl Fn(&Claim) -> bool,
) -> Option<Day> {
    let stays = world.stays_of(person);
    if dice.chance(0.6)
        && let Some(stay) = dice.pick(stays)
    {
        return Some(dice.range(stay.entry, stay.exit));
    }
    let mut claims = Vec::new();
    care::of_person(world.seed, person, stays, &mut claims, 0);
    claims.retain(|claim| fits(claim));
    match dice.pick(&claims) {
        Some(claim) => Some(claim.day),
        None => dice
            .pick(stays)
            .map(|stay| dice.range(stay.entry, stay.exit)),
    }
}
