use std::mem::MaybeUninit;

use tokio::net::TcpStream;

/// What a connection to an upstream is made of.
pub(crate) type UpstreamStream = TcpStream;

/// Whether the peer has closed it, or sent what nobody asked for: by the kernel, which knows
/// before the runtime does.
pub(crate) fn is_spent(stream: &UpstreamStream) -> bool {
    let peeked = socket2::SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
    !matches!(peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
