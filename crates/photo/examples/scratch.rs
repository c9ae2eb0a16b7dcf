//! scratch
use mynah_contracts::ResizeFilter;
use mynah_photo::*;
fn main() {
    let margins = [0u32, 1000, 2000, 3000, 4000];
    for set in std::env::args().skip(1) {
        let mut files = vec![];
        let mut st = vec![std::path::PathBuf::from(&set)];
        while let Some(d) = st.pop() {
            for e in std::fs::read_dir(d).unwrap() {
                let p = e.unwrap().path();
                if p.is_dir() { st.push(p) } else { files.push(p) }
            }
        }
        files.sort();
        let dec: Vec<_> = files
            .iter()
            .filter_map(|p| {
                decode(&std::fs::read(p).unwrap(), &Limits::default()).ok().map(|d| (p.clone(), d.image))
            })
            .collect();
        for m in margins {
            let h = |i: &RgbImage| -> [u64; 4] {
                let mut w = [0u64; 4];
                let c = resize(i, Rect::of(i), 17, 16, ResizeFilter::Bilinear).unwrap();
                let g: Vec<u32> = c
                    .pixels()
                    .as_chunks::<3>()
                    .0
                    .iter()
                    .map(|&[r, g, b]| 299 * r as u32 + 587 * g as u32 + 114 * b as u32)
                    .collect();
                let mut k = 0;
                for row in g.chunks(17) {
                    for p in row.windows(2) {
                        if p[0] > p[1] + m {
                            w[k / 64] |= 1 << (63 - k % 64);
                        }
                        k += 1;
                    }
                }
                w
            };
            let d = |a: &[u64; 4], b: &[u64; 4]| -> u32 {
                a.iter().zip(b).map(|(x, y)| (x ^ y).count_ones()).sum()
            };
            let hs: Vec<_> = dec.iter().map(|(_, i)| h(i)).collect();
            let mut pos = vec![];
            for (k, (_, i)) in dec.iter().enumerate() {
                let v = [
                    decode(&encode_jpeg(i, 50).unwrap(), &Limits::default()).unwrap().image,
                    thumbnail(i, i.width().max(i.height()) / 2),
                    decode(&encode_jpeg(&thumbnail(i, 128), 75).unwrap(), &Limits::default()).unwrap().image,
                    resize(i, Rect::of(i), i.width() * 3 / 2, i.height() * 3 / 2, ResizeFilter::Bilinear)
                        .unwrap(),
                ];
                for x in &v {
                    pos.push(d(&hs[k], &h(x)));
                }
            }
            pos.sort();
            let mut neg = vec![];
            for a in 0..hs.len() {
                for b in 0..a {
                    neg.push((d(&hs[a], &hs[b]), a, b));
                }
            }
            neg.sort();
            let q = |f: f64| pos[((pos.len() - 1) as f64 * f) as usize];
            println!(
                "{set} margin {m}: same p50 {} p90 {} p99 {} p99.9 {} max {} | different min5 {:?} count<=10 {} <=16 {} <=20 {} <=24 {} <=32 {}",
                q(0.5),
                q(0.9),
                q(0.99),
                q(0.999),
                q(1.0),
                neg.iter().take(5).map(|x| x.0).collect::<Vec<_>>(),
                neg.iter().filter(|x| x.0 <= 10).count(),
                neg.iter().filter(|x| x.0 <= 16).count(),
                neg.iter().filter(|x| x.0 <= 20).count(),
                neg.iter().filter(|x| x.0 <= 24).count(),
                neg.iter().filter(|x| x.0 <= 32).count()
            );
            if m == 2000 {
                for (x, a, b) in neg.iter().take(12) {
                    println!("   {x} {} {}", dec[*a].0.display(), dec[*b].0.display());
                }
            }
        }
    }
}
