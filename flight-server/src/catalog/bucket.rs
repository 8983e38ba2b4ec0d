//! A folder in an S3-like object store: how to reach it, and which tables a dataset's holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};

use crate::config::DatasetConfig;
use crate::error::{Error, Result};

/// A store that does not answer must not hold a statement, or the start, for minutes.
const RETRIES_MAX: usize = 3;
const RETRY_SECONDS_MAX: Duration = Duration::from_secs(20);
const CONNECT_SECONDS_MAX: Duration = Duration::from_secs(5);

/// How a bucket of `s3://bucket/folder` is reached, and where in it.
pub struct Reached {
    pub store: Arc<AmazonS3>,
    pub url: ObjectStoreUrl,
    pub folder: Path,
}

/// Reaches the bucket of `s3://bucket/folder`, or none where `folder` is a local one. Credentials
/// come from the environment, never from a file. Errors call it `shown`.
///
/// # Errors
/// Another scheme, or an option of `storage` that no S3 client knows.
pub fn reach(
    shown: &str,
    folder: &str,
    storage: &BTreeMap<String, String>,
) -> Result<Option<Reached>> {
    let Some((scheme, rest)) = folder.split_once("://") else {
        return Ok(None);
    };
    if scheme != "s3" {
        return Err(Error::invalid(format!(
            "{shown}: a folder is a local path or s3://bucket/folder"
        )));
    }
    let wrong = |error: &dyn std::fmt::Display| Error::invalid(format!("{shown}: {error}"));
    let (name, folder) = rest.split_once('/').unwrap_or((rest, ""));
    let client = ClientOptions::new().with_connect_timeout(CONNECT_SECONDS_MAX);
    let mut builder = AmazonS3Builder::from_env()
        .with_client_options(client)
        .with_retry(RetryConfig {
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_SECONDS_MAX,
            ..RetryConfig::default()
        })
        .with_bucket_name(name);
    for (key, value) in storage {
        let key = key
            .parse()
            .map_err(|error: object_store::Error| wrong(&error))?;
        builder = builder.with_config(key, value);
    }
    Ok(Some(Reached {
        store: Arc::new(builder.build().map_err(|error| wrong(&error))?),
        url: ObjectStoreUrl::parse(format!("s3://{name}")).map_err(|error| wrong(&error))?,
        folder: Path::parse(folder).map_err(|error| wrong(&error))?,
    }))
}

pub struct Bucket {
    store: Arc<AmazonS3>,
    url: ObjectStoreUrl,
    folder: Path,
    /// What errors call it.
    shown: String,
}

impl Bucket {
    /// The bucket of a dataset, or none where its folder is a local one.
    ///
    /// # Errors
    /// As [`reach`].
    pub fn of(config: &DatasetConfig) -> Result<Option<Self>> {
        let shown = format!("dataset `{}`, folder `{}`", config.name, config.folder);
        let reached = reach(&shown, &config.folder, &config.storage)?;
        Ok(reached.map(|Reached { store, url, folder }| Self {
            store,
            url,
            folder,
            shown,
        }))
    }

    /// Makes its files readable by scans.
    pub fn register(&self, state: &SessionState) {
        let store = Arc::clone(&self.store);
        state
            .runtime_env()
            .register_object_store(self.url.as_ref(), store);
    }

    /// The producer's `dataset.json`, where there is one.
    pub async fn description(&self) -> Result<Option<String>> {
        let file = self.folder.clone().join("dataset.json");
        let found = match self.store.get(&file).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.unreadable(&error)),
        };
        let bytes = found
            .bytes()
            .await
            .map_err(|error| self.unreadable(&error))?;
        String::from_utf8(bytes.into())
            .map(Some)
            .map_err(|error| self.unreadable(&error))
    }

    /// What lies directly in the folder, by name: files as they are, folders with a final `/`.
    pub async fn entries(&self) -> Result<Vec<String>> {
        let found = self
            .store
            .list_with_delimiter(Some(&self.folder))
            .await
            .map_err(|error| self.unreadable(&error))?;
        let files = found.objects.iter().map(|file| &file.location);
        let name = |path: &Path| path.filename().unwrap_or_default().to_owned();
        Ok(files
            .map(name)
            .chain(found.common_prefixes.iter().map(|path| name(path) + "/"))
            .collect())
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> Error {
        Error::invalid(format!("{}: cannot be read: {error}", self.shown))
    }
}
