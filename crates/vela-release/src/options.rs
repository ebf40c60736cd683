/// How a [`DirStore`](crate::DirStore) treats its releases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// What an archive may hold.
    pub limits: Limits,
    /// To whom a release belongs until it is sealed, and who may read it afterwards. It takes
    /// root to give files away; with `None` they are this process's own.
    pub owner: Option<Owner>,
}

/// What an archive may hold at most, once unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, links and directories, also those that a name merely leads through.
    pub max_files: u64,
    /// Bytes of all files together.
    pub max_bytes: u64,
}

impl Default for Limits {
    /// 200,000 files and 8 GiB.
    fn default() -> Self {
        Self {
            max_files: 200_000,
            max_bytes: 8 << 30,
        }
    }
}

/// A user and a group of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}
