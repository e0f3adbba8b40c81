//! [`Extensions`]: typed values beside a message, inside this process.

use std::{
    any::{Any, TypeId},
    fmt,
};

/// At most one value of each type. Empty, it is one pointer and does not allocate.
#[derive(Clone, Default)]
pub struct Extensions {
    /// A vector: a message has a handful of extensions, and comparing type ids beats hashing them.
    #[expect(clippy::type_complexity, reason = "every message carries the pointer, few carry extensions")]
    values: Option<Box<Vec<(TypeId, Box<dyn Value>)>>>,
}

impl Extensions {
    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.values.as_ref().is_none_or(|values| values.is_empty())
    }

    /// Adds a value and returns the one of the same type that it replaces.
    pub fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
        let replaced = self.remove::<T>();
        self.values.get_or_insert_default().push((TypeId::of::<T>(), Box::new(value)));
        replaced
    }

    /// The value of type `T`.
    #[inline]
    pub fn get<T: 'static>(&self) -> Option<&T> {
        let values = self.values.as_deref()?;
        let (_, value) = values.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        (**value).as_any().downcast_ref()
    }

    /// Removes the value of type `T`.
    #[inline]
    pub fn remove<T: 'static>(&mut self) -> Option<T> {
        // What nearly every message says, without a call.
        take(self.values.as_deref_mut()?)
    }
}

#[inline(never)]
fn take<T: 'static>(values: &mut Vec<(TypeId, Box<dyn Value>)>) -> Option<T> {
    let at = values.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
    values.swap_remove(at).1.into_any().downcast().ok().map(|value| *value)
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({})", self.values.as_ref().map_or(0, |values| values.len()))
    }
}

/// `Any` that can be cloned behind a box.
trait Value: Any + Send + Sync {
    fn clone_box(&self) -> Box<dyn Value>;
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: Clone + Send + Sync + 'static> Value for T {
    fn clone_box(&self) -> Box<dyn Value> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Clone for Box<dyn Value> {
    fn clone(&self) -> Self {
        (**self).clone_box()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_one_value() {
        let mut extensions = Extensions::default();
        assert_eq!(extensions.insert(1_u32), None);
        assert_eq!(extensions.insert(2_u32), Some(1));
        assert_eq!(extensions.insert("text"), None);
        let mut copy = extensions.clone();
        assert_eq!(copy.remove::<u32>(), Some(2));
        assert_eq!(extensions.get::<u32>(), Some(&2));
        assert_eq!(copy.get::<u32>(), None);
    }
}
