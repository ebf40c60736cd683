use std::collections::BTreeMap;
use std::time::Duration;

use crate::build_plan::{BuildPlan, NoBuildCommand};
use crate::build_tool::BuildTool;
use crate::env;
use crate::manifest::Manifest;
use crate::output::{Output, default_output};
use crate::section::Section;
use crate::template::{Template, Variable};
use crate::value::Value;

/// `[build]`: how to make the release from the source.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Build {
    /// `remote`: whether to build on the server.
    pub remote: bool,
    /// `command`: the shell command that builds; if unset, that of the tool whose file the source has.
    pub command: Option<String>,
    /// `output`: what of the built tree is the release; if unset, what the tool makes.
    pub output: Option<Output>,
    /// `[build.env]`: the environment of the build.
    pub env: BTreeMap<String, Template>,
    /// `timeout`: after which the build is killed, 30 minutes.
    pub timeout: Duration,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            remote: false,
            command: None,
            output: None,
            env: BTreeMap::new(),
            timeout: Duration::from_secs(30 * 60),
        }
    }
}

impl Build {
    pub(crate) fn read(mut section: Section<'_>) -> Self {
        let unset = Self::default();
        Self {
            remote: section
                .read("remote", Value::boolean)
                .unwrap_or(unset.remote),
            command: section.read("command", Value::command),
            output: section.read("output", Output::read),
            timeout: section
                .read("timeout", Value::positive_duration)
                .unwrap_or(unset.timeout),
            env: env::read_of_build(section.section("env")),
        }
    }

    /// The value of a variable of `[build.env]` that refers to nothing.
    fn literal(&self, name: &str) -> Option<String> {
        let fixed = |_: &Variable| Err(());
        self.env.get(name)?.render(fixed).ok()
    }
}

impl Manifest {
    /// What a build of a source tree does. `has` says whether the tree has a file of that name at its root.
    ///
    /// The client asks it of what it is about to upload, and the server of what it was sent.
    ///
    /// # Errors
    ///
    /// If there is no `command`, and no file from which one can be told.
    ///
    /// ```
    /// use vela_manifest::{BuildTool, Manifest};
    ///
    /// let manifest = Manifest::parse("Vela.toml", "[app]\nname = \"my-app\"\n[build]\nremote = true")?;
    /// let plan = manifest.build_plan(|file| file == "Cargo.toml")?;
    /// assert_eq!(plan.tool, Some(BuildTool::Cargo));
    /// assert_eq!(plan.command, "cargo build --release --locked");
    /// assert_eq!(plan.output.to_string(), "target/release/my-app");
    /// assert!(manifest.build_plan(|_| false).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn build_plan(&self, has: impl Fn(&str) -> bool) -> Result<BuildPlan, NoBuildCommand> {
        let unset = Build::default();
        let build = self.build.as_ref().unwrap_or(&unset);
        let tool = BuildTool::detect(has);
        let command = build.command.clone();
        let command = command.or_else(|| tool.map(|tool| tool.command().to_owned()));
        let environment = build.literal("MIX_ENV");
        let output = build.output.clone();
        Ok(BuildPlan {
            tool,
            command: command.ok_or(NoBuildCommand)?,
            output: output.unwrap_or_else(|| {
                let environment = environment.as_deref().unwrap_or("prod");
                default_output(tool, &self.app.name, &self.deploy.binary, environment)
            }),
            timeout: build.timeout,
        })
    }

    /// The environment of a build as the manifest has it: what `plan`'s tool wants, and over it `[build.env]`. `lookup`
    /// gives the values of variables; what comes out is as secret as what it gives.
    ///
    /// # Errors
    ///
    /// The first error of `lookup`.
    pub fn build_env<E>(
        &self,
        plan: &BuildPlan,
        mut lookup: impl FnMut(&str, &Variable) -> Result<String, E>,
    ) -> Result<BTreeMap<String, String>, E> {
        let own = plan.tool.map(BuildTool::env).unwrap_or_default();
        let own = own
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut env: BTreeMap<_, _> = own.collect();
        for (name, template) in self.build.iter().flat_map(|build| &build.env) {
            let value = template.render(|variable| lookup(name, variable))?;
            env.insert(name.clone(), value);
        }
        Ok(env)
    }

    /// Whether `vela deploy` builds on the server when it is given no artifact.
    pub fn builds_remotely(&self) -> bool {
        self.build.as_ref().is_some_and(|build| build.remote)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn manifest(build: &str) -> Manifest {
        let text = format!("[app]\nname = 'my-app'\n[build]\nremote = true\n{build}");
        Manifest::parse("Vela.toml", &text).expect("valid")
    }

    fn plan(build: &str, files: &[&str]) -> (String, String) {
        let plan = manifest(build).build_plan(|file| files.contains(&file));
        let plan = plan.expect("a command");
        (plan.command, plan.output.to_string())
    }

    #[test]
    fn what_is_unset_is_told_from_the_files() {
        let (cargo, mix) = (BuildTool::Cargo.command(), BuildTool::Mix.command());
        let planned = |command: &str, output: &str| (command.to_owned(), output.to_owned());
        assert_eq!(
            plan("", &["Cargo.toml", "mix.exs"]),
            planned(cargo, "target/release/my-app")
        );
        assert_eq!(
            plan("", &["mix.exs"]),
            planned(mix, "_build/prod/rel/my_app")
        );
        assert_eq!(
            plan("command = 'npm ci'", &["package.json"]),
            planned("npm ci", ".")
        );
        assert_eq!(
            plan("command = 'make'", &["Cargo.toml"]),
            planned("make", "target/release/my-app")
        );
        assert_eq!(
            plan("output = 'dist/'", &["Cargo.toml"]),
            planned(cargo, "dist")
        );
        assert_eq!(
            plan("[build.env]\nMIX_ENV = 'staging'", &["mix.exs"]).1,
            "_build/staging/rel/my_app"
        );
        assert_eq!(manifest("").build_plan(|_| false), Err(NoBuildCommand));
    }

    #[test]
    fn the_tools_environment_gives_way_to_the_users() {
        let env = |build: &str, file: &str| {
            let manifest = manifest(build);
            let plan = manifest.build_plan(|name| name == file).expect("a command");
            let lookup =
                |name: &str, variable: &Variable| Ok::<_, Infallible>(format!("{name}:{variable}"));
            let env = manifest.build_env(&plan, lookup).expect("infallible");
            env.into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(env("", "mix.exs"), ["MIX_ENV=prod"]);
        assert_eq!(env("", "Cargo.toml"), [""; 0]);
        assert_eq!(
            env(
                "[build.env]\nMIX_ENV = 'test'\nTOKEN = '${secret:KEY}'",
                "mix.exs"
            ),
            ["MIX_ENV=test", "TOKEN=TOKEN:${secret:KEY}"]
        );
    }
}
