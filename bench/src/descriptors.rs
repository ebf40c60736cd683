use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Result;

/// Lets this process and those that it starts from now on have that many files and sockets each: shells allow 1,024 as
/// a rule. More than the hard limit is only given to root.
pub fn allow_descriptors(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let is_enough = |most: Option<u64>| most.is_none_or(|most| most >= wanted);
    if is_enough(limit.current) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: match is_enough(limit.maximum) {
            true => limit.maximum,
            false => Some(wanted),
        },
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| {
        format!("{wanted} open files are needed, see `ulimit -Hn`: {error}").into()
    })
}
