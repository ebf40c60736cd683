use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, Parser, Subcommand};
use vela_control::ServerAddress;
use vela_manifest::{AppName, Cidr};

/// Deploy an app to a Linux server you own, with no downtime and no containers.
#[derive(Debug, Parser)]
#[command(
    name = "vela",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 error, 2 usage, 3 deploy failed and the old release still serves, \
                  4 server unreachable, 5 another deploy holds the app, 6 the app is down, 130 interrupted.\n\
                  Every flag can also be given as VELA_<FLAG>."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// The manifest [default: Vela.toml]
    #[arg(
        short,
        long,
        global = true,
        env = "VELA_MANIFEST",
        value_name = "FILE",
        hide_env = true
    )]
    pub(crate) manifest: Option<PathBuf>,
    /// The server: user@host[:port], a host of ~/.ssh/config, ssh://.., local, unix:///path [default: the manifest's, else local]
    #[arg(
        short,
        long,
        global = true,
        env = "VELA_SERVER",
        value_name = "SERVER",
        hide_env = true
    )]
    pub(crate) server: Option<ServerAddress>,
    /// Print results as JSON; events as one JSON object a line
    #[arg(long, global = true, env = "VELA_JSON", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true, env = "VELA_QUIET", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) quiet: bool,
    /// Print more; twice for even more
    #[arg(short, long, global = true, env = "VELA_VERBOSE", action = ArgAction::Count, hide_env = true)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented Vela.toml
    Init(Init),
    /// Validate the manifest, and say what it asks for that cannot be deployed yet
    Check,
    /// Deploy a program or a directory
    Deploy(Deploy),
    /// Undo the deploy that runs, if traffic has not been switched yet
    Cancel(App),
    /// Show what an app is doing
    Status(App),
    /// List the apps of the server
    Apps,
    /// Show what an app wrote
    Logs(Logs),
    /// List an app's releases, newest first
    Releases(App),
    /// List what was done to an app, newest first
    History(History),
    /// Go back to an earlier release
    Rollback(Rollback),
    /// Replace an app's processes, without downtime
    Restart(App),
    /// Stop an app; it stays stopped over a reboot
    Stop(App),
    /// Start an app that was stopped
    Start(App),
    /// Keep an app from its users for a while, or end that
    #[command(subcommand)]
    Maintenance(Maintenance),
    /// Remove an app from the server; its data stays unless --purge
    Remove(Remove),
    /// Manage an app's secrets
    #[command(subcommand)]
    Secret(Secret),
    /// See the services that apps share: databases, message servers
    #[command(subcommand)]
    Services(Services),
    /// See and renew the certificates of the server
    #[command(subcommand)]
    Certs(Certs),
    #[cfg(target_os = "linux")]
    /// Install the daemon on this machine
    Setup(Setup),
    #[cfg(target_os = "linux")]
    /// Run the daemon
    Serve(Serve),
    #[cfg(target_os = "linux")]
    /// Show zero-downtime deploys under load on this machine, with no server and no configuration
    Demo(crate::demo::DemoArgs),
    /// Print a completion script
    Completions(Completions),
    /// Join stdin and stdout to the daemon's socket
    #[command(hide = true)]
    Join(Join),
    #[cfg(target_os = "linux")]
    /// The parent of one process of an app
    #[command(hide = true)]
    Shim,
    #[cfg(target_os = "linux")]
    /// The app that the demo deploys
    #[command(hide = true)]
    DemoApp(crate::demo::app::AppArgs),
}

/// An app, optional beside a manifest.
#[derive(Debug, Args)]
pub(crate) struct App {
    /// The app [default: the manifest's]
    pub(crate) app: Option<AppName>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The app's name [default: the directory's]
    pub(crate) name: Option<AppName>,
    /// Its host name
    #[arg(long, env = "VELA_DOMAIN", hide_env = true)]
    pub(crate) domain: Option<String>,
    /// Overwrite an existing manifest
    #[arg(long, env = "VELA_FORCE", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// A program, or a directory that holds it [default: what the server builds of the committed source, with
    /// `[build] remote = true`; else target/release/<binary>]
    pub(crate) artifact: Option<PathBuf>,
    /// The commit that a remote build builds: a branch, a tag, an id [default: HEAD]
    #[arg(long = "ref", env = "VELA_REF", value_name = "REF", hide_env = true)]
    pub(crate) reference: Option<String>,
    /// A note, shown by `vela releases`
    #[arg(long, env = "VELA_MESSAGE", value_name = "TEXT", hide_env = true)]
    pub(crate) message: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) app: App,
    /// Go on with new lines
    #[arg(short, long, env = "VELA_FOLLOW", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) follow: bool,
    /// How many of the last lines [default: 100; all of a build's]
    #[arg(short = 'n', long, env = "VELA_LINES", hide_env = true)]
    pub(crate) lines: Option<usize>,
    /// What the build of a release on the server wrote [default: the last build, also if it failed]
    #[arg(long, env = "VELA_BUILD", value_name = "RELEASE", num_args = 0..=1, require_equals = true,
          default_missing_value = LAST_BUILD, conflicts_with = "follow", hide_env = true)]
    pub(crate) build: Option<String>,
}

/// What stands for the last build's release.
pub(crate) const LAST_BUILD: &str = "last";

#[derive(Debug, Args)]
pub(crate) struct History {
    #[command(flatten)]
    pub(crate) app: App,
    /// Attach to the operation that runs, and show it to its end
    #[arg(short, long, env = "VELA_FOLLOW", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    pub(crate) app: App,
    /// The release [default: the last good one before the current]
    #[arg(long, env = "VELA_TO", value_name = "RELEASE", hide_env = true)]
    pub(crate) to: Option<String>,
    /// Run its `pre_start` hook too
    #[arg(long, env = "VELA_HOOKS", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) hooks: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Maintenance {
    /// Answer an app's requests 503, until it is ended; the app itself goes on. Again, it changes what is given
    On {
        #[command(flatten)]
        app: App,
        /// What its users are told
        #[arg(long, env = "VELA_MESSAGE", value_name = "TEXT", hide_env = true)]
        message: Option<String>,
        /// Who is served nonetheless: an address or a range, as in 10.0.0.0/8; may be given again
        #[arg(
            long,
            env = "VELA_ALLOW",
            value_name = "CIDR",
            value_delimiter = ',',
            hide_env = true
        )]
        allow: Vec<Cidr>,
    },
    /// Let its users in again
    Off(App),
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    pub(crate) app: App,
    /// Remove its data, secrets and history too
    #[arg(long, env = "VELA_PURGE", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) purge: bool,
    /// Don't ask
    #[arg(short, long, env = "VELA_YES", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) yes: bool,
}

/// The app of a `secret` command: a flag, since the words are the secrets' names.
#[derive(Debug, Args)]
pub(crate) struct AppFlag {
    /// The app [default: the manifest's]
    #[arg(short, long, env = "VELA_APP", hide_env = true)]
    pub(crate) app: Option<AppName>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Set secrets; the next restart or deploy takes them
    Set {
        #[command(flatten)]
        app: AppFlag,
        /// KEY=VALUE, or KEY alone: its value comes from a prompt or from stdin
        #[arg(required = true, value_name = "KEY[=VALUE]")]
        secrets: Vec<String>,
    },
    /// List the names of an app's secrets
    List {
        #[command(flatten)]
        app: AppFlag,
    },
    /// Remove secrets; the next restart or deploy goes without them
    Remove {
        #[command(flatten)]
        app: AppFlag,
        /// Their names
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Set secrets from lines of KEY=VALUE
    Import {
        #[command(flatten)]
        app: AppFlag,
        /// A file [default: stdin]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Services {
    /// List the servers, and which apps have something in them
    List,
    /// Show the variables that an app's services give it
    Show {
        #[command(flatten)]
        app: App,
        /// Show passwords too
        #[arg(long, env = "VELA_REVEAL", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
        reveal: bool,
    },
    /// Show what a server wrote
    Logs(ServiceLogs),
    /// Open a console of an app's service, with the app's own credentials
    Console(Console),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Certs {
    /// List every certificate, and until when it is valid
    List,
    /// Show an app's certificates
    Show(App),
    /// Get a new certificate for an app now, and wait for it
    Renew(App),
}

#[derive(Debug, Args)]
pub(crate) struct ServiceLogs {
    /// The server, as `vela services list` names it, or its kind
    #[arg(value_name = "SERVER")]
    pub(crate) service: String,
    /// Go on with new lines
    #[arg(short, long, env = "VELA_FOLLOW", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) follow: bool,
    /// How many of the last lines
    #[arg(
        short = 'n',
        long,
        env = "VELA_LINES",
        default_value_t = 100,
        hide_env = true
    )]
    pub(crate) lines: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Console {
    /// The kind of service
    #[arg(value_enum)]
    pub(crate) kind: ConsoleKind,
    #[command(flatten)]
    pub(crate) app: App,
    /// One of the app's databases [default: the first]
    #[arg(
        short,
        long,
        env = "VELA_DATABASE",
        value_name = "NAME",
        hide_env = true
    )]
    pub(crate) database: Option<String>,
    /// What `psql`, or the `nats` command, is given
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

/// The kinds of service that have a console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ConsoleKind {
    /// `psql`
    Postgres,
    /// Publish, subscribe and ask; or, with ARGS, the `nats` command
    Nats,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// Print what would be done
    #[arg(long, env = "VELA_DRY_RUN", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) dry_run: bool,
    /// Install below this directory, as for an image: no user is made and no service started
    #[arg(long, env = "VELA_ROOT", value_name = "DIR", hide_env = true)]
    pub(crate) root: Option<PathBuf>,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The configuration [default: /etc/vela/server.toml as root, else ~/.config/vela/server.toml, if it exists]
    #[arg(long, env = "VELA_CONFIG", value_name = "FILE", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
    /// Stop the apps too when the daemon stops; without it they go on and are found again
    #[arg(long, env = "VELA_STOP_APPS", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, hide_env = true)]
    pub(crate) stop_apps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The daemon's socket [default: where a daemon listens]
    #[arg(long, env = "VELA_SOCKET", value_name = "FILE", hide_env = true)]
    pub(crate) socket: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_variable() {
        fn check(command: &clap::Command) {
            // The demo and its app configure nothing that lasts.
            if command.get_name().starts_with("demo") {
                return;
            }
            for flag in command
                .get_arguments()
                .filter(|arg| arg.get_long().is_some())
            {
                let long = flag.get_long().unwrap_or_default();
                let expected = format!("VELA_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(
                    flag.get_env().and_then(|name| name.to_str()),
                    Some(expected.as_str()),
                    "--{long} of {}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn every_command_of_services_is_understood() {
        for words in [
            "vela services list",
            "vela -s local services show shop --reveal",
            "vela services logs postgres-15 -f -n 5",
            "vela services console nats",
            "vela services console postgres shop -d audit -- -c select",
        ] {
            let cli = Cli::try_parse_from(words.split(' '));
            cli.unwrap_or_else(|error| panic!("{words}: {error}"));
        }
    }

    #[test]
    fn maintenance_takes_ranges_of_addresses_alone() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' '));
        let words =
            "vela maintenance on shop --message soon --allow 10.0.0.0/8,::1 --allow 1.2.3.4";
        let Command::Maintenance(Maintenance::On { app, allow, .. }) =
            parse(words).unwrap().command
        else {
            panic!("{words}")
        };
        assert_eq!(app.app.unwrap().as_str(), "shop");
        let allow: Vec<_> = allow.iter().map(ToString::to_string).collect();
        assert_eq!(allow, ["10.0.0.0/8", "::1/128", "1.2.3.4/32"]);
        assert!(parse("vela maintenance off").is_ok());
        for words in [
            "vela maintenance on --allow 10.0.0.1/8",
            "vela maintenance on --allow office",
            "vela maintenance off --message soon",
            "vela maintenance",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }

    #[test]
    fn common_flags_stand_before_and_after_the_command() {
        for words in [
            ["vela", "--json", "apps", "-s", "local"],
            ["vela", "-s", "local", "apps", "--json"],
        ] {
            let cli = Cli::try_parse_from(words).unwrap();
            assert!(cli.common.json);
            assert!(cli.common.server.is_some());
        }
    }

    #[test]
    fn a_name_that_is_a_path_is_refused() {
        for words in [
            ["vela", "status", "../x"],
            ["vela", "logs", "a/b"],
            ["vela", "init", "Ä"],
        ] {
            assert!(Cli::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
