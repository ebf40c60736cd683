//! What is done and killed when, all of it by one seed.

/// What can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The postmaster, or a backend, for whose death it starts all of them anew.
    Postgres,
    /// nats-server.
    Nats,
    /// Vela's daemon.
    Daemon,
    /// The shim of an instance of the app, or of one of the servers.
    Shim,
    /// A process of the app.
    App,
}

/// One kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) target: Target,
    /// Chooses among the target's processes.
    pub(crate) choice: usize,
    /// Whether the next one waits until the app answers again.
    pub(crate) recovers: bool,
}

/// What is asked of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    BlueGreen,
    Sequential,
    Rollback,
}

/// One or two kills of each target, in any order, and one operation among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Round {
    /// Before the operation.
    pub(crate) before: Vec<Kill>,
    /// In the operation, and what chooses the step that it comes in.
    pub(crate) during: Option<(Kill, usize)>,
    /// After the operation.
    pub(crate) after: Vec<Kill>,
}

/// The same for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    state: u64,
}

impl Kill {
    /// Whether it is of a server that the app uses, and that is all.
    pub(crate) fn is_of_a_service(self) -> bool {
        match self.target {
            Target::Postgres | Target::Nats => true,
            Target::Shim => self.choice % 4 < 2,
            Target::Daemon | Target::App => false,
        }
    }
}

impl Target {
    pub(crate) const ALL: [Target; 5] = [
        Target::Postgres,
        Target::Nats,
        Target::Daemon,
        Target::Shim,
        Target::App,
    ];

    /// Those of one round. Postgres takes the longest to recover.
    const OF_A_ROUND: [Target; 8] = [
        Target::Postgres,
        Target::Nats,
        Target::Nats,
        Target::Daemon,
        Target::Shim,
        Target::Shim,
        Target::App,
        Target::App,
    ];
}

impl Schedule {
    pub(crate) const DEPLOYS: usize = 20;
    pub(crate) const ROLLBACKS: usize = 5;
    /// So many rounds have 200 kills.
    pub(crate) const ROUNDS: usize = 25;

    pub(crate) fn of(seed: u64) -> Schedule {
        Schedule { state: seed }
    }

    /// Every operation that has to succeed, in order: one deploy of four is sequential, and each rollback has a deploy
    /// to take back.
    pub(crate) fn operations(&mut self) -> Vec<Operation> {
        let deploy = |n| match n % 4 {
            0 => Operation::Sequential,
            _ => Operation::BlueGreen,
        };
        let deploys = (0..Schedule::DEPLOYS).map(deploy);
        let mut operations: Vec<_> = deploys
            .chain([Operation::Rollback; Schedule::ROLLBACKS])
            .collect();
        while {
            self.shuffle(&mut operations);
            !can_go_back(&operations)
        } {}
        operations
    }

    /// The next round.
    pub(crate) fn round(&mut self) -> Round {
        let mut targets = Target::OF_A_ROUND;
        self.shuffle(&mut targets);
        let mut kills = Vec::from(targets.map(|target| Kill {
            target,
            choice: self.below(1 << 16),
            recovers: self.below(4) != 0,
        }));
        let mut rest = kills.split_off(self.below(targets.len()));
        let during = (self.below(3) != 0).then(|| (rest.remove(0), self.below(1 << 16)));
        Round {
            before: kills,
            during,
            after: rest,
        }
    }

    fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last + 1));
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("it is less than a usize")
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

fn can_go_back(operations: &[Operation]) -> bool {
    let mut releases = 0;
    operations.iter().all(|operation| {
        releases += match operation {
            Operation::Rollback => -1,
            _ => 1,
        };
        releases >= 0
    })
}

fn rounds(schedule: &mut Schedule) -> Vec<Round> {
    (0..Schedule::ROUNDS).map(|_| schedule.round()).collect()
}

#[test]
fn a_seed_is_a_schedule() {
    let of = |seed| {
        let mut schedule = Schedule::of(seed);
        (schedule.operations(), rounds(&mut schedule))
    };
    assert_eq!(of(7), of(7));
    assert_ne!(of(7).0, of(8).0);
    assert_ne!(of(7).1, of(8).1);
}

#[test]
fn every_schedule_has_enough_of_everything() {
    for seed in 0..200 {
        let mut schedule = Schedule::of(seed);
        let operations = schedule.operations();
        let rollbacks = operations.iter().filter(|one| **one == Operation::Rollback);
        assert_eq!(rollbacks.count(), Schedule::ROLLBACKS);
        assert_eq!(operations.len(), Schedule::DEPLOYS + Schedule::ROLLBACKS);
        assert!(operations.contains(&Operation::Sequential));
        assert!(can_go_back(&operations), "{operations:?}");

        let rounds = rounds(&mut schedule);
        let during = rounds.iter().filter_map(|round| round.during);
        let during: Vec<Kill> = during.map(|(kill, _)| kill).collect();
        assert!((8..25).contains(&during.len()), "{during:?}");
        let beside = rounds
            .iter()
            .flat_map(|one| one.before.iter().chain(&one.after));
        let kills: Vec<Kill> = beside.copied().chain(during.iter().copied()).collect();
        assert!(kills.len() >= 200, "{}", kills.len());
        for target in Target::ALL {
            let of = |kills: &[Kill]| kills.iter().filter(|kill| kill.target == target).count();
            assert!(of(&kills) >= 20, "{target:?}: {kills:?}");
        }
        assert!(kills.iter().any(|kill| !kill.recovers));
    }
}

#[test]
fn no_rollback_before_there_is_something_to_go_back_to() {
    use Operation::{BlueGreen, Rollback, Sequential};
    assert!(can_go_back(&[BlueGreen, Sequential, Rollback, Rollback]));
    assert!(!can_go_back(&[Rollback, BlueGreen]));
    assert!(!can_go_back(&[BlueGreen, Rollback, Rollback, BlueGreen]));
}
