use std::fs;
use std::io;

/// The name of a user, from `/etc/passwd`; a user of another directory goes by number.
pub(super) fn user_name(uid: u32) -> String {
    let found = fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|text| first_field(&text, uid));
    found.unwrap_or_else(|| format!("uid {uid}"))
}

/// The number of a group, from `/etc/group`.
pub(super) fn group_id(name: &str) -> io::Result<Option<u32>> {
    let text = fs::read_to_string("/etc/group")?;
    let mut lines = text.lines().map(|line| line.split(':'));
    let found = lines.find_map(|mut fields| {
        let is_it = fields.next() == Some(name);
        is_it.then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    Ok(found)
}

/// The name in the line whose third field is `id`.
fn first_field(text: &str, id: u32) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let is_it = fields.nth(1)?.parse() == Ok(id);
        is_it.then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_number() {
        assert_eq!(user_name(0), "root");
        assert_eq!(group_id("root").unwrap(), Some(0));
        assert_eq!(user_name(4_000_000_000), "uid 4000000000");
    }
}
