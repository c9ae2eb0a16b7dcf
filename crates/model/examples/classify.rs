//! Classifies every photo of a dataset with a model package, for other programs to compare:
//! `classify MODEL DATASET OUT` writes `OUT/classified.jsonl` (a line per photo with its probabilities) and the
//! network's inputs as `OUT/inputs/<sha-256>.f32` (little endian, channels first).

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use mynah_contracts::{Artifact as _, Dataset, from_json};
use mynah_model::{ModelPackage, input_values};
use mynah_photo::{Limits, decode, file::read_verified};

fn main() -> Result<(), Box<dyn Error>> {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, folder, out] = folders.as_slice() else {
        return Err("usage: classify MODEL DATASET OUT".into());
    };
    let package = ModelPackage::open(model)?;
    let dataset: Dataset = from_json(&fs::read(folder.join(Dataset::FILE))?)?;
    fs::create_dir_all(out.join("inputs"))?;
    let mut lines = String::new();
    for photo in &dataset.photos {
        let bytes = read_verified(&photo.file.below(folder), &photo.sha256)?;
        let image = decode(&bytes, &Limits::default())?.image;
        let values = input_values(&image, &package.card().preprocess)?;
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        fs::write(out.join("inputs").join(photo.sha256.hex() + ".f32"), raw)?;
        let probabilities = package.classify(&image)?;
        lines += &serde_json::json!({ "file": photo.file, "probabilities": probabilities }).to_string();
        lines += "\n";
    }
    fs::write(out.join("classified.jsonl"), lines)?;
    Ok(())
}
