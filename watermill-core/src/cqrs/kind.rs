//! [`Commands`] and [`Events`]: what tells the two kinds of buses and processors apart.

/// Orders to do something: each has one handler.
#[derive(Debug)]
pub enum Commands {}

/// What has happened: any number of handlers hear of it.
#[derive(Debug)]
pub enum Events {}

/// [`Commands`] or [`Events`].
pub trait Kind: sealed::Kind + 'static {}

impl Kind for Commands {}
impl Kind for Events {}

pub(super) mod sealed {
    pub trait Kind {
        /// Of what kind a message is, in a sentence.
        const NOUN: &'static str;
        /// Whether a name has one handler in a router.
        const HAS_ONE_HANDLER: bool;
    }

    impl Kind for super::Commands {
        const NOUN: &'static str = "command";
        const HAS_ONE_HANDLER: bool = true;
    }

    impl Kind for super::Events {
        const NOUN: &'static str = "event";
        const HAS_ONE_HANDLER: bool = false;
    }
}
