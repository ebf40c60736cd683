use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::quote::quoted;
use crate::reason::Reason;

/// A range of addresses: an address, and how many of its first bits count. No other bit is set.
///
/// An address alone is the range that has only it. A range of IPv4 is written as one, and not as the
/// addresses of IPv6 that stand for it.
///
/// ```
/// use vela_manifest::Cidr;
///
/// assert_eq!("10.0.0.0/8".parse::<Cidr>()?.prefix(), 8);
/// assert_eq!("2001:db8::7".parse::<Cidr>()?.to_string(), "2001:db8::7/128");
/// assert!("10.1.0.0/8".parse::<Cidr>().is_err());
/// # Ok::<(), vela_manifest::CidrError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The lowest address of the range.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits all its addresses begin with: 0 to 32 of IPv4, 0 to 128 of IPv6.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The range with these first bits; `prefix` is none longer than an address of its family.
    fn around(address: IpAddr, prefix: u8) -> Self {
        let unset = |bits: u32| bits - u32::from(prefix);
        let address = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(unset(32)).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).into()
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(unset(128)).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        };
        Self { address, prefix }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason| CidrError {
            text: text.to_owned(),
            reason,
        };
        let (address, digits) = match text.split_once('/') {
            Some((address, digits)) => (address, Some(digits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error(CidrReason::Address))?;
        let longest = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let prefix = match digits {
            None => longest,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= longest && !digits.starts_with('+'))
                .ok_or_else(|| error(CidrReason::Prefix { longest }))?,
        };
        if let IpAddr::V6(address) = address
            && let (Some(mapped), Some(prefix)) = (address.to_ipv4_mapped(), prefix.checked_sub(96))
        {
            let meant = Self::around(mapped.into(), prefix);
            return Err(error(CidrReason::Mapped { meant }));
        }
        let meant = Self::around(address, prefix);
        if meant.address != address {
            return Err(error(CidrReason::Inside { meant }));
        }
        Ok(meant)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Why a text is not a [`Cidr`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a range of addresses: {reason}", quoted(text))]
#[non_exhaustive]
pub struct CidrError {
    /// The text that was refused.
    pub text: String,
    /// What is wrong with it.
    pub reason: CidrReason,
}

impl CidrError {
    /// What to write instead, if that can be told.
    pub fn hint(&self) -> Option<String> {
        match self.reason {
            CidrReason::Address => Some(r#"as in "10.0.0.0/8" or "2001:db8::/32""#.to_owned()),
            CidrReason::Prefix { .. } => None,
            CidrReason::Inside { meant } | CidrReason::Mapped { meant } => {
                Some(format!("did you mean `{meant}`?"))
            }
        }
    }
}

impl Reason for CidrError {
    fn hint(&self) -> Option<String> {
        self.hint()
    }
}

/// What is wrong with a range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CidrReason {
    /// What comes before the `/` is no address.
    #[error("it does not begin with an IP address")]
    Address,
    /// What comes after the `/` is no number of bits.
    #[error("after the `/` comes a number from 0 to {longest}")]
    Prefix {
        /// How many bits an address of that family has.
        longest: u8,
    },
    /// More bits are set than count: the address or the number is mistyped.
    #[error("its address is not the first of the range")]
    Inside {
        /// The range that the address is in.
        meant: Cidr,
    },
    /// It is a range of IPv4 as IPv6 writes it, in which no client is ever found.
    #[error("it is a range of IPv4 in the form of IPv6")]
    Mapped {
        /// The range as IPv4 writes it.
        meant: Cidr,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_ranges_and_single_addresses() {
        for (text, read) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:DB8::/33", "2001:db8::/33"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(text.parse().map(|c: Cidr| c.to_string()), Ok(read.into()));
        }
    }

    #[test]
    fn refuses_what_is_not_a_range_or_only_looks_like_one() {
        for text in [
            "",
            "/8",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/8/8",
            "10.0.0.0 /8",
            "10.0.0.0-10.0.0.9",
            "localhost",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
        let meant = |text: &str| text.parse::<Cidr>().expect_err(text).hint();
        assert_eq!(
            meant("10.1.2.3/8").as_deref(),
            Some("did you mean `10.0.0.0/8`?")
        );
        assert_eq!(
            meant("2001:db8::1/32").as_deref(),
            Some("did you mean `2001:db8::/32`?")
        );
        assert_eq!(
            meant("::ffff:10.0.0.0/104").as_deref(),
            Some("did you mean `10.0.0.0/8`?")
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(bits: u128, v6: bool, prefix in 0u8..=128) {
            let range = if v6 {
                Cidr::around(Ipv6Addr::from_bits(bits).into(), prefix)
            } else {
                Cidr::around(Ipv4Addr::from_bits(bits as u32).into(), prefix.min(32))
            };
            prop_assume!(!matches!(range.address, IpAddr::V6(a) if a.to_ipv4_mapped().is_some()));
            prop_assert_eq!(range.to_string().parse(), Ok(range));
        }

        #[test]
        fn never_panics(text in "[0-9a-f:./]{0,24}") {
            if let Err(error) = text.parse::<Cidr>() {
                error.hint();
            }
        }
    }
}
