//! Faults of header blocks.

/// Why a header block cannot be decoded further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends within a field.
    Truncated,
    /// An integer has more than 32 bits (RFC 7541 section 5.1).
    Integer,
    /// A string is not encoded as its Huffman code demands (RFC 7541 section 5.2).
    Huffman,
    /// The index 0, or one that no entry has (RFC 7541 sections 2.3.3 and 6.1).
    Index,
    /// A size update behind a field, or beyond what the reader allows (RFC 7541 sections 4.2, 6.3).
    SizeUpdate,
}
