use poolproof::Pool;
use poolproof_benches::*;
use std::time::Instant;
use tokio::runtime::Builder;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let n: u64 = a[3].parse().unwrap();
    let tasks: u64 = a[2].parse().unwrap();
    let w: usize = a.get(4).map_or(2, |w| w.parse().unwrap());
    match a[1].as_str() {
        "ours" => go::<Pool<Nothing>>(tasks, n, w),
        "deadpool" => go::<deadpool::managed::Pool<Nothing>>(tasks, n, w),
        "bb8" => go::<bb8::Pool<Nothing>>(tasks, n, w),
        _ => go::<Bare>(tasks, n, w),
    }
}
fn go<P: Peer>(tasks: u64, n: u64, w: usize) {
    let rt = Builder::new_multi_thread().worker_threads(w).enable_time().build().unwrap();
    rt.block_on(async {
        let pool = P::open().await;
        let b = Instant::now();
        if tasks == 1 {
            for _ in 0..n {
                drop(pool.get().await)
            }
        } else {
            let v: Vec<_> = (0..tasks)
                .map(|_| {
                    let pool = pool.clone();
                    tokio::spawn(async move {
                        for _ in 0..n / tasks {
                            let g = pool.get().await;
                            tokio::task::yield_now().await;
                            drop(g);
                        }
                    })
                })
                .collect();
            for h in v {
                h.await.unwrap()
            }
        }
        eprintln!("{} {tasks}: {:.1} ns", P::NAME, b.elapsed().as_nanos() as f64 / n as f64);
    });
}
