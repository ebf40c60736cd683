use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// What a request is known by, in the proxy's log and in the app's. It is small where it is one of
/// the proxy's own or as long as a UUID: each connection has room for one.
#[derive(Clone)]
pub(crate) struct RequestId(Form);

#[derive(Clone)]
enum Form {
    Short { bytes: [u8; SHORT], length: u8 },
    Long(Box<[u8]>),
}

const SHORT: usize = 38;
/// How long an id may be that somebody else has given.
const MOST: usize = 128;
const OWN: usize = 32;

impl RequestId {
    /// A new one: 128 random bits in hexadecimal digits.
    pub(crate) fn random() -> RequestId {
        RequestId::short(&digits(random()))
    }

    /// The one that a request has, unless it would be a nuisance in a log.
    pub(crate) fn given(value: &[u8]) -> Option<RequestId> {
        let is_sane = (1..=MOST).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        is_sane.then(|| match value.len() {
            ..=SHORT => RequestId::short(value),
            _ => RequestId(Form::Long(value.into())),
        })
    }

    /// `value` must be short.
    fn short(value: &[u8]) -> RequestId {
        let mut bytes = [0; SHORT];
        bytes[..value.len()].copy_from_slice(value);
        let length = value.len() as u8;
        RequestId(Form::Short { bytes, length })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Form::Short { bytes, length } => &bytes[..usize::from(*length)],
            Form::Long(bytes) => bytes,
        }
    }

    /// Visible ASCII characters; none while the request has no id.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Default for RequestId {
    fn default() -> RequestId {
        RequestId::short(&[])
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

thread_local! {
    static STATE: Cell<[u64; 2]> = Cell::new(seed());
}

/// The keys of a `RandomState` come from the operating system, anew for each thread and start.
fn seed() -> [u64; 2] {
    let keys = RandomState::new();
    [keys.hash_one(0), keys.hash_one(1)]
}

/// Two steps of xoroshiro128++ (Blackman and Vigna, 2019). It can be foretold, which an id may be:
/// nothing is granted to who knows it.
fn random() -> [u64; 2] {
    STATE.with(|state| {
        let [mut a, mut b] = state.get();
        let steps = [(); 2].map(|()| {
            let result = a.wrapping_add(b).rotate_left(17).wrapping_add(a);
            b ^= a;
            a = a.rotate_left(49) ^ b ^ (b << 21);
            b = b.rotate_left(28);
            result
        });
        state.set([a, b]);
        steps
    })
}

fn digits([high, low]: [u64; 2]) -> [u8; OWN] {
    let mut digits = [0; OWN];
    let parts = [high >> 32, high & 0xffff_ffff, low >> 32, low & 0xffff_ffff];
    for (eight, part) in digits.chunks_exact_mut(8).zip(parts) {
        eight.copy_from_slice(&eight_digits(part));
    }
    digits
}

/// Eight digits at one go: spreads the four-bit parts of 32 bits over the bytes of a word.
fn eight_digits(part: u64) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let part = (part | part << 16) & 0x0000_ffff_0000_ffff;
    let part = (part | part << 8) & 0x00ff_00ff_00ff_00ff;
    let part = (part | part << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // One in each byte that is more than nine, and a letter.
    let letters = (part + 6 * EACH) >> 4 & EACH;
    let letter = u64::from(b'a' - 10 - b'0');
    (part + u64::from(b'0') * EACH + letter * letters).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_in_and_across_threads() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| -> Vec<_> {
                    let ids = (0..1000).map(|_| RequestId::random());
                    ids.map(|id| id.as_str().to_owned()).collect()
                })
            })
            .collect();
        let ids: HashSet<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(ids.len(), 4000);
        for id in ids {
            assert!(id.len() == 32 && id.bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        let number = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        assert_eq!(&digits(number), b"0123456789abcdeffedcba9876543210");
    }

    #[test]
    fn a_given_id_is_short_and_visible() {
        let longest = "x".repeat(128);
        let (short, long) = ("x".repeat(SHORT), "x".repeat(SHORT + 1));
        for sane in ["a", "5f4-{\"~!", &short, &long, &longest] {
            assert_eq!(RequestId::given(sane.as_bytes()).unwrap().as_str(), sane);
        }
        let long = "x".repeat(129);
        for other in ["", "a b", "a\tb", "ä", "a\x7f", &long] {
            assert!(RequestId::given(other.as_bytes()).is_none(), "{other:?}");
        }
    }
}
