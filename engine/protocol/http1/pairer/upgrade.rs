//! `Upgrade: h2c` (RFC 7540 section 3.2): the response to the request comes in HTTP/2, as the one of
//! stream 1.

use super::Pairer;
use crate::protocol::http1::head::HeaderLines;
use crate::protocol::http1::{Http1Context, ParsedHead};
use crate::protocol::pool::ExchangeId;

impl Pairer {
    /// Whether the answer `parsed`, a 101, switches the connection to HTTP/2. Then the exchange is
    /// not among those of HTTP/1 any more.
    #[cold]
    pub(super) fn upgrades<S>(
        &mut self,
        cx: &mut Http1Context<'_, S>,
        id: ExchangeId,
        parsed: &ParsedHead<'_>,
    ) -> bool {
        let request = &cx.pool().exchange(id).request;
        let begin = request.start_line_bytes as usize;
        let is_upgraded = parsed.head.is_whole
            && self.guess.is_none()
            && self.pending.first() == Some(id)
            // The rest of its body would still come in HTTP/1.
            && request.is_ended
            && names_h2c(&request.text, begin)
            && names_h2c(parsed.bytes, parsed.head.start_line_bytes as usize);
        if is_upgraded {
            self.pending.pop(cx.pool());
            self.upgraded = Some(id);
        }
        is_upgraded
    }
}

/// Whether the header lines of `head` from `begin` on offer or accept `h2c`.
fn names_h2c(head: &[u8], begin: usize) -> bool {
    HeaderLines::new(head, begin).any(|header| {
        let (name, value) = (header.name.of(head), header.value.of(head));
        let mut protocols = value.unwrap_or_default().split(|byte| *byte == b',');
        name.is_some_and(|name| name.eq_ignore_ascii_case(b"upgrade"))
            && protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"h2c"))
    })
}
