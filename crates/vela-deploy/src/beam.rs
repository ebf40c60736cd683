//! What differs for `type = "beam"`: the command, the environment, and `epmd`.

use std::collections::BTreeMap;

use vela_manifest::{AppName, Kind};

use crate::dirs::AppDirs;

/// The command of a release's script that runs it in the foreground.
const START: &str = "start";

/// What maps the names of Erlang nodes to ports: the first node of a machine starts it, for all that come. It must
/// not end with the instance that happened to be that node.
const NAME_SERVER: &str = "epmd";

/// What comes before the manifest's own arguments.
pub(crate) fn command(kind: Kind) -> Option<String> {
    match kind {
        Kind::Binary => None,
        Kind::Beam => Some(START.to_owned()),
    }
}

/// The programs that are no part of an instance or hook which has started them.
pub(crate) fn spares(kind: Kind) -> Vec<String> {
    match kind {
        Kind::Binary => Vec::new(),
        Kind::Beam => vec![NAME_SERVER.to_owned()],
    }
}

/// What a release finds in its environment where nothing else sets it.
///
/// Old and new run side by side, so neither may take a name on the network; one that is told to has a name of its
/// own. It is made of the port, which a hook shares with the new instance, so that it can call it. And nothing is
/// written into the release, which is sealed.
pub(crate) fn defaults(
    kind: Kind,
    app: &AppName,
    dirs: &AppDirs,
    instance: &str,
    port: u16,
) -> BTreeMap<String, String> {
    if kind == Kind::Binary {
        return BTreeMap::new();
    }
    let path = |path: std::path::PathBuf| path.display().to_string();
    [
        ("RELEASE_DISTRIBUTION", "none".to_owned()),
        ("RELEASE_NODE", format!("{app}-{port}")),
        ("RELEASE_TMP", path(dirs.tmp_of(instance))),
        ("ERL_CRASH_DUMP", path(dirs.tmp().join("erl_crash.dump"))),
        // Without one of UTF-8, Elixir takes file names and its terminal for Latin-1.
        ("LANG", "C.UTF-8".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
