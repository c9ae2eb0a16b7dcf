//! Any text as a Dockerfile: it is parsed or refused with a line that the text has.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let lines = text.lines().count().max(1);
    match mynah::dockerfile::parse::parse(text) {
        Ok(file) => assert!(!file.stages.is_empty()),
        Err((line, _)) => assert!((1..=lines).contains(&line)),
    }
});
