//! [`Looks`]: which offsets are decided, from looks at who holds the lock that writers hold. No I/O.
//!
//! A writer takes the table's `RowExclusiveLock` before it draws an offset and gives it up after its
//! commit can be seen. So of the offsets drawn before a look, those are decided whose writers were not
//! there at the look, and once everybody has gone who was there, all of them are.

use tokio::time::Instant;

/// The most looks that are remembered; more say little more.
const LOOKS_MAX: usize = 32;

/// What one look saw: first the sequence, then the locks.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(crate) struct Look {
    /// The last offset that was drawn.
    pub(crate) drawn: i64,
    /// Who held the lock.
    pub(crate) holders: Vec<Holding>,
    pub(crate) at: Instant,
}

/// A transaction that holds the lock of writers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Holding {
    /// Its name while it lives: `backend/local transaction`.
    pub(crate) virtual_transaction: String,
    /// `None` for one that is prepared.
    pub(crate) pid: Option<i32>,
}

/// The looks that are not decided yet.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, PartialEq, Eq, Hash))]
pub(crate) struct Looks {
    /// Every offset up to here is decided: its row can be seen, or never will be.
    decided: i64,
    /// In the order of their looks, and so of their offsets.
    open: Vec<Look>,
}

impl Looks {
    pub(crate) fn decided(&self) -> i64 {
        self.decided
    }

    /// Whether anything that was drawn is undecided.
    pub(crate) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The oldest look that is not decided. When more offsets are decided it is a later one.
    pub(crate) fn oldest(&self) -> Option<&Look> {
        self.open.first()
    }

    /// Takes note of a look.
    pub(crate) fn note(&mut self, look: Look) {
        let all = look.holders.clone();
        if look.drawn > self.decided
            && self.open.last().is_none_or(|last| last.drawn < look.drawn)
            && self.open.len() < LOOKS_MAX
        {
            self.open.push(look);
        }
        // Under which name it was seen before does not tell whether it has ended: it holds up everything.
        if let Some(nameless) = all.iter().find(|holding| holding.is_nameless()) {
            if let Some(oldest) = self.open.first_mut() {
                oldest.holders.retain(|holding| holding != nameless);
                oldest.holders.insert(0, nameless.clone());
            }
            return;
        }
        for look in &mut self.open {
            look.holders
                .retain(|held| all.iter().any(|now| now.virtual_transaction == held.virtual_transaction));
        }
        // A later look may be decided before an earlier one never: its holders include those that are left.
        if let Some(last) = self.open.iter().rposition(|look| look.holders.is_empty()) {
            self.decided = self.open[last].drawn;
            self.open.drain(..=last);
        }
    }

    /// Names start anew with the server, so that what was seen over a connection ends with it.
    pub(crate) fn forget(&mut self) {
        self.open.clear();
    }
}

impl Holding {
    /// A prepared transaction, which loses its process and with a restart its name, or one that is just
    /// ending.
    fn is_nameless(&self) -> bool {
        self.pid.is_none() || self.virtual_transaction.ends_with("/0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(drawn: i64, holders: &[&str]) -> Look {
        let holders = holders
            .iter()
            .map(|name| Holding {
                virtual_transaction: name.trim_start_matches('P').to_owned(),
                pid: (!name.starts_with('P')).then_some(1),
            })
            .collect();
        Look { drawn, holders, at: Instant::now() }
    }

    #[test]
    fn without_writers_everything_that_was_drawn_is_decided() {
        let mut looks = Looks::default();
        looks.note(look(7, &[]));
        assert_eq!((looks.decided(), looks.is_open()), (7, false));
    }

    #[test]
    fn what_was_drawn_is_decided_when_those_who_were_there_have_gone() {
        let mut looks = Looks::default();
        looks.note(look(7, &["1/1", "2/1"]));
        looks.note(look(9, &["2/1", "3/1"]));
        assert_eq!(looks.decided(), 0);
        looks.note(look(9, &["3/1", "4/1"]));
        // Later writers do not count.
        assert_eq!(looks.decided(), 7);
        assert!(looks.is_open());
        looks.note(look(12, &["4/1"]));
        assert_eq!(looks.decided(), 9);
        looks.note(look(12, &[]));
        assert_eq!((looks.decided(), looks.is_open()), (12, false));
    }

    #[test]
    fn a_backend_that_goes_on_with_another_transaction_holds_up_nothing_older() {
        let mut looks = Looks::default();
        looks.note(look(7, &["1/1"]));
        looks.note(look(8, &["1/2"]));
        assert_eq!(looks.decided(), 7);
    }

    #[test]
    fn who_has_no_name_holds_up_everything() {
        let mut looks = Looks::default();
        looks.note(look(7, &["1/1"]));
        for nameless in ["P1/1", "P-1/77", "2/0"] {
            looks.note(look(9, &[nameless]));
            assert_eq!(looks.decided(), 0, "{nameless}");
            assert!(looks.is_open());
        }
        looks.note(look(9, &[]));
        assert_eq!(looks.decided(), 9);
    }

    #[test]
    fn what_was_seen_over_another_connection_decides_nothing() {
        let mut looks = Looks::default();
        looks.note(look(7, &["1/1"]));
        looks.forget();
        looks.note(look(7, &["1/1"]));
        assert_eq!(looks.decided(), 0);
        looks.note(look(7, &[]));
        assert_eq!(looks.decided(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_undecided_is_as_old_as_the_look_at_it_and_not_as_the_traffic() {
        let start = Instant::now();
        let mut looks = Looks::default();
        for n in 1..10 {
            // Whoever was there before has gone, and another is there.
            looks.note(look(n, &[&format!("1/{n}")]));
            assert_eq!(looks.oldest().unwrap().at, Instant::now());
            tokio::time::advance(std::time::Duration::from_millis(300)).await;
        }
        assert!(start.elapsed().as_secs() >= 2);
        looks.note(look(20, &["1/9", "2/1"]));
        assert_eq!(looks.oldest().unwrap().at.elapsed().as_millis(), 300);
    }

    #[test]
    fn constant_traffic_keeps_a_bounded_number_of_looks() {
        let mut looks = Looks::default();
        for drawn in 1..1_000 {
            looks.note(look(drawn, &["1/1", &format!("2/{drawn}")]));
        }
        assert!(looks.open.len() <= LOOKS_MAX);
        assert_eq!(looks.decided(), 0);
        looks.note(look(1_000, &["2/1000"]));
        assert!(looks.decided() >= 32);
    }
}
