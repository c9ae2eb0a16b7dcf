//! A layer from anyone: unpacking it neither panics nor touches anything outside its folder.
#![no_main]

use std::fs;
use std::io::Write as _;

use libfuzzer_sys::fuzz_target;
use mynah::oci::unpack::{Limits, Unpacker};

fuzz_target!(|archive: &[u8]| {
    // Gzipped here: a fuzzer would rarely get past the checksum.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(archive).expect("writing to memory");
    let layer = gzip.finish().expect("writing to memory");

    let cage = tempfile::tempdir().expect("a temporary folder");
    let root = cage.path().join("root");
    fs::create_dir(&root).expect("a temporary folder");
    let mut unpacker = Unpacker::new(&root, Limits { bytes: 1 << 20, entries: 200 });
    if unpacker.layer(layer.as_slice(), "fuzzed").is_ok() {
        unpacker.finish().expect("folders of our own");
    }
    let outside = fs::read_dir(cage.path()).expect("a temporary folder").count();
    assert_eq!(outside, 1, "something was written outside the root");
});
