//! [`Fault`]: the kinds of faults, by name.

/// A kind of fault that is made now and then. What goes on all the time, writers that commit late or roll back and messages
/// that the broker refuses, is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    KillOneRelay,
    KillAllRelays,
    PauseRelays,
    KillDatabase,
    PromoteStandby,
    KillBackends,
    CutConnections,
    KillBroker,
    FreezeBroker,
    TurnClock,
}

impl Fault {
    pub(crate) const ALL: [Self; 10] = [
        Self::KillOneRelay,
        Self::KillAllRelays,
        Self::PauseRelays,
        Self::KillDatabase,
        Self::PromoteStandby,
        Self::KillBackends,
        Self::CutConnections,
        Self::KillBroker,
        Self::FreezeBroker,
        Self::TurnClock,
    ];

    /// Its row in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillOneRelay => "relay killed",
            Self::KillAllRelays => "all relays killed",
            Self::PauseRelays => "relays paused",
            Self::KillDatabase => "database killed",
            Self::PromoteStandby => "standby promoted",
            Self::KillBackends => "backends killed",
            Self::CutConnections => "network silent",
            Self::KillBroker => "broker killed",
            Self::FreezeBroker => "broker frozen",
            Self::TurnClock => "clock turned",
        }
    }

    /// What is done.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::KillOneRelay => "SIGKILL of one of two, in the middle of a batch",
            Self::KillAllRelays => "SIGKILL of every relay, in the middle of a batch",
            Self::PauseRelays => "SIGSTOP of every relay past its lease; others take over; SIGCONT",
            Self::KillDatabase => "crash of the server in the middle of a batch, and its restart",
            Self::PromoteStandby => "crash of the primary; its synchronous standby is promoted",
            Self::KillBackends => "every session ended by the server, of relays and writers",
            Self::CutConnections => "connections of relays to the database pass nothing more, without a FIN",
            Self::KillBroker => "SIGKILL of the broker, and its restart",
            Self::FreezeBroker => "SIGSTOP of the broker for some seconds",
            Self::TurnClock => "the database's clock an hour ahead, behind, or right again",
        }
    }

    /// How many times at most a relay is interrupted by one: each time it may repeat what it had in hand. A server that
    /// goes away and one that comes back are two; a relay that is paused, and wakes, too. And the sessions of a server see a
    /// turned clock one after the other, within a second, in which a lease may go to another relay and back.
    pub(crate) fn interruptions(self) -> usize {
        match self {
            Self::KillOneRelay | Self::KillAllRelays | Self::KillBackends | Self::CutConnections => 1,
            Self::PauseRelays
            | Self::KillDatabase
            | Self::PromoteStandby
            | Self::KillBroker
            | Self::FreezeBroker
            | Self::TurnClock => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.len(), Fault::ALL.len());
    }
}
