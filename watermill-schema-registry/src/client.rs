//! [`SchemaRegistryClient`].

use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt as _;
use reqwest::{Client, Method, redirect};
use watermill_core::{
    cqrs::{Schema, SchemaRegistry},
    error::{BoxError, ConfigError},
};

use crate::{
    Compatibility, RegisteredSchema, RegistryError, RegistryErrorKind, SchemaRegistryConfig,
    cache::{Cache, Found},
    call::{Call, Caller},
    wire::{Numbered, Received, ReceivedVersion, Sent},
};

/// Asks a schema registry that speaks Confluent's API. Clones are the same client, with one pool of connections and one cache.
///
/// Schemas are [kept](SchemaRegistryConfig::cached_schemas) by their numbers. However many ask for one at a time, the registry is
/// asked once; and a number that it did not know is asked for at most once a second.
///
/// # Cancel safety
///
/// A dropped future of any call may have been heard by the registry: a schema may have been registered. Registering it again is
/// the same.
#[derive(Clone, Debug)]
pub struct SchemaRegistryClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    caller: Caller,
    cache: Cache,
}

impl SchemaRegistryClient {
    /// A client. Nothing connects before the first call. It uses the proxies that the environment names (`HTTPS_PROXY`,
    /// `NO_PROXY`), and follows no redirects.
    ///
    /// # Errors
    ///
    /// As [`SchemaRegistryConfig::validate`].
    pub fn new(config: SchemaRegistryConfig) -> Result<Self, ConfigError> {
        let builder = Client::builder().redirect(redirect::Policy::none()).connect_timeout(config.timeout);
        let http = builder.build().map_err(|error| {
            ConfigError::new("configure the client of a schema registry", format!("TLS: {error}"))
        })?;
        Self::with_http(config, http)
    }

    /// A client over an HTTP client of yours: with certificates of its own, for instance.
    ///
    /// # Errors
    ///
    /// As [`SchemaRegistryConfig::validate`].
    pub fn with_http(config: SchemaRegistryConfig, http: Client) -> Result<Self, ConfigError> {
        config.validate()?;
        let cache = Cache::new(config.cached_schemas);
        Ok(Self { shared: Arc::new(Shared { caller: Caller::new(config, http), cache }) })
    }

    /// Registers a schema under a subject, unless it is there, and has its number.
    ///
    /// # Errors
    ///
    /// [`Incompatible`](RegistryErrorKind::Incompatible) with the registry's reasons, if it does not go with those before it;
    /// [`Invalid`](RegistryErrorKind::Invalid), if it is faulty; else what keeps the registry from answering.
    pub async fn register(&self, subject: &str, schema: &Schema) -> Result<u32, RegistryError> {
        let what = format!("register the schema of {subject:?}");
        let path = ["subjects", subject, "versions"];
        let numbered: Numbered = self.send(&what, &path, self.normalizing(), schema).await?;
        tracing::debug!(subject, id = numbered.id, "a schema is registered");
        Ok(numbered.id)
    }

    /// Finds a schema that is registered under a subject.
    ///
    /// # Errors
    ///
    /// [`NotFound`](RegistryErrorKind::NotFound), if it is not; else what keeps the registry from answering.
    pub async fn look_up(&self, subject: &str, schema: &Schema) -> Result<RegisteredSchema, RegistryError> {
        let what = format!("look up the schema of {subject:?}");
        let found = self.send(&what, &["subjects", subject], self.normalizing(), schema).await?;
        version(&what, found)
    }

    /// The schema of a number.
    ///
    /// # Errors
    ///
    /// [`NotFound`](RegistryErrorKind::NotFound), if there is none; [`Invalid`](RegistryErrorKind::Invalid), if it is of a
    /// language that is not known here; else what keeps the registry from answering.
    pub async fn schema(&self, id: u32) -> Result<Arc<Schema>, RegistryError> {
        let found = self.shared.cache.get(id, || {
            let shared = self.shared.clone();
            async move {
                let found = shared.fetch(id).await;
                shared.cache.keep(id, &found);
                found
            }
            .boxed()
        });
        match found {
            Ok(found) => found,
            Err(asked) => asked.await,
        }
    }

    /// A version of a subject.
    ///
    /// # Errors
    ///
    /// [`NotFound`](RegistryErrorKind::NotFound), if there is none; else as [`schema`](Self::schema).
    pub async fn version(&self, subject: &str, version: u32) -> Result<RegisteredSchema, RegistryError> {
        self.version_called(subject, &version.to_string()).await
    }

    /// The latest version of a subject.
    ///
    /// # Errors
    ///
    /// As [`version`](Self::version).
    pub async fn latest(&self, subject: &str) -> Result<RegisteredSchema, RegistryError> {
        self.version_called(subject, "latest").await
    }

    /// The versions of a subject, from the first.
    ///
    /// # Errors
    ///
    /// [`NotFound`](RegistryErrorKind::NotFound), if there is no such subject; else what keeps the registry from answering.
    pub async fn versions(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        let what = format!("list the versions of {subject:?}");
        self.get(&what, &["subjects", subject, "versions"]).await
    }

    /// Whether a schema goes with the latest version of a subject, by the rule that the registry has for that: what a build
    /// can ask before a service is deployed. A subject without versions takes any.
    ///
    /// # Errors
    ///
    /// [`Invalid`](RegistryErrorKind::Invalid), if the schema is faulty; else what keeps the registry from answering.
    pub async fn check(&self, subject: &str, schema: &Schema) -> Result<Compatibility, RegistryError> {
        let what = format!("compare the schema of {subject:?}");
        let path = ["compatibility", "subjects", subject, "versions", "latest"];
        match self.send(&what, &path, &[("verbose", "true")], schema).await {
            Err(error) if error.kind() == RegistryErrorKind::NotFound => {
                Ok(Compatibility { is_compatible: true, messages: Vec::new() })
            }
            answer => answer,
        }
    }

    /// The number of a schema under a subject, as the configuration has it: [registered](Self::register), or
    /// [looked up](Self::look_up).
    ///
    /// # Errors
    ///
    /// As of the one or the other.
    pub async fn number(&self, subject: &str, schema: &Schema) -> Result<u32, RegistryError> {
        if self.shared.caller.config().registers {
            self.register(subject, schema).await
        } else {
            Ok(self.look_up(subject, schema).await?.id)
        }
    }

    #[cfg(feature = "avro")]
    pub(crate) fn config(&self) -> &SchemaRegistryConfig {
        self.shared.caller.config()
    }

    async fn version_called(&self, subject: &str, called: &str) -> Result<RegisteredSchema, RegistryError> {
        let what = format!("find version {called} of {subject:?}");
        let found = self.get(&what, &["subjects", subject, "versions", called]).await?;
        version(&what, found)
    }

    fn normalizing(&self) -> &'static [(&'static str, &'static str)] {
        if self.shared.caller.config().normalizes { &[("normalize", "true")] } else { &[] }
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        path: &[&str],
    ) -> Result<T, RegistryError> {
        self.shared.get(what, path).await
    }

    async fn send<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        path: &[&str],
        query: &[(&str, &str)],
        schema: &Schema,
    ) -> Result<T, RegistryError> {
        let Some(body) = Sent::of(schema) else {
            let detail = format!("registries have no name for {:?}", schema.kind());
            return Err(RegistryError::new(RegistryErrorKind::Invalid, what, detail));
        };
        self.shared.caller.call(Call { what, method: Method::POST, path, query, body: Some(&body) }).await
    }
}

impl Shared {
    async fn fetch(&self, id: u32) -> Found {
        let what = format!("fetch the schema {id}");
        let received: Received = self.get(&what, &["schemas", "ids", &id.to_string()]).await?;
        known(&what, received).map(Arc::new)
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        path: &[&str],
    ) -> Result<T, RegistryError> {
        let body = None::<&()>;
        self.caller.call(Call { what, method: Method::GET, path, query: &[], body }).await
    }
}

fn version(what: &str, found: ReceivedVersion) -> Result<RegisteredSchema, RegistryError> {
    let ReceivedVersion { id, subject, version, schema } = found;
    Ok(RegisteredSchema { id, subject, version, schema: known(what, schema)? })
}

fn known(what: &str, received: Received) -> Result<Schema, RegistryError> {
    received.schema().map_err(|language| {
        let detail = format!("it is of the language {language:?}, which is not known here");
        RegistryError::new(RegistryErrorKind::Invalid, what, detail)
    })
}

#[async_trait]
impl SchemaRegistry for SchemaRegistryClient {
    async fn register(&self, subject: &str, schema: &Schema) -> Result<u32, BoxError> {
        Ok(self.number(subject, schema).await?)
    }
}
