//! Upcasters: what brings messages of older versions up to the type that is read.

use std::{
    any::TypeId,
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use crate::{Message, error::BoxError};

type Upcast = dyn Fn(Message) -> Result<Message, BoxError> + Send + Sync;

/// The upcasters of all types of a marshaler, each by the version that it reads.
#[derive(Clone, Default)]
pub(super) struct Upcasters(HashMap<TypeId, Steps>);

/// Those of one type. Each makes the next version of the one it is for.
#[derive(Clone, Default)]
pub(super) struct Steps(BTreeMap<u32, Arc<Upcast>>);

impl Upcasters {
    pub(super) fn add<T: 'static>(
        &mut self,
        from: u32,
        upcast: impl Fn(Message) -> Result<Message, BoxError> + Send + Sync + 'static,
    ) {
        self.0.entry(TypeId::of::<T>()).or_default().0.insert(from, Arc::new(upcast));
    }

    pub(super) fn of<T: 'static>(&self) -> Steps {
        self.0.get(&TypeId::of::<T>()).cloned().unwrap_or_default()
    }
}

impl Steps {
    /// The step from a version to the next, if there is one.
    pub(super) fn from(&self, version: u32) -> Option<&Upcast> {
        self.0.get(&version).map(|upcast| &**upcast)
    }
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.values().map(|steps| steps.0.keys().collect::<Vec<_>>())).finish()
    }
}
