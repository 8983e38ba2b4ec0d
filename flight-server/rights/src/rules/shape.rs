//! How deep a policy may be, told from its text before anything is built from it: Cedar checks,
//! evaluates and drops expressions by recursion, one level for each operator or bracket.

/// Operators of one policy, after each other or within each other.
const OPERATORS_MAX: usize = 200;
/// Open brackets of one policy.
const BRACKETS_MAX: usize = 16;

/// Where in a text a policy is too deep, in bytes, and why; None where none is.
pub(super) fn too_deep(text: &str) -> Option<(usize, String)> {
    let mut seen = Seen::default();
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        let next = bytes.peek().map(|(_, byte)| *byte);
        match byte {
            b'"' => {
                // To the end of the string: what a backslash protects does not end it.
                while let Some((_, byte)) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'/' if next == Some(b'/') => {
                while bytes.next_if(|(_, byte)| *byte != b'\n').is_some() {}
            }
            b';' => seen = Seen::default(),
            _ => seen.take(byte, next),
        }
        let problem = match &seen {
            Seen { operators, .. } if *operators > OPERATORS_MAX => {
                format!("has a policy of more than {OPERATORS_MAX} operators; write it as several")
            }
            Seen { brackets, .. } if *brackets > BRACKETS_MAX => {
                format!("has more than {BRACKETS_MAX} brackets open at once; write it flatter")
            }
            _ => continue,
        };
        return Some((at, problem));
    }
    None
}

/// What of the current policy was seen.
#[derive(Default)]
struct Seen {
    operators: usize,
    brackets: usize,
    /// The byte before was of a word.
    is_word: bool,
}

impl Seen {
    fn take(&mut self, byte: u8, next: Option<u8>) {
        let begins_word = !self.is_word;
        self.is_word = byte.is_ascii_alphanumeric() || byte == b'_';
        match byte {
            b'(' | b'[' | b'{' => self.brackets += 1,
            b')' | b']' | b'}' => self.brackets = self.brackets.saturating_sub(1),
            // Each byte of `&&` or `==` counts: a bound need not be exact.
            b'+' | b'-' | b'*' | b'!' | b'<' | b'>' | b'=' | b'&' | b'|' | b'.' => {
                self.operators += 1;
            }
            // `if … then … else if …`, and `in`, `is`: whatever begins so.
            b'i' if begins_word && matches!(next, Some(b'f' | b'n' | b's')) => self.operators += 1,
            _ => {}
        }
    }
}
