//! Commands of Flight SQL, which clients send as bytes.

use arrow::error::ArrowError;
use arrow_flight::sql::{Any, Command};
use prost::Message;
use tonic::Status;

/// Characters of the name of a command that an error repeats.
const NAME_CHARS_MAX: usize = 64;

/// The Flight SQL command of some bytes; [`Command::Unknown`] where nobody knows its name.
///
/// # Errors
/// `InvalidArgument` for what is no command, or not the one that it says it is.
pub fn command_of(bytes: &[u8]) -> Result<Command, Status> {
    let any = Any::decode(bytes)
        .map_err(|_| Status::invalid_argument("this is no Flight SQL command"))?;
    let name = printable(&any.type_url);
    Command::try_from(any).map_err(|error| {
        let why = reason(&error);
        Status::invalid_argument(format!(
            "this is no Flight SQL command: `{name}` cannot be read{why}"
        ))
    })
}

/// The last part of the name of a message.
fn printable(type_url: &str) -> String {
    let name = type_url.rsplit(['.', '/']).next().unwrap_or_default();
    let name = name.chars().filter(char::is_ascii_graphic);
    name.take(NAME_CHARS_MAX).collect()
}

/// Which field is wrong, as the decoder says it: it repeats no value.
fn reason(error: &ArrowError) -> String {
    let said = match error {
        ArrowError::ParseError(text) => text.split_once("Protobuf message: "),
        _ => None,
    };
    said.map(|(_, why)| format!(": {why}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use arrow_flight::sql::{CommandGetTables, ProstMessageExt};
    use tonic::Code;

    use super::*;

    #[test]
    fn a_command_is_read_or_refused_by_its_name_and_field() {
        let asked = CommandGetTables {
            table_name_filter_pattern: Some("t%".into()),
            ..CommandGetTables::default()
        };
        let mut any = asked.as_any();
        let read = command_of(&any.encode_to_vec()).expect("a command");
        assert_eq!(read, Command::CommandGetTables(asked));

        // A pattern that is no text.
        any.value = vec![0x1a, 1, 0xff].into();
        let error = command_of(&any.encode_to_vec()).expect_err("no text");
        assert_eq!(error.code(), Code::InvalidArgument);
        for part in ["`CommandGetTables`", "table_name_filter_pattern"] {
            assert!(error.message().contains(part), "{error}");
        }
        let error = command_of(b"junk").expect_err("no message");
        assert_eq!(error.message(), "this is no Flight SQL command");
        any.type_url = "x".repeat(1 << 20);
        let unknown = command_of(&any.encode_to_vec()).expect("is no one's");
        assert!(matches!(unknown, Command::Unknown(_)));
    }

    #[test]
    fn a_name_is_repeated_in_short() {
        assert_eq!(printable("type.googleapis.com/a.b.Command"), "Command");
        assert_eq!(printable("é\r\n\0x"), "x");
        assert_eq!(printable(&"x".repeat(1_000)).len(), NAME_CHARS_MAX);
        assert_eq!(printable(""), "");
    }
}
