/// Whether `name` is `[A-Za-z_][A-Za-z0-9_]*`, which every shell can read back.
pub(crate) fn is_env_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether Vela sets this variable itself.
pub(crate) fn is_reserved(name: &str) -> bool {
    name == "PORT" || name.starts_with("VELA_")
}
