//! What clients send: each case is all that comes over one connection, and behind it comes [`LAST`].

/// A sound request behind each case: whoever thinks that a case ends elsewhere sees another request.
pub(crate) const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

/// The table, and what is too long to be written down.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let written = [
        SOUND, TARGETS, FIELDS, BODIES, CHUNKS, TRAILERS, SMUGGLED, LINES, ODD,
    ];
    let written = written.into_iter().flatten().map(|case| case.to_vec());
    written.chain(long()).collect()
}

/// Methods, versions, connections.
const SOUND: &[&[u8]] = &[
    b"",
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"OPTIONS / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"DELETE /1 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"PROPFIND /1 HTTP/1.1\r\nHost: a.test\r\nDepth: 1\r\n\r\n",
    b"FROBNICATE /1 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"M-SEARCH /1 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"get / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Keep-Alive, X-A\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: \r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: ,,\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /\r\n",
    b"GET / HTTP/1.2\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/2.0\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/0.9\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.10\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/11.1\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.\r\nHost: a.test\r\n\r\n",
    b"GET / http/1.1\r\nHost: a.test\r\n\r\n",
    b"GET / ICY/1.1\r\nHost: a.test\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"\rGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: a.test\r\n\r\nHEAD /3 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n\0GET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n",
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"GET\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\n",
];

/// Request lines.
const TARGETS: &[&[u8]] = &[
    b"GET /a/b;c=d?e=f&g HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /? HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a?b?c/../d HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET // HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET //b.test//c HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a/./b/../c HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /.. HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /%2e%2e/%2F%00%0d%0a HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a%2Fb%20c%zz%4 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a?b=%zz% HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a%ff?%00 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a\\b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /{a}|[b]^`\"<c> HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /\x7f HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a?b#c HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a\tb HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a\0b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a\rb HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a\x0bb HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET a HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET ?a HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET  HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"OPTIONS http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http://a.test?b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http://a.test:80/b//c HTTP/1.1\r\nHost: a.test:80\r\n\r\n",
    b"GET HTTP://A.test/b HTTP/1.1\r\nHost: A.test\r\n\r\n",
    b"GET https://a.test/b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http://u:p@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http://a.test/ HTTP/1.1\r\n\r\n",
    b"GET http:// HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http:///b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET https://a.test/\x80b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http://a.test? HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http://a.test/\x80b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET ftp://a.test/b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http:/a.test/b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /  HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n",
    b"GET\t/\tHTTP/1.1\r\nHost: a.test\r\n\r\n",
    b" GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"G@T / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET: / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"G\0T / HTTP/1.1\r\nHost: a.test\r\n\r\n",
];

/// Header lines.
const FIELDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nhost:a.test\r\nX-A:1\r\nx-b:  2  \r\nX-C:\t3\t\r\nX-D:\r\nX-E: \r\n\r\n",
    b"GET / HTTP/1.1\r\nHOST: a.test\r\nUSER-AGENT: x\r\naCCEPT: */*\r\nCookie: a=b; c=d\r\ncookie: e=f\r\n\r\n",
    b"GET / HTTP/1.1\r\nX-Before: 1\r\nHost: a.test\r\nX-Twice: 1\r\nX-Other: 1\r\nX-Twice: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Quoted: \"a, b; c\\\"d\"\r\nX-Comma: a,,b , c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Obs: \xe4\xf6\xff\r\nX-Utf8: \xc3\xa4\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\n!#$%&'*+-.^_`|~09: token\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX_Under_Score: 1\r\n1: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a:b: c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX : 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX\t: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\n X: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\n X: 1\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n\t2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX:\r\n 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost:\r\n a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX y: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\n: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\xe4: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\n(X): 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX\0: 1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a\x01b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a\x0bb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a\x7fb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nhost: b.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test b.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: A.TEST.:8080\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test:x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test:80:80\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test/\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: @a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers, deflate\r\nConnection: TE\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nProxy-Connection: keep-alive\r\nProxy: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic eDp5\r\nRange: bytes=0-1\r\nIf-None-Match: \"a\"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: unknown.test\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: unknown.test\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: unknown.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\nVia: 1.0 x\r\nTrailer: X-Sum\r\n\r\n",
];

/// Bodies with a length.
const BODIES: &[&[u8]] = &[
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"PUT /1 HTTP/1.1\r\nHost: a.test\r\ncontent-length:3\r\nContent-Type: text/plain\r\n\r\n\r\n\0",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
    b"HEAD / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
    b"DELETE / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
    b"OPTIONS / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
    b"TRACE / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
    b"FROB / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 003\r\n\r\nabc",
    b"POST /1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabcPOST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nd",
    b"POST /1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc\r\nPOST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nd",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9999\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nexpect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nExpect: x\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.0\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
];

/// Bodies in chunks.
const CHUNKS: &[&[u8]] = &[
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0A\r\n0123456789\r\n0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0000000003\r\nabc\r\n0000\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000000003\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0;b=c\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3 ;a\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\t\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;a\0\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\n\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3_\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n;a\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n100000003\r\nabc\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\nHost: b.test\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : 1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: \0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: a\x7fb\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST /1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nd\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
];

/// Header lines behind chunks.
const TRAILERS: &[&[u8]] = &[
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A:\r\nx-b:  1 2  \r\nX-A: 3\r\nX-C: \xe4\r\n\r\n",
    b"POST /1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A: 1\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b.test\r\nConnection: X-A\r\nX-A: 1\r\nTE: trailers\r\nTrailer: X-A\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\nX_Forwarded_For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\nX-A: 1\r\nForwarded: for=10.0.0.1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent_Length: 9\r\nTransfer_Encoding: chunked\r\nProxy: x\r\nCookie: a=b\r\nAuthorization: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: 1\r\nContent-Length: 9\r\n\r\n",
];

/// Messages whose end two servers may see in different places.
const SMUGGLED: &[&[u8]] = &[
    // CL.TE and TE.CL.
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n27\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    // TE.TE.
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked \r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: 'chunked'\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encodin\xc7: chunked\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nX: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nX: 1\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    // Lengths.
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3, 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3,\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3;a\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: -3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0x3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3.0\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: \"3\"\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length:\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\x0b\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length : 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length:\r\n 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent_Length: 9\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 18446744073709551619\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9223372036854775808\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\nContent-Length: 0\r\n\r\nabc",
    // CL.0.
    b"GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 41\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 42\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n\r\n",
    b"POST /style.css HTTP/1.1\r\nHost: a.test\r\nContent-Length: 24\r\n\r\nGET /smuggled HTTP/1.1\r\n",
    b"POST /style.css HTTP/1.1\r\nHost: a.test\r\nContent-Length: 23\r\n\r\nGET /smuggled HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 40\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
];

/// Ends of lines.
const LINES: &[&[u8]] = &[
    b"GET / HTTP/1.1\nHost: a.test\n\n",
    b"GET / HTTP/1.1\r\nHost: a.test\n\r\n",
    b"GET / HTTP/1.1\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\n",
    b"GET / HTTP/1.1\rHost: a.test\r\r",
    b"GET / HTTP/1.1\r\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\n\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a.test\r\nX: 1\r\rGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\nabc",
    b"POST / HTTP/1.1\nHost: a.test\nContent-Length: 3\n\nabc",
    b"POST / HTTP/1.1\nHost: a.test\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n",
];

/// Sound, and each refused by nginx and HAProxy for two reasons of which neither has to do with the other.
const ODD: &[&[u8]] = &[
    b"TRACE /\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"get /\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /%zz/\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET /a/../%2e./\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"GET http://a.test/ HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"POST /\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a.test\t\r\n\r\n",
    b"GET http://_a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"POST /\xc3\xa4 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: x\r\n\r\n",
    b"post / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: x\r\n\r\n",
    b"GET /%zz HTTP/1.0\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc",
    b"get http://a.test?b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    b"get / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"get http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n",
];

/// Long targets, headers, bodies.
fn long() -> Vec<Vec<u8>> {
    let target = |length| {
        format!(
            "GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "a".repeat(length)
        )
    };
    let value = |length| {
        format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n",
            "a".repeat(length)
        )
    };
    let name = |length| {
        format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\n{}: x\r\n\r\n",
            "a".repeat(length)
        )
    };
    let fields = |count| {
        let fields: String = (0..count)
            .map(|one| format!("X-{one}: {one}\r\n"))
            .collect();
        format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
    };
    let body = |length: usize| {
        let begin = "POST / HTTP/1.1\r\nHost: a.test\r\n";
        let body = "0123456789abcdef".repeat(length / 16);
        [
            format!("{begin}Content-Length: {length}\r\n\r\n{body}"),
            format!("{begin}Transfer-Encoding: chunked\r\n\r\n{length:X}\r\n{body}\r\n0\r\n\r\n"),
        ]
    };
    let extension = |length| {
        format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;{}\r\nabc\r\n0\r\n\r\n",
            "a".repeat(length)
        )
    };
    let many_chunks = format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        "1\r\na\r\n".repeat(3000)
    );
    let mut cases = vec![
        target(8000),
        target(16_000),
        target(70_000),
        value(8000),
        value(30_000),
        value(70_000),
        name(1000),
        name(30_000),
        // For nginx as well.
        name(30_000).replace("GET", "get"),
        fields(50),
        fields(99),
        fields(150),
        extension(500),
        extension(5000),
        many_chunks,
        "\r\n".repeat(1000) + "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ];
    cases.extend(body(64));
    cases.extend(body(200_000));
    cases.into_iter().map(String::into_bytes).collect()
}
