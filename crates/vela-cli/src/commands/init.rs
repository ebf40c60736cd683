use std::io::{ErrorKind, Write};
use std::path::Path;

use vela_manifest::{AppName, BuildTool};

use crate::args::Init;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

pub(crate) fn run(context: &Context, args: Init) -> Result<(), Failure> {
    let path = context.manifest_path();
    let name = match args.name {
        Some(name) => name,
        None => name_of_directory(path)?,
    };
    let domain = args
        .domain
        .map(|domain| domain.parse())
        .transpose()
        .map_err(|error| {
            Failure::because("the domain is not a host name", &error).with_exit(Exit::Usage)
        })?;
    let server = context.server_flag().map(ToString::to_string);
    let beside = path.parent().unwrap_or(Path::new(""));
    let tool = BuildTool::detect(|file| beside.join(file).is_file());
    let text = vela_manifest::template_for_init(&name, domain.as_ref(), server.as_deref(), tool);
    let written = match args.force {
        true => std::fs::write(path, text),
        // Two at once must not overwrite each other either.
        false => {
            std::fs::File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()))
        }
    };
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(format!("{} exists already", path.display()))
            .with_hint("`vela check` validates it; `--force` overwrites it"),
        _ => Failure::because(format!("cannot write {}", path.display()), &error),
    })?;
    context.screen.message(&format!(
        "wrote {} for `{name}`; edit it, then `vela check` and `vela deploy`",
        path.display()
    ));
    Ok(())
}

/// The name of the directory that the manifest will be in, made to an app's name.
fn name_of_directory(manifest: &Path) -> Result<AppName, Failure> {
    let dir = std::path::absolute(manifest).ok();
    let name = dir
        .as_deref()
        .and_then(Path::parent)
        .and_then(Path::file_name)
        .map(|name| to_app_name(&name.to_string_lossy()))
        .unwrap_or_default();
    name.parse().map_err(|_| {
        Failure::new("the directory's name cannot be made to an app's name")
            .with_exit(Exit::Usage)
            .with_hint("name the app: `vela init my-app`")
    })
}

fn to_app_name(text: &str) -> String {
    let mut name = String::new();
    for c in text.to_lowercase().chars() {
        match c {
            'a'..='z' => name.push(c),
            '0'..='9' if !name.is_empty() => name.push(c),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    name.truncate(63);
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_names_its_app() {
        assert_eq!(to_app_name("My App_2"), "my-app-2");
        assert_eq!(to_app_name("2048-game"), "game");
        assert_eq!(to_app_name("..."), "");
        assert_eq!(to_app_name(&"ab-".repeat(40)).len(), 62);
    }
}
