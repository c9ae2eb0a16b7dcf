//! Gzip in blocks: the bytes depend on the content alone, the time on how many cores there are.
//!
//! The stream is one gzip member (RFC 1952). Its content is cut every [`BLOCK_BYTES`]; each block is
//! compressed on its own, at a level its own bytes decide, and ends at a byte's border, so that blocks are
//! compressed side by side and joined (RFC 1951 §3.2.3). Both digests are taken on the way.

use std::io::{self, Write};

use flate2::{Compress, Compression, Crc, FlushCompress};
use mynah_contracts::{Hasher, Sha256Digest};
use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSlice as _;

/// What decides the bytes beside the content. Whatever changes them must change this: layers are kept under
/// it from one run to the next. A test pins the bytes.
pub(crate) const SETTINGS: &str = "gzip-2";

/// How much is compressed on its own. Smaller blocks would spread better and compress worse: a block knows
/// nothing of the one before.
const BLOCK_BYTES: usize = 512 << 10;

/// How much is compressed side by side. Small enough that a model is several: while one is compressed, the one
/// before is written.
const BATCH_BYTES: usize = 8 * BLOCK_BYTES;

/// Magic, deflate, no flags, no time, no hint of the level, Unix (RFC 1952 §2.3): nothing of the machine
/// that built.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// An empty last block: the final bit, fixed codes, end of block.
const END: [u8; 2] = [3, 0];

/// The most bytes in a stored block (RFC 1951 §3.2.4).
const STORED_BYTES: usize = 65_535;

/// What came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Written {
    /// The SHA-256 of the content.
    pub(crate) content: Sha256Digest,
    /// The SHA-256 of the compressed bytes.
    pub(crate) digest: Sha256Digest,
    /// How many compressed bytes.
    pub(crate) size: u64,
}

/// Compresses what is written to it.
pub(crate) struct Gzip<W> {
    out: W,
    batch: Vec<u8>,
    /// Compressed, not written yet.
    ready: Vec<Vec<u8>>,
    content: Hasher,
    crc: Crc,
    compressed: Hasher,
    size: u64,
}

impl<W: Write + Send> Gzip<W> {
    pub(crate) fn new(out: W) -> io::Result<Self> {
        let mut gzip = Self {
            out,
            batch: Vec::new(),
            ready: Vec::new(),
            content: Hasher::new(),
            crc: Crc::new(),
            compressed: Hasher::new(),
            size: 0,
        };
        gzip.put(&HEADER)?;
        Ok(gzip)
    }

    pub(crate) fn finish(mut self) -> io::Result<Written> {
        self.compress()?;
        for block in std::mem::take(&mut self.ready) {
            self.put(&block)?;
        }
        let trailer = [self.crc.sum().to_le_bytes(), self.crc.amount().to_le_bytes()];
        self.put(&END)?;
        self.put(trailer.as_flattened())?;
        self.out.flush()?;
        Ok(Written { content: self.content.finish(), digest: self.compressed.finish(), size: self.size })
    }

    /// Compresses the batch, and meanwhile takes its digest and writes the one before.
    fn compress(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let ready = std::mem::take(&mut self.ready);
        let (mut content, mut crc) = (std::mem::take(&mut self.content), std::mem::take(&mut self.crc));
        let blocks = || {
            batch.par_chunks(BLOCK_BYTES).with_max_len(1).map(deflate).collect::<io::Result<Vec<Vec<u8>>>>()
        };
        let digests = || {
            content.update(&batch);
            crc.update(&batch);
        };
        let before = || ready.iter().try_for_each(|block| self.put(block));
        let ((put, ()), blocks) = rayon::join(|| rayon::join(before, digests), blocks);
        put?;
        self.ready = blocks?;
        (self.content, self.crc) = (content, crc);
        self.batch = batch;
        self.batch.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.compressed.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }
}

impl<W: Write + Send> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BATCH_BYTES.saturating_sub(self.batch.len());
        let taken = bytes.len().min(room);
        self.batch.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.batch.len() >= BATCH_BYTES {
            self.compress()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a block is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effort {
    Store,
    Level(u32),
}

/// A block of deflate that ends at a byte's border.
fn deflate(content: &[u8]) -> io::Result<Vec<u8>> {
    let level = match effort(content) {
        Effort::Store => return Ok(stored(content)),
        Effort::Level(level) => level,
    };
    let mut deflater = Compress::new(Compression::new(level), false);
    // Room for the worst case and the marker; where it should not do, the loop makes more.
    let mut out = Vec::with_capacity(content.len() + content.len() / 1000 + 64);
    loop {
        let consumed = usize::try_from(deflater.total_in()).unwrap_or(usize::MAX);
        let rest = content.get(consumed..).unwrap_or_default();
        deflater.compress_vec(rest, &mut out, FlushCompress::Sync).map_err(io::Error::other)?;
        if deflater.total_in() == content.len() as u64 && out.len() < out.capacity() {
            return Ok(out);
        }
        out.reserve(content.len() / 8 + 64);
    }
}

fn stored(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 5 * (content.len() / STORED_BYTES + 1));
    for part in content.chunks(STORED_BYTES) {
        let length = part.len() as u16;
        out.push(0);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend_from_slice(part);
    }
    out
}

/// Photos and archives do not shrink: stored. A network's weights shrink by a fourteenth at any level: the
/// fastest. All else shrinks well: the sixth level would take 2.5 times as long for 2 % less.
fn effort(block: &[u8]) -> Effort {
    match entropy(block) {
        bits if bits >= 7.9 => Effort::Store,
        bits if bits >= 7.0 => Effort::Level(1),
        _ => Effort::Level(4),
    }
}

/// The Shannon entropy of the bytes' distribution, in bits per byte: 0 to 8.
fn entropy(bytes: &[u8]) -> f64 {
    let total = bytes.len() as f64;
    histogram(bytes)
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let share = f64::from(count) / total;
            -share * share.log2()
        })
        .sum()
}

/// How often each byte occurs. Neighbours are counted in tables of their own: a processor waits where it is to add
/// to what it has just added to.
fn histogram(bytes: &[u8]) -> [u32; 256] {
    let mut tables = [[0u32; 256]; 4];
    let (fours, rest) = bytes.as_chunks::<4>();
    for four in fours {
        for (table, &byte) in tables.iter_mut().zip(four) {
            table[usize::from(byte)] += 1;
        }
    }
    let [mut counts, others @ ..] = tables;
    for &byte in rest {
        counts[usize::from(byte)] += 1;
    }
    for table in others {
        for (count, more) in counts.iter_mut().zip(table) {
            *count += more;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    fn compress(content: &[u8], pieces: usize) -> (Written, Vec<u8>) {
        let mut out = Vec::new();
        let mut gzip = Gzip::new(&mut out).unwrap();
        for piece in content.chunks(pieces.max(1)) {
            gzip.write_all(piece).unwrap();
        }
        (gzip.finish().unwrap(), out)
    }

    fn expand(bytes: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        // Not the decoder for several members: it must be one.
        let mut decoder = flate2::bufread::GzDecoder::new(bytes);
        decoder.read_to_end(&mut content).unwrap();
        assert!(decoder.into_inner().is_empty());
        content
    }

    /// Bytes as evenly spread as random ones, the same every time.
    fn noise(count: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .take(count)
        .collect()
    }

    /// Bytes as a network's weights: the exponents take few values.
    fn weights(count: usize) -> Vec<u8> {
        let mut weights = noise(count);
        for byte in weights.iter_mut().skip(3).step_by(4) {
            *byte = 0x30 | (*byte & 0x0f);
        }
        weights
    }

    #[test]
    fn the_effort_follows_the_content() {
        assert_eq!(effort(&noise(BLOCK_BYTES)), Effort::Store);
        assert_eq!(effort(&weights(BLOCK_BYTES)), Effort::Level(1));
        assert_eq!(effort(b"text text text"), Effort::Level(4));
        assert_eq!(effort(b""), Effort::Level(4));
    }

    #[test]
    fn every_kind_of_content_comes_back_and_the_bytes_are_pinned() {
        let mut mixed = b"text ".repeat(BLOCK_BYTES / 3);
        mixed.extend(noise(8 * BLOCK_BYTES + 17));
        mixed.extend(weights(BLOCK_BYTES));
        mixed.extend(b"the end");
        let (written, bytes) = compress(&mixed, 1 << 16);
        assert!(expand(&bytes) == mixed);
        assert_eq!(written.content, Sha256Digest::of(&mixed));
        assert_eq!((written.digest, written.size), (Sha256Digest::of(&bytes), bytes.len() as u64));
        assert_eq!(compress(&mixed, 12_345).0, written, "how it is written makes no difference");
        // Should this move, `SETTINGS` must move with it.
        insta::assert_snapshot!(written.digest, @"sha256:9175ce7254495f4c1a0ecdebb10a25d96083577fce3abcb38431f7fc697390e3");
    }

    #[test]
    fn the_number_of_threads_makes_no_difference() {
        let content = weights(5 * BLOCK_BYTES + 3);
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let three = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let of = |pool: &rayon::ThreadPool| pool.install(|| compress(&content, 1 << 20).0);
        assert_eq!(of(&alone), of(&three));
    }

    #[test]
    fn nothing_is_a_stream_too() {
        let (_, bytes) = compress(b"", 1);
        assert!(expand(&bytes).is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_compressed_comes_back(
            content in prop::collection::vec(any::<u8>(), 0..3000),
            copies in 1usize..400,
        ) {
            let content = content.repeat(copies);
            prop_assert!(expand(&compress(&content, 1 << 16).1) == content);
        }
    }
}
