use crate::app_name::AppName;
use crate::build_tool::BuildTool;
use crate::domain::Domain;
use crate::entry_path::EntryPath;
use crate::output::default_output;

/// The text of a new `Vela.toml`: what must be set, and the rest as comments. It parses as it is; without
/// a domain or server, these are comments too. `tool` is what the app is built with, as far as its files tell.
///
/// ```
/// use vela_manifest::{Manifest, template_for_init};
///
/// let text = template_for_init(&"my-app".parse()?, None, Some("root@1.2.3.4"), None);
/// let manifest = Manifest::parse("Vela.toml", &text)?;
/// assert_eq!(manifest.deploy.server.as_deref(), Some("root@1.2.3.4"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn template_for_init(
    name: &AppName,
    domain: Option<&Domain>,
    server: Option<&str>,
    tool: Option<BuildTool>,
) -> String {
    let domain = match domain {
        Some(domain) => format!("domain = {}", quote(domain.as_str())),
        None => format!("# domain = \"{name}.example.com\""),
    };
    let server = match server {
        Some(server) => format!("server = {}", quote(server)),
        None => "# server = \"root@203.0.113.7\"".to_owned(),
    };
    // Without a `command` the server takes the same, from the same files.
    let command = quote(tool.map_or("npm ci", BuildTool::command));
    let output = default_output(tool, name, &EntryPath::from(name), "prod").to_string();
    let output = quote(&output);
    format!(
        r#"[app]
name = "{name}"
{domain}
# aliases = ["www.{name}.example.com"]
# listen = "127.0.0.1"          # or "::1": where the app listens on its PORT; "unix": on the socket in VELA_SOCKET

[deploy]
{server}      # user@host, or an alias of ~/.ssh/config
# binary = "{name}"             # the program inside the release; the app's name if unset
# args = []
# health = "/health"            # answers 200 once the app is ready; if unset, its PORT accepting is enough
# drain = "5s"                  # how long requests may take to end when a new release takes over
# strategy = "blue-green"       # or "sequential": the old one stops first, for apps with an SQLite file
# pre_start = "bin/migrate"     # before the new release starts; its failure ends the deploy
# post_deploy = "bin/notify"    # after all is done

# [proxy]
# path = "/api"                 # of its hosts the app gets only what is below; another app may have the rest
# strip_path = true             # the app does not see that prefix
# redirect_aliases = true       # the aliases redirect to the domain
# max_body = "10M"              # longer requests are refused
# response_timeout = "60s"      # how long the app may take to begin a response
# response_body_timeout = "5m"  # how long it may then be silent before the response is whole
# stream_drain = "30s"          # WebSockets and event streams are ended within this time when a new release takes over
# error_pages = "errors"        # a directory in the release: 502.html, 5xx.html, ..

[env]
# The app gets PORT, which it must listen on, and VELA_DATA_DIR, which no deploy touches.
# DATABASE_PATH = "${{data_dir}}/{name}.db"
# API_KEY = "${{secret:API_KEY}}"  # vela secret set API_KEY

# [build]
# remote = true                 # the server builds what is committed: `vela deploy` then needs no artifact
# command = {command}
# output = {output}
"#
    )
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use crate::manifest::Manifest;

    use super::*;

    #[test]
    fn parses_with_and_without_comments() {
        let name: AppName = "my-app".parse().expect("valid");
        let domain: Domain = "my-app.com".parse().expect("valid");
        for domain in [None, Some(&domain)] {
            for server in [
                None,
                Some("root@1.2.3.4"),
                Some(r#"a"b\c"#),
                Some("a'b"),
                Some("a'''b"),
            ] {
                let text = template_for_init(&name, domain, server, None);
                let manifest = Manifest::parse("Vela.toml", &text).expect(&text);
                assert_eq!(manifest.app.domain.as_ref(), domain);
                assert_eq!(manifest.deploy.server.as_deref(), server);
                assert!(manifest.not_yet_deployable().is_empty());

                // What is commented out must be right too.
                let bare: Vec<_> = text
                    .lines()
                    .filter(|line| !line.starts_with("# The "))
                    .map(|line| line.strip_prefix("# ").unwrap_or(line))
                    .collect();
                Manifest::parse("Vela.toml", &bare.join("\n")).expect(&text);
            }
        }
    }

    #[test]
    fn builds_as_an_unset_command_would() {
        let name: AppName = "my-app".parse().expect("valid");
        for tool in BuildTool::ALL {
            let text = template_for_init(&name, None, None, Some(tool));
            let (head, build) = text.split_once("# [build]").expect("is there");
            let build = build.replace("\n# ", "\n");
            let plan = |text: &str| {
                let manifest = Manifest::parse("Vela.toml", text).expect(text);
                manifest
                    .build_plan(|file| file == tool.file())
                    .expect("a command")
            };
            let written = plan(&format!("{head}[build]{build}"));
            let unset = plan(&format!("{head}[build]\nremote = true\n"));
            assert_eq!(written.command, unset.command);
            assert_eq!(written.output.to_string(), unset.output.to_string());
        }
    }
}
