//! Commands of Flight SQL: what stands in them is read or refused in a few words, and what is read
//! is the same when it is sent again.
#![no_main]

use hubflight_wire::command_of;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use tonic::Code;

/// A text that goes in a header, and repeats nothing but a name.
const TEXT_BYTES_MAX: usize = 512;

fuzz_target!(|data: &[u8]| {
    let command = match command_of(data) {
        Ok(command) => command,
        Err(refused) => {
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
            let text = refused.message();
            let is_short = text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control);
            assert!(
                is_short && text.contains("no Flight SQL command"),
                "{text:?}"
            );
            return;
        }
    };
    let again = command.clone().into_any().encode_to_vec();
    assert_eq!(command_of(&again).expect("was read"), command);
});
