use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

/// What is answered below `/.well-known/acme-challenge/`. Read without a lock by each request for
/// such a path. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct HttpChallenges {
    by_token: Arc<ArcSwap<HashMap<String, Bytes>>>,
}

impl HttpChallenges {
    /// Answers a token by a text from now on.
    pub fn put(&self, token: &str, answer: &str) {
        self.change(|by_token| {
            by_token.insert(token.to_owned(), Bytes::copy_from_slice(answer.as_bytes()));
        });
    }

    /// Answers a token no longer.
    pub fn remove(&self, token: &str) {
        self.change(|by_token| {
            by_token.remove(token);
        });
    }

    /// The answer to a token.
    pub fn find(&self, token: &str) -> Option<Bytes> {
        self.by_token.load().get(token).cloned()
    }

    fn change(&self, change: impl Fn(&mut HashMap<String, Bytes>)) {
        self.by_token.rcu(|by_token| {
            let mut by_token = HashMap::clone(by_token);
            change(&mut by_token);
            by_token
        });
    }
}
