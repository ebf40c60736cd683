use crate::frames::{PROTOCOL_ERROR, STREAM_CLOSED};
use crate::raw::Reaction::{self, GoAway, Reset, Status};

/// Where the crate `h2` reacts in a way that the RFC does not have: by section and case, what it
/// does, and why that does no harm. A case that begins to keep to the RFC fails until it is taken
/// from here.
#[rustfmt::skip] // a table
pub(super) const KNOWN: &[(&str, &str, Reaction, &str)] = &[
    // It ends the connection as it must, and calls the error PROTOCOL_ERROR.
    ("4.3", "a block that is none", GoAway(PROTOCOL_ERROR), CODE),
    ("2.3.3", "an index behind the dynamic table", GoAway(PROTOCOL_ERROR), CODE),
    ("2.3.3", "a name's index behind the tables", GoAway(PROTOCOL_ERROR), CODE),
    ("4.2", "a size of the table at the end", GoAway(PROTOCOL_ERROR), CODE),
    ("5.1", "a number without end", GoAway(PROTOCOL_ERROR), CODE),
    ("5.2", "a string that is cut short", GoAway(PROTOCOL_ERROR), CODE),
    ("5.2", "a byte of padding", GoAway(PROTOCOL_ERROR), CODE),
    ("5.2", "padding of zeros", GoAway(PROTOCOL_ERROR), CODE),
    ("5.2", "the end of a string within it", GoAway(PROTOCOL_ERROR), CODE),
    ("6.1", "index 0", GoAway(PROTOCOL_ERROR), CODE),
    ("6.3", "a table larger than was allowed", GoAway(PROTOCOL_ERROR), CODE),
    ("6.3", "a size without end", GoAway(PROTOCOL_ERROR), CODE),
    ("6.1", "padding of a length that is missing", GoAway(PROTOCOL_ERROR), CODE),
    ("6.3", "PRIORITY of four bytes", GoAway(PROTOCOL_ERROR), CODE),
    ("6.4", "RST_STREAM of three bytes", GoAway(PROTOCOL_ERROR), CODE),
    ("6.5", "an acknowledgement that says more", GoAway(PROTOCOL_ERROR), CODE),
    ("6.5", "SETTINGS of three bytes", GoAway(PROTOCOL_ERROR), CODE),
    ("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", GoAway(PROTOCOL_ERROR), CODE),
    ("6.7", "PING of six bytes", GoAway(PROTOCOL_ERROR), CODE),
    ("6.8", "GOAWAY of seven bytes", GoAway(PROTOCOL_ERROR), CODE),
    ("6.9", "WINDOW_UPDATE of three bytes", GoAway(PROTOCOL_ERROR), CODE),
    ("5.1", "half-closed: DATA", GoAway(PROTOCOL_ERROR), CODE),
    ("5.1", "half-closed: HEADERS", GoAway(PROTOCOL_ERROR), CODE),
    ("5.1", "reset: HEADERS", GoAway(PROTOCOL_ERROR), CODE),
    ("5.1", "closed: HEADERS", GoAway(PROTOCOL_ERROR), CODE),
    ("5.1.1", "DATA below the last one, never opened", Reset(STREAM_CLOSED), "it is as good as closed"),
    ("8.1", "trailers with a pseudo-header", Status(200), "which goes no further"),
    ("8.2.1", "a value that begins with a space", Status(200), "as it is in HTTP/1.1, where nobody sees it"),
    ("8.2.1", "a value that ends with a tab", Status(200), "as it is in HTTP/1.1, where nobody sees it"),
];

const CODE: &str = "the client is told by another number";
