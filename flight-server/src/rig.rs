//! A hub for unit tests, from the text of its configuration.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use chrono::Utc;
use hubflight_protocol::Key;
use hubflight_rights::{Asker, Login, Method, Zone};
use hubflight_udfs::{PoolConfig, WorkerPool};
use tonic::metadata::MetadataMap;

use crate::config::Config;
use crate::error::Result;
use crate::flight::call::Caller;
use crate::hub::{Hub, Mode, open_store};
use crate::provision::provision;

/// A hub with one dataset, `shop`, which the project `p` of `ada` reads.
pub const SHOP: &str = "
[server]
state = 'state'
zone = 'inside'
[[dataset]]
name = 'shop'
folder = 'data'
format = 'csv'
persons = 'none'
producer = 'x'
[[person]]
id = 'ada'
[[project]]
id = 'p'
members = ['ada']
valid_from = '2000-01-01'
valid_to = '2999-01-01'
[[habilitation]]
project = 'p'
dataset = 'shop'
decision = 'd'
valid_from = '2000-01-01'
valid_to = '2999-01-01'
";

/// Where the callers of tests are.
pub fn inside() -> Zone {
    Zone::try_from("inside".to_owned()).expect("a name")
}

/// `ada`, as a member of `p`.
pub fn ada() -> Asker {
    asker("ada", &["p"])
}

/// Somebody, as a member of projects.
pub fn asker(person: &str, projects: &[&str]) -> Asker {
    let projects = projects.iter();
    Asker {
        person: person.to_owned(),
        roles: BTreeSet::new(),
        projects: projects
            .map(|id| ((*id).to_owned(), "default".to_owned()))
            .collect(),
        login: Login {
            method: Method::Password,
            second_factor: false,
        },
    }
}

/// The person of a header `authorization`, inside.
pub async fn caller(hub: &Arc<Hub>, header: &str) -> Result<Caller> {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", header.parse().expect("a header"));
    let now = Utc::now();
    let principal = hub.auth.authenticate(&metadata, "test", now).await?;
    let place = hub.engine.call(&principal.person.id)?;
    Ok(Caller {
        principal,
        zone: inside(),
        now,
        timeout: None,
        place,
    })
}

/// `ada`, in a session.
pub async fn ada_in_session(hub: &Arc<Hub>) -> Caller {
    let ada = hub.store.person("ada").await.expect("read").expect("there");
    let token = hub
        .auth
        .tokens
        .issue(&ada.id, ada.token_epoch, Default::default(), Utc::now());
    let header = format!("Bearer {}", token.expect("issued"));
    caller(hub, &header).await.expect("let in")
}

/// A provisioned hub whose configuration is written in `folder`. Nobody listens where its worker
/// should.
pub async fn open_hub(folder: &Path, text: &str) -> Arc<Hub> {
    let path = folder.join("hub.toml");
    std::fs::write(&path, text).expect("configuration");
    let config = Config::read(&path).expect("configuration");
    let (store, secrets) = open_store(&config).await.expect("store");
    let workers = WorkerPool::new(PoolConfig {
        workers: vec!["127.0.0.1:9".into()],
        key: Key::new([7; 32]),
        tls_ca: None,
        io: tokio::runtime::Handle::current(),
    })
    .expect("pool");
    let mode = Mode { passwords: true };
    let hub = Hub::open(config, mode, store, secrets.clone(), workers)
        .await
        .expect("hub");
    provision(&hub.store, &secrets, &hub.config, &hub.datasets)
        .await
        .expect("provisions");
    hub
}
