//! Words, shapes and small helpers that every detector uses.

use regex::{Captures, Match, Regex};

/// A pattern that is searched in whole documents.
///
/// A match that begins with a letter or digit must begin a word: this is checked here, since
/// a Unicode word boundary within a pattern makes the search twenty times slower as soon as
/// the text has an accent. `\b` within a pattern is ASCII and so may only stand between ASCII
/// letters and what follows them.
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern of this crate. One that does not compile is a mistake in the source,
    /// which the tests find because they use every pattern.
    pub fn new(text: &str) -> Pattern {
        let text = text.replace(r"\b", r"(?-u:\b)").replace(r"\d", "[0-9]");
        Pattern(short(&text))
    }

    /// The matches, without overlap.
    pub fn find_iter<'p>(&'p self, text: &'p str) -> impl Iterator<Item = Match<'p>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            loop {
                let found = self.0.find_at(text, at)?;
                if begins_word(text, found.start()) {
                    at = found.end();
                    return Some(found);
                }
                at = found.start() + char_at(text, found.start()).map_or(1, char::len_utf8);
            }
        })
    }

    /// The same matches with their groups.
    pub fn captures_iter<'p>(&'p self, text: &'p str) -> impl Iterator<Item = Captures<'p>> {
        self.find_iter(text)
            .filter_map(|found| self.0.captures_at(text, found.start()))
    }
}

fn begins_word(text: &str, at: usize) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || is_mark(c));
    !(word(char_at(text, at)) && word(char_before(text, at)))
}

/// Compiles a pattern that is searched in a few bytes only, with Unicode word boundaries.
pub(super) fn short(text: &str) -> Regex {
    // `~` stands for one blank that is not a line break, so that the patterns stay readable.
    let text = text.replace('~', r"[^\S\r\n]");
    #[allow(clippy::unwrap_used)] // a constant of the source, never outside data
    Regex::new(&text).unwrap()
}

/// The text from `at` on, as far as patterns that look ahead need it.
pub(super) fn ahead(text: &str, at: usize) -> &str {
    const AHEAD_BYTES: usize = 160;
    let mut end = text.len().min(at + AHEAD_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(at..end).unwrap_or("")
}

pub(super) fn is_mark(c: char) -> bool {
    ('\u{300}'..='\u{36f}').contains(&c)
}

fn is_letter(c: char) -> bool {
    c.is_alphabetic() || is_mark(c)
}

fn is_joint(c: char) -> bool {
    matches!(c, '-' | '\u{2010}' | '\u{2011}' | '\'' | '\u{2019}')
}

pub(super) fn char_before(text: &str, at: usize) -> Option<char> {
    text.get(..at)?.chars().next_back()
}

pub(super) fn char_at(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next()
}

/// True when a number or word may begin at `start` and end at `end`.
pub(super) fn isolated(text: &str, start: usize, end: usize) -> bool {
    !char_before(text, start).is_some_and(char::is_alphanumeric)
        && !char_at(text, end).is_some_and(char::is_alphanumeric)
}

/// A word: letters with inner hyphens and apostrophes (`Jean-Pierre`, `d'Ornano`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub start: usize,
    pub end: usize,
    pub text: &'a str,
}

/// How a word is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One capital letter.
    Initial,
    /// At least two letters, all capitals.
    Upper,
    /// A capital first (`Martin`), also after an elided particle (`d'Ornano`).
    Capital,
    Lower,
}

/// The word that begins exactly at `at`, unless digits are attached to it (`T4`, `B12`).
pub(super) fn word_at(text: &str, at: usize) -> Option<Word<'_>> {
    let rest = text.get(at..)?;
    if char_before(text, at).is_some_and(|c| c.is_alphanumeric() || is_mark(c)) {
        return None;
    }
    let mut end = 0;
    let mut chars = rest.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if is_letter(c) {
            end = i + c.len_utf8();
        } else if is_joint(c) && end == i && end > 0 {
            if !chars.peek().is_some_and(|(_, next)| is_letter(*next)) {
                break;
            }
        } else {
            if c.is_numeric() && end == i {
                return None;
            }
            break;
        }
    }
    (end > 0 && rest.starts_with(is_letter)).then(|| Word {
        start: at,
        end: at + end,
        text: &rest[..end],
    })
}

impl Word<'_> {
    pub fn shape(&self) -> Shape {
        let mut letters = self.text.chars().filter(|c| is_letter(*c) && !is_mark(*c));
        let Some(first) = letters.next() else {
            return Shape::Lower;
        };
        if !first.is_uppercase() {
            // d'Ornano, l'Hostis: lower-case particle, capital after the apostrophe.
            let mut parts = self.text.splitn(2, ['\'', '\u{2019}']);
            let head = parts.next().map_or(0, |head| head.chars().count());
            let tail = parts.next().and_then(|tail| tail.chars().next());
            return if head <= 2 && tail.is_some_and(char::is_uppercase) {
                Shape::Capital
            } else {
                Shape::Lower
            };
        }
        let (mut upper, mut lower) = (1, 0);
        for c in letters {
            if c.is_uppercase() {
                upper += 1;
            } else {
                lower += 1;
            }
        }
        match (upper, lower) {
            (1, 0) => Shape::Initial,
            (_, 0) => Shape::Upper,
            _ => Shape::Capital,
        }
    }

    pub fn letters(&self) -> usize {
        self.text
            .chars()
            .filter(|c| is_letter(*c) && !is_mark(*c))
            .count()
    }
}

/// The words of the text, in order.
pub(super) fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..)?;
            let skip = rest.find(is_letter)?;
            at += skip;
            match word_at(text, at) {
                Some(word) => {
                    at = word.end;
                    return Some(word);
                }
                None => {
                    // Letters glued to digits: not a word, go to the end of the run.
                    let run = text[at..]
                        .find(|c: char| !c.is_alphanumeric() && !is_mark(c))
                        .unwrap_or(text.len() - at);
                    at += run.max(1);
                }
            }
        }
    })
}

/// Offset after blanks (no line break) that begin at `at`.
pub(super) fn skip_blanks(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or("");
    at + rest
        .find(|c: char| !c.is_whitespace() || c == '\n' || c == '\r')
        .unwrap_or(rest.len())
}

/// Lower case without accents, for look-ups in the lists.
pub(super) fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            'à' | 'â' | 'ä' | 'á' | 'ã' | 'å' => out.push('a'),
            'é' | 'è' | 'ê' | 'ë' => out.push('e'),
            'î' | 'ï' | 'í' | 'ì' => out.push('i'),
            'ô' | 'ö' | 'ó' | 'ò' | 'õ' => out.push('o'),
            'û' | 'ü' | 'ù' | 'ú' => out.push('u'),
            'ç' => out.push('c'),
            'ñ' => out.push('n'),
            'ÿ' => out.push('y'),
            'œ' => out.push_str("oe"),
            'æ' => out.push_str("ae"),
            '\u{2019}' => out.push('\''),
            '\u{2010}' | '\u{2011}' => out.push('-'),
            c if is_mark(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// The line of `text` before `at`, at most `limit` bytes of it.
pub(super) fn line_before(text: &str, at: usize, limit: usize) -> &str {
    let mut from = at.saturating_sub(limit);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let head = &text[from..at];
    head.rfind(['\n', '\r']).map_or(head, |i| &head[i + 1..])
}
