//! [`Names`]: what types are called on the wire.

use std::{any::TypeId, borrow::Cow, collections::HashMap, fmt, sync::Arc};

use super::Named;

/// What types of commands and events are called on the wire, where that is not their [`NAME`](Named::NAME).
///
/// Go's Watermill writes `package.Type` unless told otherwise. For types of one of Go's packages, and one that was
/// renamed:
///
/// ```
/// # use watermill_core::cqrs::{Named, Names};
/// # struct RoomBooked;
/// # impl Named for RoomBooked { const NAME: &'static str = "RoomBooked"; }
/// # struct OrderPlaced;
/// # impl Named for OrderPlaced { const NAME: &'static str = "OrderPlaced"; }
/// let names = Names::in_package("hotel").with::<OrderPlaced>("bar.BeerOrdered").also::<OrderPlaced>("bar.Ordered");
/// assert_eq!(names.of::<RoomBooked>(), "hotel.RoomBooked");
/// assert_eq!(names.of::<OrderPlaced>(), "bar.BeerOrdered"); // and "bar.Ordered" is read as well
/// ```
#[derive(Clone, Default)]
pub struct Names {
    rule: Rule,
    by_type: HashMap<TypeId, String>,
    also: HashMap<TypeId, Vec<String>>,
}

#[derive(Clone, Default)]
enum Rule {
    #[default]
    AsNamed,
    Package(String),
    Function(Arc<dyn Fn(&str) -> String + Send + Sync>),
}

impl Names {
    /// Each type by its own name.
    pub fn new() -> Self {
        Self::default()
    }

    /// `package.Name`: what Go calls its types, for those of one package.
    pub fn in_package(package: impl Into<String>) -> Self {
        Self { rule: Rule::Package(package.into()), ..Self::default() }
    }

    /// By a function of the type's own name.
    pub fn from_fn(name: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self { rule: Rule::Function(Arc::new(name)), ..Self::default() }
    }

    /// Calls `T` by this name, whatever the rule says.
    #[must_use]
    pub fn with<T: Named>(mut self, name: impl Into<String>) -> Self {
        self.by_type.insert(TypeId::of::<T>(), name.into());
        self
    }

    /// Reads messages of this name as a `T` too: of what it was called before, or is called elsewhere. They are read from the topic
    /// of the name that is written; what still lies on a topic of its own needs a processor with [`Topics`](super::Topics) that say so.
    #[must_use]
    pub fn also<T: Named>(mut self, name: impl Into<String>) -> Self {
        self.also.entry(TypeId::of::<T>()).or_default().push(name.into());
        self
    }

    /// What `T` is called.
    pub fn of<T: Named>(&self) -> Cow<'_, str> {
        if let Some(name) = self.by_type.get(&TypeId::of::<T>()) {
            return Cow::Borrowed(name);
        }
        match &self.rule {
            Rule::AsNamed => Cow::Borrowed(T::NAME),
            Rule::Package(package) => Cow::Owned(format!("{package}.{}", T::NAME)),
            Rule::Function(name) => Cow::Owned(name(T::NAME)),
        }
    }

    /// Every name that is read as a `T`, the one that is written first.
    pub(super) fn read_as<T: Named>(&self) -> Vec<String> {
        let mut names = vec![self.of::<T>().into_owned()];
        for also in self.also.get(&TypeId::of::<T>()).into_iter().flatten() {
            if !names.contains(also) {
                names.push(also.clone());
            }
        }
        names
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match &self.rule {
            Rule::AsNamed => "as named",
            Rule::Package(package) => package,
            Rule::Function(_) => "a function",
        };
        f.debug_struct("Names").field("rule", &rule).field("exceptions", &self.by_type.len()).finish()
    }
}
