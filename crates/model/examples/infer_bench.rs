//! Times one inference: `infer_bench MODEL [fused|plain] [RUNS] [THREADS]` prints one line of JSON.
//!
//! `wall` is the median milliseconds of a run by the clock, `cpu` the mean by the thread's own processor time;
//! the latter is the one to compare on a machine that is busy with something else. `per_second` counts the runs
//! of all threads together.

use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use mynah_model::{Network, Operators};

const SIZE: u32 = 224;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |at: usize, default: &'static str| arguments.get(at).map_or(default, String::as_str);
    let bytes =
        std::fs::read(arguments.first().ok_or("usage: infer_bench MODEL [fused|plain] [RUNS] [THREADS]")?)?;
    let operators = match text(1, "fused") {
        "fused" => Operators::Fused,
        "plain" => Operators::Plain,
        other => return Err(format!("`{other}` is neither `fused` nor `plain`").into()),
    };
    let (runs, threads): (usize, usize) = (text(2, "60").parse()?, text(3, "1").parse()?);
    let start = Instant::now();
    let network = Network::with_operators(&bytes, "input", "embedding", SIZE, operators)?;
    let load = start.elapsed().as_secs_f64() * 1e3;

    let input: Vec<f32> = (0..3 * SIZE * SIZE).map(|at| (at as f32 * 0.37).sin()).collect();
    let start = Instant::now();
    let times: Result<Vec<_>, String> = std::thread::scope(|scope| {
        let spawned: Vec<_> = (0..threads).map(|_| scope.spawn(|| time(&network, &input, runs))).collect();
        spawned.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?).collect()
    });
    let per_second = (runs * threads) as f64 / start.elapsed().as_secs_f64();
    let (wall, cpu): (Vec<_>, Vec<f64>) = times?.into_iter().unzip();
    let (wall, cpu) = (median(wall.concat()), cpu.iter().sum::<f64>() / threads as f64);
    writeln!(
        std::io::stdout(),
        "{{\"load\": {load:.1}, \"wall\": {wall:.3}, \"cpu\": {cpu:.3}, \"per_second\": {per_second:.1}}}"
    )?;
    Ok(())
}

/// The clock's milliseconds of each run, and the processor's of a run on average.
fn time(network: &Network, input: &[f32], runs: usize) -> Result<(Vec<f64>, f64), String> {
    let processor = processor_ms();
    let clocks: Result<_, _> = (0..runs)
        .map(|_| {
            let clock = Instant::now();
            network.run(input).map_err(|error| error.to_string())?;
            Ok::<_, String>(clock.elapsed().as_secs_f64() * 1e3)
        })
        .collect();
    Ok((clocks?, (processor_ms() - processor) / runs as f64))
}

/// What this thread has used of the processor so far, in milliseconds, exact to a scheduler's tick; Linux
/// only, 0 elsewhere.
fn processor_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).map_or(0.0, |ns| ns / 1e6)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
