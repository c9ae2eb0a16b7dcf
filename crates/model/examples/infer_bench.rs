//! Times one inference: `infer_bench MODEL.onnx [SIZE] [RUNS]` prints the median and the fastest, in ms.
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: infer_bench MODEL.onnx [SIZE] [RUNS]")?;
    let size: u32 = args.next().map_or(Ok(224), |text| text.parse())?;
    let runs: usize = args.next().map_or(Ok(50), |text| text.parse())?;
    let bytes = std::fs::read(path)?;
    let start = Instant::now();
    let network = mynah_model::Network::from_onnx(&bytes, "input", "embedding", size)?;
    let load = start.elapsed();
    let input: Vec<f32> = (0..3 * size * size).map(|i| (i as f32 * 0.37).sin()).collect();
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            network.run(&input).map(|_| start.elapsed().as_secs_f64() * 1e3)
        })
        .collect::<Result<_, _>>()?;
    times.sort_by(f64::total_cmp);
    println!(
        "load {:.1} ms, median {:.2} ms, fastest {:.2} ms",
        load.as_secs_f64() * 1e3,
        times[runs / 2],
        times[0]
    );
    Ok(())
}
