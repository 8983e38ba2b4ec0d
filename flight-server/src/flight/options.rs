//! The actions of sessions: their options, and their end.

use std::collections::HashMap;
use std::sync::Arc;

use hubflight_wire::messages::{
    CloseSessionResult, CloseSessionStatus, GetSessionOptionsResult, OptionError, OptionErrorKind,
    OptionValue, SessionOptionValue, SetSessionOptionsRequest, SetSessionOptionsResult,
};
use prost::Message;

use super::call::Caller;
use crate::auth::session::{OPTION_NAMES, SessionOptions, Setting};
use crate::error::Result;
use crate::hub::Hub;

pub fn set(hub: &Arc<Hub>, caller: &Caller, request: SetSessionOptionsRequest) -> Result<Vec<u8>> {
    let mut options = caller.principal.options.clone();
    let mut errors = HashMap::new();
    for (name, value) in &request.session_options {
        if let Some(kind) = set_option(&mut options, caller, name, value) {
            let value = kind as i32;
            errors.insert(name.clone(), OptionError { value });
        }
    }
    hub.auth.sessions.put(&caller.principal.session, options)?;
    Ok(SetSessionOptionsResult { errors }.encode_to_vec())
}

fn set_option(
    options: &mut SessionOptions,
    caller: &Caller,
    name: &str,
    value: &SessionOptionValue,
) -> Option<OptionErrorKind> {
    if !OPTION_NAMES.contains(&name) && name != "timezone" {
        return Some(OptionErrorKind::InvalidName);
    }
    let Some(text) = value.as_text() else {
        return Some(OptionErrorKind::InvalidValue);
    };
    let is_foreign = name == "catalog"
        && !text.is_empty()
        && !caller.principal.catalogs().contains(&text.as_str());
    if is_foreign || options.set(name, &text).is_err() {
        return Some(OptionErrorKind::InvalidValue);
    }
    None
}

pub fn get(caller: &Caller) -> Vec<u8> {
    let mut session_options: HashMap<String, SessionOptionValue> = caller
        .principal
        .options
        .list()
        .into_iter()
        .map(|(name, setting)| (name.to_owned(), setting.into()))
        .collect();
    if let Ok(project) = caller.principal.project() {
        let project = Setting::Text(project.to_owned());
        session_options.insert("catalog".into(), project.into());
    }
    GetSessionOptionsResult { session_options }.encode_to_vec()
}

/// Ends the session: what it runs, has begun, prepared and set. A client that goes on begins another.
pub fn close(hub: &Arc<Hub>, caller: &Caller) -> Vec<u8> {
    let session = &caller.principal.session;
    hub.running.close_session(session);
    hub.prepared.close_session(session);
    hub.transactions.close_session(session);
    hub.auth.sessions.close(session);
    let status = CloseSessionStatus::Closed as i32;
    CloseSessionResult { status }.encode_to_vec()
}

impl From<Setting> for SessionOptionValue {
    fn from(setting: Setting) -> Self {
        let value = match setting {
            Setting::Bool(value) => OptionValue::Bool(value),
            Setting::Count(value) => OptionValue::Int(value),
            Setting::Text(value) => OptionValue::Text(value),
        };
        Self { value: Some(value) }
    }
}
