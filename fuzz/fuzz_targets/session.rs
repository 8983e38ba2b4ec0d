//! What clients say of their session: options of every type are read or refused, each is told as
//! one text or as none, and what is read is the same when it is sent again.
#![no_main]

use hubflight_wire::messages::{OptionValue, SetSessionOptionsRequest};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    let Ok(request) = SetSessionOptionsRequest::decode(data) else {
        return;
    };
    for value in request.session_options.values() {
        let text = value.as_text();
        match (&value.value, text) {
            (Some(OptionValue::Texts(_)), text) => assert_eq!(text, None),
            (None, text) => assert_eq!(text.as_deref(), Some("")),
            (Some(OptionValue::Text(given)), text) => assert_eq!(text.as_ref(), Some(given)),
            // A number without an end would be a text without an end.
            (Some(_), text) => assert!(text.is_some_and(|text| (1..400).contains(&text.len()))),
        }
    }
    let again = SetSessionOptionsRequest::decode(request.encode_to_vec().as_slice());
    let again = again.expect("was read");
    // Not a number is not equal to itself.
    assert_eq!(sorted(&again), sorted(&request));
});

/// The options in the order of their names: a map has none.
fn sorted(request: &SetSessionOptionsRequest) -> Vec<String> {
    let options = request.session_options.iter();
    let mut options: Vec<_> = options.map(|option| format!("{option:?}")).collect();
    options.sort();
    options
}
