//! Patterns of PostgreSQL's `to_char`, `to_date` and `to_timestamp` as those of `strftime`, and
//! groups of regular expressions.

/// PostgreSQL's words for numbers, the longer first, with what they are in strftime's, and what behind
/// `FM`, which takes the padding away. They are in capitals or in small letters; nothing stands for those
/// that are known and not said.
const NUMBERS: &[(&str, &str, &str)] = &[
    ("HH24", "%H", "%-H"),
    ("HH12", "%I", "%-I"),
    ("IDDD", "", ""),
    ("IYYY", "%G", "%-G"),
    ("SSSS", "", ""),
    ("YYYY", "%Y", "%-Y"),
    ("DDD", "%j", "%-j"),
    ("DD", "%d", "%-d"),
    ("HH", "%I", "%-I"),
    ("ID", "%u", "%u"),
    ("IW", "%V", "%-V"),
    ("MI", "%M", "%-M"),
    ("MM", "%m", "%-m"),
    ("MS", "%3f", "%3f"),
    ("SS", "%S", "%-S"),
    ("US", "%6f", "%6f"),
    ("YY", "%y", "%-y"),
];

/// Its words for what is no number, whose letters say how it is written.
const NAMES: &[(&str, &str)] = &[
    ("AM", "%p"),
    ("PM", "%p"),
    ("am", "%P"),
    ("pm", "%P"),
    ("Dy", "%a"),
    // Padded in PostgreSQL, but behind `FM`.
    ("FMDay", "%A"),
    ("FMMonth", "%B"),
    ("Mon", "%b"),
];

/// The pattern in strftime's words, which it keeps where it has some; none where it has letters that
/// these do not say, since the planner would take them for what is to be written.
pub fn strftime(pattern: &str) -> Option<String> {
    // Every second part stands in double quotes.
    if pattern.split('"').step_by(2).any(|part| part.contains('%')) {
        return Some(pattern.to_owned());
    }
    let (mut made, mut rest) = (String::new(), pattern);
    while let Some(first) = rest.chars().next() {
        if let Some((word, known)) = word(rest) {
            made.push_str(known);
            rest = &rest[word..];
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = quoted.split_once('"')?;
            // Its own `%` would begin a word of strftime's.
            made.push_str(&text.replace('%', "%%"));
            rest = after;
        } else if first.is_ascii_alphabetic() {
            return None;
        } else {
            made.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(made)
}

/// The word that a pattern begins with, by its length, and what it is in strftime's.
fn word(pattern: &str) -> Option<(usize, &'static str)> {
    if let Some((word, known)) = NAMES.iter().find(|(word, _)| pattern.starts_with(word)) {
        return Some((word.len(), *known));
    }
    let bare = ["FM", "fm"].iter().find_map(|fm| pattern.strip_prefix(fm));
    let text = bare.unwrap_or(pattern);
    let begins =
        |word: &str| text.starts_with(word) || text.starts_with(&word.to_ascii_lowercase());
    let (word, padded, unpadded) = NUMBERS.iter().find(|(word, ..)| begins(word))?;
    let known = match bare {
        Some(_) => *unpadded,
        None => *padded,
    };
    let length = pattern.len() - text.len() + word.len();
    (!known.is_empty()).then_some((length, known))
}

/// `pattern` whose only group is its `wanted`th, counted from 1; 0 is all of it. None where it has
/// no such group.
pub fn one_group(pattern: &str, wanted: usize) -> Option<String> {
    let mut made = String::with_capacity(pattern.len() + 8);
    let mut groups = 0;
    let mut classes = 0_usize;
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        made.push(character);
        match character {
            '\\' => made.extend(characters.next()),
            // Classes stand in one another, and what would close one first is a character of it.
            '[' => {
                classes += 1;
                made.extend(characters.next_if_eq(&'^'));
                made.extend(characters.next_if_eq(&']'));
            }
            ']' => classes = classes.saturating_sub(1),
            '(' if classes == 0 => {
                // `(?:…)` and flags are no groups; `(?P<name>…)` is one, which is told apart.
                if characters.peek() == Some(&'?') {
                    let ahead: String = characters.clone().skip(1).take(2).collect();
                    if ahead.starts_with('P') || ahead.starts_with('<') {
                        return None;
                    }
                    continue;
                }
                groups += 1;
                if groups != wanted {
                    made.push_str("?:");
                }
            }
            _ => {}
        }
    }
    match wanted {
        0 => Some(format!("({made})")),
        wanted if wanted <= groups => Some(format!("(?:{made})")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_postgresql_are_those_of_strftime() {
        for (pattern, expected) in [
            ("DD/MM/YYYY", "%d/%m/%Y"),
            ("YYYY-MM-DD HH24:MI:SS.MS", "%Y-%m-%d %H:%M:%S.%3f"),
            ("FMDD FMMonth YYYY", "%-d %B %Y"),
            ("YYYY\"T\"MM", "%YT%m"),
            ("IYYY-IW", "%G-%V"),
            // Capitals or small letters, but where they say how a name is written.
            ("dd/mm/yyyy hh24:mi:ss", "%d/%m/%Y %H:%M:%S"),
            ("fmhh12:MI am", "%-I:%M %P"),
            ("FMHH12:MI PM", "%-I:%M %p"),
            ("DD Mon YY, Dy", "%d %b %y, %a"),
            // What is said already, and what no letter is in.
            ("%Y at", "%Y at"),
            ("- 12 é", "- 12 é"),
            ("\"at\"", "at"),
            // In quotes it is text.
            ("YYYY \"100%\"", "%Y 100%%"),
            ("\"%Y\" MM", "%%Y %m"),
            ("\"at\" %Y", "\"at\" %Y"),
        ] {
            assert_eq!(strftime(pattern).as_deref(), Some(expected), "{pattern}");
        }
        for pattern in [
            "Month",
            "YYYY Month",
            "FMMONTH",
            "MON",
            "mon",
            "J",
            "Q",
            "DDth",
            "Dd",
            "YYYY\"",
            "YYYY\"%",
            "SSSS",
            "SSSSS",
            "IDDD",
            "999D99",
            "FM",
        ] {
            assert_eq!(strftime(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn one_group_is_left() {
        for (pattern, wanted, expected) in [
            ("a(b)(c)", 2, Some("(?:a(?:b)(c))")),
            ("a(b)", 0, Some("(a(?:b))")),
            (r"\((a[(]b)", 1, Some(r"(?:\((a[(]b))")),
            ("(?:a)(b)", 1, Some("(?:(?:a)(b))")),
            ("[[:alpha:](]+", 0, Some("([[:alpha:](]+)")),
            ("[[:^alpha:]()]+(b)", 1, Some("(?:[[:^alpha:]()]+(b))")),
            ("[^]()]+", 0, Some("([^]()]+)")),
            ("[](](b)(c)", 2, Some("(?:[](](?:b)(c))")),
            ("[a[^(]&&[(]](b)", 0, Some("([a[^(]&&[(]](?:b))")),
            (r"[\](](b)", 0, Some(r"([\](](?:b))")),
            ("a", 1, None),
            ("(?P<x>a)", 1, None),
        ] {
            assert_eq!(one_group(pattern, wanted).as_deref(), expected, "{pattern}");
        }
    }
}
