use std::collections::BTreeMap;

/// Pages to answer with instead of the proxy's own short texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// By what a file is called: `502`, `5xx`.
    pages: BTreeMap<String, Vec<u8>>,
}
