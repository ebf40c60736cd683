use h2::server::Builder;

use crate::Limits;

/// How HTTP/2 is spoken. What `h2` limits by itself stays as it is: frames of CONTINUATION, small
/// and empty DATA, streams that are reset before they are looked at, and its own resets.
pub(super) fn of(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol();
    builder
}

/// The most requests at one time on one connection: as many as nginx takes.
const STREAMS: u32 = 128;
/// How much of a request's body may come before it is taken.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same for all bodies of a connection: the sum, so that none waits because others are not taken.
/// It is 16 MiB, which is no more than as many connections of HTTP/1.1 may have in the kernel.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
/// How much of a response may wait to be sent, beside what is in the socket.
const SEND_BUFFER: usize = 64 * 1024;
