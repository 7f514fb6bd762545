//! Whatever leaks into a world makes a seed mean something else in each process. The hash of a run tells.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use poolproof::Error;
use poolproof::harness::sim::{Faults, Sim, Workload, World};

use crate::clients::each;
use crate::common::alone;

/// Which leak a body is to have, by its name.
const LEAK: &str = "POOLPROOF_TEST_LEAK";

/// The file in which a body leaves its hash.
const HASH: &str = "hash";

const SEED: u64 = 7;

/// What people forget that it is not the same each time.
const LEAKS: [&str; 5] = ["order of a map", "monotonic clock", "wall clock", "random number", "uuid"];

/// Eight writes, each with a number that `leak` has a hand in.
async fn writes(world: World, leak: &str) -> Result<(), Error> {
    let began = Instant::now();
    let db = world.open("leaks.db").await?;
    db.execute("CREATE TABLE numbers (n)", ()).await?;
    let by_map: Vec<i64> = (0..8).collect::<HashSet<_>>().into_iter().collect();
    for (place, by_map) in (0..).zip(by_map) {
        let n = match leak {
            "order of a map" => by_map,
            "monotonic clock" => began.elapsed().subsec_nanos().into(),
            "wall clock" => SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").subsec_nanos().into(),
            "random number" => (RandomState::new().build_hasher().finish() >> 1) as i64,
            _ => place,
        };
        // SQL's own random numbers are the world's; what makes a UUID asks the operating system.
        let sql = match leak {
            "uuid" => "INSERT INTO numbers VALUES (?1), (uuid4_str())",
            _ => "INSERT INTO numbers VALUES (?1), (random()), (randomblob(8))",
        };
        db.execute(sql, (n,)).await?;
    }
    db.close().await;
    Ok(())
}

/// The hashes of the seed in a process of its own, which has this leak, or none.
fn hash_of(leak: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    let mut body = alone::body("leaks::a_process", place.path());
    body.env(LEAK, leak);
    alone::run(body);
    fs::read_to_string(place.path().join(HASH)).unwrap()
}

#[test]
#[ignore = "the body of the other tests"]
fn a_process() {
    let leak = std::env::var(LEAK).unwrap();
    let own = Sim::new().hash(SEED, async |world| writes(world, &leak).await);
    let story = Sim::new().faults(Faults::all()).hash(SEED, async |world| Workload::Story.run(world).await);
    fs::write(alone::place().join(HASH), format!("{own:016x} {story:016x}")).unwrap();
}

#[test]
fn what_leaks_in_makes_a_seed_another_in_each_process() {
    for leak in LEAKS {
        assert_ne!(hash_of(leak), hash_of(leak), "{leak}");
    }
}

#[test]
fn without_a_leak_a_seed_is_the_same_in_twenty_processes() {
    let hashes: BTreeSet<String> = (0..20).map(|_| hash_of("none")).collect();
    assert_eq!(hashes.len(), 1, "{hashes:?}");
}

/// Two clients write a row each: small enough for many seeds.
async fn two_write(world: World) -> Result<(), Error> {
    let pool = world.pool("seeds.db").max_connections(1).build().await?;
    pool.get().await?.execute("CREATE TABLE numbers (n)", ()).await?;
    each(&world, 2, |client| {
        let pool = pool.clone();
        async move {
            pool.get().await?.execute("INSERT INTO numbers VALUES (?1)", (client,)).await?;
            Ok(())
        }
    })
    .await
}

#[test]
fn a_thousand_seeds_are_a_thousand_runs() {
    let hashes: BTreeSet<u64> = (0..1000).map(|seed| Sim::new().hash(seed, two_write)).collect();
    println!("1000 seeds, {} hashes", hashes.len());
    assert_eq!(hashes.len(), 1000);
}
