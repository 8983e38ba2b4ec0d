//! Spellings that the planner's tokenizer reads otherwise than PostgreSQL: names in capitals with
//! accents, numbers in other bases or with underscores, and hints to WITH.

use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer};

use std::borrow::Cow;

/// `sql` as the planner reads it. What it replaces keeps its length where it can, so that places in
/// errors are those of the text that was sent.
///
/// Unquoted names are folded as Rust's `to_lowercase` does (`É` is `é`), where the planner folds
/// ASCII only; `1_000`, `0xFF`, `0o17` and `0b101` are integers, as in PostgreSQL 16;
/// `AS [NOT] MATERIALIZED (` is `AS (`, since it changes no answer.
pub fn readable<'a>(sql: &'a str, dialect: &dyn Dialect) -> Cow<'a, str> {
    if !may_differ(sql) {
        return Cow::Borrowed(sql);
    }
    // What cannot be cut into tokens is for the parser to explain.
    let Ok(tokens) = Tokenizer::new(dialect, sql).tokenize_with_location() else {
        return Cow::Borrowed(sql);
    };
    let source = Source::new(sql);
    let mut made = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1);
        match &token.token {
            Token::Word(word) if word.quote_style.is_none() => {
                if !word.value.is_ascii() {
                    made.push((token.span, folded(&word.value)));
                }
                if word.keyword == Keyword::AS {
                    made.extend(hints(&tokens[at + 1..]));
                }
            }
            Token::Number(digits, false) => {
                let written = next.and_then(|next| number(digits, token, next));
                made.extend(written);
            }
            Token::HexStringLiteral(digits) if source.begins(token.span, "0x") => {
                made.extend(integer(digits, 16).map(|value| (token.span, value)));
            }
            _ => {}
        }
    }
    match made.is_empty() {
        true => Cow::Borrowed(sql),
        false => Cow::Owned(source.with(&made)),
    }
}

/// Whether anything of the text could be replaced, told without cutting it into tokens.
fn may_differ(sql: &str) -> bool {
    let bytes = sql.as_bytes();
    let is_number =
        |pair: &[u8]| pair[0].is_ascii_digit() && matches!(pair[1], b'_' | b'x' | b'b' | b'o');
    let is_hint = |word: &[u8]| word.eq_ignore_ascii_case(b"materialized");
    !sql.is_ascii() || bytes.windows(2).any(is_number) || bytes.windows(12).any(is_hint)
}

/// A name in small letters; where that needs other than one character for each, as it was.
fn folded(name: &str) -> String {
    let small = name.to_lowercase();
    match small.chars().count() == name.chars().count() {
        true => small,
        false => name.to_owned(),
    }
}

/// `digits` with what follows them at once: `_000`, `b101` or `o17`. The sum of both is as long as
/// they were, so that a fraction may follow.
fn number(digits: &str, token: &TokenWithSpan, next: &TokenWithSpan) -> Option<(Span, String)> {
    let Token::Word(word) = &next.token else {
        return None;
    };
    if word.quote_style.is_some() || token.span.end != next.span.start {
        return None;
    }
    let span = token.span.union(&next.span);
    let length = digits.len() + word.value.len();
    let rest = word.value.as_str();
    let value = if let Some(bits) = rest.strip_prefix('b').filter(|_| digits == "0") {
        integer(bits, 2)?
    } else if let Some(octal) = rest.strip_prefix('o').filter(|_| digits == "0") {
        integer(octal, 8)?
    } else {
        let groups = rest.strip_prefix('_')?.split('_');
        let is_group =
            |group: &str| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_digit());
        if !groups.clone().all(is_group) {
            return None;
        }
        format!("{digits}{}", groups.collect::<String>())
    };
    Some((span, format!("{value:>length$}")))
}

fn integer(digits: &str, base: u32) -> Option<String> {
    let value = u64::from_str_radix(&digits.replace('_', ""), base).ok()?;
    Some(value.to_string())
}

/// The words between `AS` and `(` that say whether a WITH is kept.
fn hints(after: &[TokenWithSpan]) -> Vec<(Span, String)> {
    let mut words = after
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)));
    let mut found = Vec::new();
    let mut next = words.next();
    let keyword = |token: Option<&TokenWithSpan>, wanted: &str| {
        token.is_some_and(|token| {
            matches!(&token.token, Token::Word(word)
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted))
        })
    };
    for word in ["NOT", "MATERIALIZED"] {
        if keyword(next, word) {
            found.extend(next.map(|token| (token.span, " ".repeat(word.len()))));
            next = words.next();
        } else if word == "MATERIALIZED" {
            return Vec::new();
        }
    }
    match next.map(|token| &token.token) {
        Some(Token::LParen) => found,
        _ => Vec::new(),
    }
}

/// A text by line and column, as tokens have their places.
struct Source {
    characters: Vec<char>,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Source {
    fn new(sql: &str) -> Self {
        let characters: Vec<char> = sql.chars().collect();
        let ends = characters.iter().enumerate().filter(|(_, it)| **it == '\n');
        let lines = std::iter::once(0)
            .chain(ends.map(|(at, _)| at + 1))
            .collect();
        Self { characters, lines }
    }

    fn place(&self, line: u64, column: u64) -> usize {
        let index = |number: u64| {
            usize::try_from(number)
                .unwrap_or(usize::MAX)
                .saturating_sub(1)
        };
        let begins = self.lines.get(index(line)).copied();
        let place = begins.unwrap_or(usize::MAX).saturating_add(index(column));
        place.min(self.characters.len())
    }

    fn range(&self, span: Span) -> std::ops::Range<usize> {
        let start = self.place(span.start.line, span.start.column);
        start..self.place(span.end.line, span.end.column).max(start)
    }

    fn begins(&self, span: Span, with: &str) -> bool {
        let range = self.range(span);
        self.characters[range]
            .iter()
            .take(with.len())
            .copied()
            .eq(with.chars())
    }

    /// The text with other words at some places, which are in its order.
    fn with(&self, made: &[(Span, String)]) -> String {
        let mut text = String::with_capacity(self.characters.len());
        let mut done = 0;
        for (span, word) in made {
            let range = self.range(*span);
            if range.start < done {
                continue;
            }
            text.extend(&self.characters[done..range.start]);
            text.push_str(word);
            done = range.end;
        }
        text.extend(&self.characters[done..]);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    #[test]
    fn what_is_read_otherwise_is_replaced_in_its_place() {
        for (sql, expected) in [
            ("SELECT Prénom, ÂGE\nFROM É", "SELECT prénom, âge\nFROM é"),
            (
                r#"SELECT "É", 'É', Été -- É"#,
                r#"SELECT "É", 'É', été -- É"#,
            ),
            ("SELECT 1_000_000, 2", "SELECT   1000000, 2"),
            ("SELECT 1_000.5", "SELECT  1000.5"),
            (
                "SELECT 0xff, x'ff', 0b101, 0o17",
                "SELECT 255, x'ff',     5,   15",
            ),
            (
                "WITH a AS MATERIALIZED (SELECT 1)",
                "WITH a AS              (SELECT 1)",
            ),
            (
                "WITH a AS NOT materialized (SELECT 1)",
                "WITH a AS                  (SELECT 1)",
            ),
            ("'é' É", "'é' é"),
        ] {
            assert_eq!(readable(sql, &GenericDialect {}), expected, "{sql}");
        }
        for sql in [
            "SELECT 1 AS materialized FROM t",
            "SELECT a_1, b2 FROM t_2 WHERE x = '1_000'",
            "SELECT 1_a",
            "SELECT 0b2",
            "SELECT 'open",
            "SELECT İ",
        ] {
            assert_eq!(readable(sql, &GenericDialect {}), sql);
        }
    }
}
