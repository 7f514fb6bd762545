//! The real pool and writer.

use poolproof::harness::sim::{Faults, Sim, Workload};

#[test]
fn all_faults() {
    let n: u64 = std::env::var("N").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let f: Faults = std::env::var("F").ok().map_or(Faults::all(), |f| f.parse().unwrap());
    for workload in Workload::ALL {
        let sim = Sim::new().seeds(0..n).faults(f).workload(workload.to_string());
        let report = sim.run(async move |world| workload.run(world).await);
        println!(
            "{workload}: {} seeds, {:.0}/s, {} events, {} distinct, chance {:.3}",
            report.seeds,
            report.rate(),
            report.events,
            report.distinct(),
            report.chance_of_a_new_one()
        );
        for (what, times) in &report.seen {
            println!("   {times:>8} {what}");
        }
        println!("never: {:?}", report.never_seen(&Workload::SOMETIMES));
        for found in &report.found {
            println!("{found}");
        }
    }
}
