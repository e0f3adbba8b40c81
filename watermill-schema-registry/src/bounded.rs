//! [`Bounded`]: what is known of schemas by their numbers, for so many of them.

use std::collections::{HashMap, VecDeque};

/// A map of numbers with a bound: what came first goes first.
#[derive(Debug)]
pub(crate) struct Bounded<V> {
    values: HashMap<u32, V>,
    order: VecDeque<u32>,
    max: usize,
}

impl<V> Bounded<V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { values: HashMap::new(), order: VecDeque::new(), max }
    }

    pub(crate) fn get(&self, id: u32) -> Option<&V> {
        self.values.get(&id)
    }

    pub(crate) fn insert(&mut self, id: u32, value: V) {
        if self.values.insert(id, value).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_first_goes_first_and_a_new_value_changes_no_place() {
        let mut bounded = Bounded::new(2);
        bounded.insert(1, 'a');
        bounded.insert(2, 'b');
        bounded.insert(1, 'c');
        assert_eq!((bounded.get(1), bounded.get(2)), (Some(&'c'), Some(&'b')));
        bounded.insert(3, 'd');
        assert_eq!((bounded.get(1), bounded.get(2), bounded.get(3)), (None, Some(&'b'), Some(&'d')));
        assert_eq!((bounded.values.len(), bounded.order.len()), (2, 2));
    }
}
