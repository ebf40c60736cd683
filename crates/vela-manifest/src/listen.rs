use std::fmt;

/// `app.listen`: where the app listens, and so where it is asked for its health and for everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Listen {
    /// `127.0.0.1`, at the port in `PORT`.
    #[default]
    Ipv4,
    /// `::1`, at the port in `PORT`.
    Ipv6,
    /// `unix`: the Unix socket in `VELA_SOCKET`.
    Unix,
}

impl Listen {
    pub(crate) const ALL: [(&str, Self); 3] = [
        ("127.0.0.1", Self::Ipv4),
        ("::1", Self::Ipv6),
        ("unix", Self::Unix),
    ];

    /// As the manifest spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "127.0.0.1",
            Self::Ipv6 => "::1",
            Self::Unix => "unix",
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
