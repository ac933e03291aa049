//! gzip and zstd → the bytes of a capture, or of a file of lines.
//!
//! The compression is recognised by the first bytes, not by a name. Its memory is bounded, however
//! much comes out: the window of gzip has 32 KiB, and that of zstd at most
//! `ZSTD_WINDOW_LOG_MAX`.

use flate2::bufread::MultiGzDecoder;
use std::fmt;
use std::io::{self, BufReader, ErrorKind, Read};

/// Compressed bytes per read.
const READ_BYTES: usize = 128 << 10;

/// The largest zstd window, as a power of two: 128 MiB. The program zstd refuses the same ones
/// unless it is told otherwise.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// What libzstd says of a larger window.
const ZSTD_TOO_LARGE: &str = "requires too much memory";

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The end of the magic of a frame that a reader skips; its first byte is 0x50 to 0x5f. pzstd
/// begins with such a frame.
const ZSTD_SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];

/// A compression that is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// The compression of the input that begins with `prefix`.
    pub fn detect(prefix: &[u8]) -> Option<Compression> {
        if prefix.starts_with(&GZIP_MAGIC) {
            return Some(Compression::Gzip);
        }
        let is_skippable = prefix.first().is_some_and(|first| first & 0xf0 == 0x50)
            && prefix[1..].starts_with(&ZSTD_SKIPPABLE_MAGIC);
        (is_skippable || prefix.starts_with(&ZSTD_MAGIC)).then_some(Compression::Zstd)
    }
}

/// Decompresses what `R` reads: all members of a gzip file, all frames of a zstd file.
///
/// If the input ends too early, [`Read::read`] returns [`ErrorKind::UnexpectedEof`]; if it is
/// damaged, [`ErrorKind::InvalidData`]. Errors of `R` are passed on.
pub struct Decompressor<R: Read>(Decoder<R>);

enum Decoder<R: Read> {
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<R>>),
}

impl<R: Read> fmt::Debug for Decompressor<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<R: Read> Decompressor<R> {
    /// Decompresses `packed`, from its first byte on.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(compression: Compression, packed: R) -> io::Result<Decompressor<R>> {
        let packed = BufReader::with_capacity(READ_BYTES, packed);
        Ok(Decompressor(match compression {
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(packed))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Decoder::Zstd(decoder)
            }
        }))
    }

    fn name(&self) -> &'static str {
        match self.0 {
            Decoder::Gzip(_) => "gzip",
            Decoder::Zstd(_) => "zstd",
        }
    }

    /// Tells an error of the compression from one of the input.
    #[cold]
    fn error(&self, error: io::Error) -> io::Error {
        let name = self.name();
        let is_of_input = error.raw_os_error().is_some()
            || matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
        if is_of_input {
            return error;
        }
        let text = error.to_string();
        if error.kind() == ErrorKind::UnexpectedEof {
            io::Error::new(ErrorKind::UnexpectedEof, format!("the {name} data ends too early"))
        } else if text.contains(ZSTD_TOO_LARGE) {
            let mebibytes = (1 << ZSTD_WINDOW_LOG_MAX) >> 20;
            let sentence = format!(
                "its zstd window is larger than {mebibytes} MiB; pass on what \
                 `zstdcat --long=31 FILE` writes, and name - as the file"
            );
            io::Error::new(ErrorKind::InvalidData, sentence)
        } else {
            io::Error::new(ErrorKind::InvalidData, format!("the {name} data is damaged ({text})"))
        }
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match &mut self.0 {
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        };
        result.map_err(|error| self.error(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Returns a byte per read, with errors of the input between.
    struct Drip(io::Cursor<Vec<u8>>, u32);

    impl Read for Drip {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            match self.1 % 3 {
                0 => Err(ErrorKind::Interrupted.into()),
                1 => Err(ErrorKind::WouldBlock.into()),
                _ => {
                    let count = buffer.len().min(1);
                    self.0.read(&mut buffer[..count])
                }
            }
        }
    }

    fn packed() -> [(Compression, Vec<u8>); 2] {
        let plain: Vec<u8> = (0..5000u32).map(|n| ((n * n) >> 7) as u8).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        [(Compression::Gzip, gzip.finish().unwrap()), (Compression::Zstd, zstd)]
    }

    #[test]
    fn an_input_that_has_nothing_yet_loses_nothing() {
        for (compression, packed) in packed() {
            assert_eq!(Compression::detect(&packed), Some(compression));
            let mut whole = Vec::new();
            Decompressor::new(compression, &packed[..]).unwrap().read_to_end(&mut whole).unwrap();
            let drip = Drip(io::Cursor::new(packed), 0);
            let mut decompressor = Decompressor::new(compression, drip).unwrap();
            let (mut read, mut buffer) = (Vec::<u8>::new(), [0; 100]);
            loop {
                match decompressor.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => read.extend(&buffer[..count]),
                    Err(error) => assert!(
                        matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock),
                        "{error}"
                    ),
                }
            }
            assert!(read == whole && whole.len() == 5000);
        }
    }

    #[test]
    fn a_cut_anywhere_is_told() {
        for (compression, packed) in packed() {
            for cut in 1..packed.len() {
                let mut decompressor = Decompressor::new(compression, &packed[..cut]).unwrap();
                let error = decompressor.read_to_end(&mut Vec::new()).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{compression:?} {cut} {error}");
            }
        }
    }
}
