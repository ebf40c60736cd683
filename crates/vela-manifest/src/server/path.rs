use std::path::PathBuf;

use crate::value::Value;

/// An absolute path.
pub(crate) fn absolute(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.string()?;
    if !path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..") {
        value.report(
            "expected an absolute path without `..`",
            Some(r#"as in "/var/vela""#),
        );
        return None;
    }
    Some(PathBuf::from(path))
}

/// An absolute path that a Unix socket can be bound to.
pub(crate) fn socket(value: &Value<'_>) -> Option<PathBuf> {
    const LONGEST: usize = 107;
    let path = absolute(value)?;
    let length = path.as_os_str().len();
    if length > LONGEST {
        let message =
            format!("the path of a socket has at most {LONGEST} bytes, and this has {length}");
        value.report(message, None);
        return None;
    }
    Some(path)
}
