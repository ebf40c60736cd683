//! The compression of fields: RFC 7541.

use super::Wanted::{Connection, Status};
use super::{Case, case, check};
use crate::frames::*;

/// `:method: GET`, `:scheme: https` and `:path: /` by their indices, and `:authority` as a literal.
const HEAD: &[u8] = &[
    0x82, 0x87, 0x84, 0x01, 6, b'a', b'.', b't', b'e', b's', b't',
];

fn broken(section: &'static str, what: &'static str, end: &[u8]) -> Case {
    let sent = whole(1, &[HEAD, end].concat());
    case(section, what, sent, Connection(COMPRESSION_ERROR))
}

fn sound(section: &'static str, what: &'static str, end: &[u8]) -> Case {
    let sent = whole(1, &[HEAD, end].concat());
    case(section, what, sent, Status(200))
}

#[tokio::test]
#[rustfmt::skip] // a table
async fn fields_and_their_forms() {
    let mut long = [HEAD, &[0x00, 1, b'x', 0x7f]].concat();
    // 127 + 673 bytes.
    long.extend([0xa1, 0x05]);
    long.extend(vec![b'y'; 800]);
    let twice = |block: &[u8]| [whole(1, block), whole(3, block)].concat();
    // A field for the table, by its index in the next request.
    let kept = [
        whole(1, &[HEAD, &[0x40, 1, b'x', 1, b'y']].concat()),
        whole(3, &[HEAD, &[0xbe]].concat()),
    ];
    check(vec![
        sound("2.3.3", "an index into the static table", &[0x90]),
        case("2.3.2", "an index into the dynamic table", kept.concat(), Status(200)).on(3),
        broken("2.3.3", "an index behind the dynamic table", &[0xbe]),
        broken("2.3.3", "a name's index behind the tables", &[0x7f, 0x00, 1, b'x']),
        sound("4.2", "a size of the table before all else", &[]),
        case("4.2", "a smaller table", whole(1, &[&[0x20][..], HEAD].concat()), Status(200)),
        case("4.2", "a smaller and a larger table", whole(1, &[&[0x20, 0x3f, 0xe1, 0x1f][..], HEAD].concat()), Status(200)),
        broken("4.2", "a size of the table at the end", &[0x20]),
        case("4.3", "a table without room for what is kept", twice(&[&[0x20][..], HEAD, &[0x40, 1, b'x', 1, b'y']].concat()), Status(200)).on(3),
        case("5.1", "a length of several bytes", whole(1, &long), Status(200)),
        broken("5.1", "a number without end", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        broken("5.2", "a string that is cut short", &[0x00, 1, b'x', 9, b'y']),
        sound("5.2", "a value in Huffman's code", &[0x00, 1, b'x', 0x81, 0x1f]),
        broken("5.2", "a byte of padding", &[0x00, 1, b'x', 0x82, 0x1f, 0xff]),
        broken("5.2", "padding of zeros", &[0x00, 1, b'x', 0x81, 0x18]),
        broken("5.2", "the end of a string within it", &[0x00, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
        broken("6.1", "index 0", &[0x80]),
        sound("6.2.1", "a literal that is kept", &[0x40, 1, b'x', 1, b'y']),
        sound("6.2.2", "a literal that is not", &[0x00, 1, b'x', 1, b'y']),
        sound("6.2.3", "a literal that nobody keeps", &[0x10, 1, b'x', 1, b'y']),
        case("6.3", "a table larger than was allowed", whole(1, &[&[0x3f, 0xe2, 0x1f][..], HEAD].concat()), Connection(COMPRESSION_ERROR)),
        broken("6.3", "a size without end", &[0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ])
    .await;
}
