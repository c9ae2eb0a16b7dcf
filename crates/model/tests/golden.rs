//! The same numbers as Pillow, which most models of the field were trained with.

use std::path::Path;

use mynah_contracts::{ChannelOrder, Geometry, Preprocess, ResizeFilter};
use mynah_model::input_values;
use mynah_photo::{Limits, decode};

#[test]
fn resizing_is_pillows_to_one_level() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let photo = decode(&std::fs::read(folder.join("pattern.png")).unwrap(), &Limits::default()).unwrap();
    let cases: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("resized.json")).unwrap()).unwrap();
    for case in cases.as_array().unwrap() {
        let filter: ResizeFilter = serde_json::from_value(case["filter"].clone()).unwrap();
        let geometry = match case["part"].as_str().unwrap() {
            "squash" => Geometry::Squash,
            "center-crop-0.75" => Geometry::CenterCrop { fraction: 0.75 },
            part => panic!("{part}"),
        };
        let (channels, mean, scale) = (ChannelOrder::Rgb, [0.0; 3], [1.0; 3]);
        let values =
            input_values(&photo.image, &Preprocess { size: 8, geometry, filter, channels, mean, scale })
                .unwrap();
        let pixels: Vec<u8> = serde_json::from_value(case["pixels"].clone()).unwrap();
        for (at, expected) in pixels.iter().enumerate() {
            // Pillow's pixels hold their channels side by side, ours lie channel after channel.
            let got = values[at % 3 * 64 + at / 3];
            let off = (got - f32::from(*expected)).abs();
            assert!(off <= 1.0, "{filter:?}, {geometry:?}, number {at}: {got} for {expected}");
        }
    }
}
