//! Names found once are searched in the whole document, and spans that belong together are
//! joined.

use std::collections::HashSet;

use super::lists::{COMMONS, EPONYM, PARTICLE, STOPS, is_given};
use super::names::{eponym_before, is_particle, neighbours};
use super::scan::{Shape, char_at, char_before, fold, words};
use super::{Kind, Span};

/// The words of the names found, wherever else they stand in the document.
pub(super) fn repeated(text: &str, named: &[Span]) -> Vec<Span> {
    let known = parts_of(text, named);
    if known.is_empty() {
        return Vec::new();
    }
    let mut spans: Vec<Span> = Vec::new();
    // The word before, and where the particles before it begin (« Le Bihan »).
    let mut particles: Option<(usize, String)> = None;
    let mut last_end = 0;
    for word in words(text) {
        let adjacent = neighbours(text, last_end, word.start);
        last_end = word.end;
        let before = particles.take().filter(|_| adjacent);
        let shape = word.shape();
        if shape == Shape::Initial || (shape == Shape::Lower && !is_particle(word.text)) {
            continue;
        }
        let folded = fold(word.text);
        let with_particles = before
            .map(|(start, head)| (start, format!("{head} {folded}")))
            .filter(|(_, whole)| known.contains(whole));
        if PARTICLE.contains(folded.as_str()) {
            let (start, head) = with_particles.unwrap_or((word.start, folded));
            particles = Some((start, head));
            continue;
        }
        if shape == Shape::Lower || !known.contains(&folded) {
            continue;
        }
        let common = COMMONS.contains(folded.as_str()) || EPONYM.contains(folded.as_str());
        let beside = spans
            .last()
            .is_some_and(|last| neighbours(text, last.end, word.start));
        let written = word.shape() == Shape::Upper && word.letters() >= 3 || beside;
        if (common && !written) || eponym_before(text, word.start) {
            continue;
        }
        if char_before(text, word.start) == Some('-') || char_at(text, word.end) == Some('-') {
            continue;
        }
        spans.push(Span {
            start: with_particles.map_or(word.start, |(start, _)| start),
            end: word.end,
            kind: Kind::Nom,
        });
    }
    spans
}

/// Folded words of the names, the parts of compound surnames, and surnames with their
/// particles (`de la`, `de la tour`).
fn parts_of(text: &str, named: &[Span]) -> HashSet<String> {
    const PART_LETTERS_MIN: usize = 3;
    let mut known = HashSet::new();
    for span in named {
        let mut particles = String::new();
        for word in words(&text[span.start..span.end]) {
            let folded = fold(word.text);
            if !particles.is_empty() {
                known.insert(format!("{particles} {folded}"));
            }
            if PARTICLE.contains(folded.as_str()) {
                if !particles.is_empty() {
                    particles.push(' ');
                }
                particles.push_str(&folded);
            } else {
                particles.clear();
            }
            if word.letters() < PART_LETTERS_MIN
                || STOPS.contains(folded.as_str())
                || PARTICLE.contains(folded.as_str())
            {
                continue;
            }
            if folded.contains('-') && !is_given(&folded) {
                for part in folded.split('-') {
                    let usable = part.chars().count() > PART_LETTERS_MIN
                        && !STOPS.contains(part)
                        && !PARTICLE.contains(part);
                    if usable {
                        known.insert(part.to_string());
                    }
                }
            }
            known.insert(folded);
        }
    }
    known
}

/// Joins names that only blanks or a hyphen separate, and parts of an address.
pub(super) fn join(text: &str, spans: &mut Vec<Span>) {
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans.drain(..) {
        if let Some(last) = joined.last_mut()
            && last.kind == span.kind
            && joins(&text[last.end..span.start], span.kind)
        {
            last.end = span.end;
            continue;
        }
        joined.push(span);
    }
    *spans = joined;
}

/// Whether what stands between two spans of one kind belongs to both.
fn joins(between: &str, kind: Kind) -> bool {
    match kind {
        Kind::Nom => between.chars().all(|c| matches!(c, ' ' | '\u{a0}' | '-')),
        Kind::Adresse => {
            between.matches('\n').count() <= 1
                && between
                    .chars()
                    .all(|c| c.is_whitespace() || matches!(c, ',' | '-' | '–'))
        }
        _ => false,
    }
}
