//! Certificates for tests.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use super::Certificate;

pub(crate) struct Pair {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// A self-signed pair, valid since yesterday, or a day before its end, and for `days` from now on.
pub(crate) fn pair(names: &[&str], days: i64) -> Pair {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let day = Duration::from_secs(86_400);
    let length = day * u32::try_from(days.unsigned_abs()).unwrap();
    let end = match days < 0 {
        true => SystemTime::now() - length,
        false => SystemTime::now() + length,
    };
    params.not_after = end.into();
    params.not_before = (end.min(SystemTime::now()) - day).into();
    let key = KeyPair::generate().unwrap();
    Pair {
        chain: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem(),
    }
}

pub(crate) fn certificate(names: &[&str], days: i64) -> Certificate {
    let Pair { chain, key } = pair(names, days);
    let now = match days < 0 {
        true => SystemTime::now() - Duration::from_secs(86_400 * days.unsigned_abs() + 3600),
        false => SystemTime::now(),
    };
    Certificate::from_pem(chain.as_bytes(), key.as_bytes(), now).unwrap()
}
