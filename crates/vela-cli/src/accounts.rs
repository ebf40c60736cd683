use std::fs;

/// Whether this machine has the group.
pub(crate) fn group_exists(name: &str) -> bool {
    is_in("/etc/group", name)
}

/// Whether this machine has the user.
pub(crate) fn user_exists(name: &str) -> bool {
    is_in("/etc/passwd", name)
}

/// Whether a file of lines such as `name:x:0:` has that name.
fn is_in(file: &str, name: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| {
        text.lines()
            .any(|line| line.split(':').next() == Some(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_exists_and_part_of_a_name_does_not() {
        assert!(user_exists("root") && group_exists("root"));
        assert!(!user_exists("roo") && !group_exists(""));
    }
}
