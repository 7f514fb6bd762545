//! The settings of pools and writers as a file has them, and what is said of those that cannot work.
//!
//! The tests go through the fields by name, as serde writes them: a field that is added, and not thought of here, fails.

use std::collections::BTreeSet;
use std::time::Duration;

use poolproof::{ConnectionPool, Error, Mode, PoolConfig, PooledDatabaseWriter, WriterConfig};
use serde_json::{Map, Value, from_str, from_value, json, to_string, to_value};

use crate::server;

/// One in which no field is as in the default.
fn unlike_the_default() -> PoolConfig {
    PoolConfig {
        name: Some("the \"main\" one".to_owned()),
        max_connections: 7,
        min_idle: 2,
        wait_timeout: Duration::from_millis(1_500),
        connect_timeout: Duration::from_nanos(1),
        acquire_timeout: Duration::MAX,
        hook_timeout: Duration::new(3, 999_999_999),
        idle_timeout: Some(Duration::from_secs(600)),
        max_lifetime: Some(Duration::from_secs(3_600)),
        lifetime_jitter: 0.1,
        test_after: Some(Duration::ZERO),
    }
}

fn fields(config: &PoolConfig) -> Map<String, Value> {
    match to_value(config).unwrap() {
        Value::Object(fields) => fields,
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_written_is_read_as_the_same() {
    for config in [PoolConfig::default(), unlike_the_default()] {
        assert_eq!(from_str::<PoolConfig>(&to_string(&config).unwrap()).unwrap(), config);
    }
    let (default, unlike) = (fields(&PoolConfig::default()), fields(&unlike_the_default()));
    assert!(default.iter().all(|(name, value)| unlike[name] != *value), "a field that both have alike shows nothing");
}

/// Durations as seconds and nanoseconds, what is not set as null.
#[test]
fn the_format_is_this() {
    let text = r#"{
        "name": null,
        "max_connections": 10,
        "min_idle": 0,
        "wait_timeout": { "secs": 30, "nanos": 0 },
        "connect_timeout": { "secs": 10, "nanos": 0 },
        "acquire_timeout": { "secs": 30, "nanos": 0 },
        "hook_timeout": { "secs": 5, "nanos": 0 },
        "idle_timeout": null,
        "max_lifetime": null,
        "lifetime_jitter": 0.025,
        "test_after": null
    }"#;
    assert_eq!(from_str::<PoolConfig>(text).unwrap(), PoolConfig::default());
    assert_eq!(Value::Object(fields(&PoolConfig::default())), from_str::<Value>(text).unwrap());
    let idle: PoolConfig = from_str(r#"{ "idle_timeout": { "secs": 1, "nanos": 500000000 } }"#).unwrap();
    assert_eq!(idle.idle_timeout, Some(Duration::from_millis(1_500)));
}

#[test]
fn a_field_that_is_missing_is_as_in_the_default() {
    assert_eq!(from_str::<PoolConfig>("{}").unwrap(), PoolConfig::default());
    for (name, value) in fields(&unlike_the_default()) {
        let mut expected = fields(&PoolConfig::default());
        expected[&name] = value.clone();
        let read: PoolConfig = from_value(json!({ &name: value })).unwrap();
        assert_eq!(fields(&read), expected, "{name} alone");
    }
}

#[test]
fn a_name_that_is_no_setting_is_refused_and_named() {
    for text in
        [r#"{ "max_conections": 4 }"#, r#"{ "min_idle": 1, "MaxConnections": 4 }"#, r#"{ "max-connections": 4 }"#]
    {
        let wrong = text.split('"').rev().nth(1).unwrap();
        let error = from_str::<PoolConfig>(text).unwrap_err().to_string();
        assert!(error.contains(&format!("unknown field `{wrong}`")), "{error}");
        for (name, _) in fields(&PoolConfig::default()) {
            assert!(error.contains(&name), "what would be right: {error}");
        }
    }
    let twice = from_str::<PoolConfig>(r#"{ "min_idle": 1, "min_idle": 2 }"#).unwrap_err().to_string();
    assert!(twice.contains("duplicate field `min_idle`"), "{twice}");
}

#[test]
fn a_value_of_another_kind_is_refused_and_not_guessed_at() {
    for (text, said) in [
        (r#"{ "max_connections": "4" }"#, "expected usize"),
        (r#"{ "max_connections": -1 }"#, "expected usize"),
        (r#"{ "max_connections": 4.0 }"#, "expected usize"),
        (r#"{ "min_idle": null }"#, "expected usize"),
        (r#"{ "lifetime_jitter": "2.5 %" }"#, "expected f64"),
        (r#"{ "acquire_timeout": 30 }"#, "expected struct Duration"),
        (r#"{ "acquire_timeout": "30s" }"#, "expected struct Duration"),
        (r#"{ "acquire_timeout": null }"#, "expected struct Duration"),
        (r#"{ "idle_timeout": { "secs": 1 } }"#, "missing field `nanos`"),
        (r#"{ "idle_timeout": { "secs": 1, "millis": 5 } }"#, "unknown field `millis`"),
        (r#"{ "idle_timeout": { "secs": -1, "nanos": 0 } }"#, "expected u64"),
        (r#"{ "idle_timeout": { "secs": 18446744073709551615, "nanos": 1000000000 } }"#, "overflow"),
        ("10", "expected struct PoolConfig"),
    ] {
        let error = from_str::<PoolConfig>(text).map(|config| panic!("{text}: {config:?}")).unwrap_err();
        assert!(error.to_string().contains(said), "{text}: {error}");
    }
}

/// What cannot work: the field, its value, and what is said of it beside the field's name.
fn wrong() -> Vec<(&'static str, PoolConfig, &'static str)> {
    let good = PoolConfig::default;
    let (zero, too_short) = (Duration::ZERO, "is 0: nothing could ever be done in that time; choose at least 1 ms");
    let no_fraction = "a fraction from 0 to less than 1 is needed";
    vec![
        ("max_connections", PoolConfig { max_connections: 0, ..good() }, "is 0: a pool needs at least 1 connection"),
        ("max_connections", PoolConfig { max_connections: 10_001, ..good() }, "is 10001: at most 10000 are allowed"),
        ("min_idle", PoolConfig { min_idle: 11, ..good() }, "is 11, more than max_connections (10); lower it"),
        ("wait_timeout", PoolConfig { wait_timeout: zero, ..good() }, too_short),
        ("connect_timeout", PoolConfig { connect_timeout: zero, ..good() }, too_short),
        ("acquire_timeout", PoolConfig { acquire_timeout: zero, ..good() }, too_short),
        ("hook_timeout", PoolConfig { hook_timeout: zero, ..good() }, too_short),
        ("idle_timeout", PoolConfig { idle_timeout: Some(zero), ..good() }, too_short),
        ("max_lifetime", PoolConfig { max_lifetime: Some(zero), ..good() }, too_short),
        ("lifetime_jitter", PoolConfig { lifetime_jitter: -0.1, ..good() }, no_fraction),
        ("lifetime_jitter", PoolConfig { lifetime_jitter: 1.0, ..good() }, no_fraction),
        ("lifetime_jitter", PoolConfig { lifetime_jitter: f64::NAN, ..good() }, no_fraction),
        ("lifetime_jitter", PoolConfig { lifetime_jitter: f64::INFINITY, ..good() }, no_fraction),
    ]
}

#[tokio::test]
async fn a_setting_that_cannot_work_is_refused_and_named_wherever_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    for (name, config, said) in wrong() {
        // As serde writes them, where it can.
        let read = from_value(to_value(&config).unwrap()).unwrap_or_else(|_| config.clone());
        let manager = server::Manager(std::sync::Arc::default());
        let refused = [
            config.validate().unwrap_err(),
            poolproof::Pool::new(manager, config).map(drop).unwrap_err(),
            ConnectionPool::builder(&path).config(read).build().await.map(drop).unwrap_err(),
        ];
        for error in refused {
            assert!(error.to_string().starts_with(&format!("{name} is ")), "{error}");
            assert!(error.to_string().contains(said), "{error}");
            assert!(matches!(error, Error::Config { field, .. } if field == name), "{error:?}");
        }
    }
    assert!(!path.exists(), "nothing was opened");
}

/// Any name will do, and `test_after` of 0 tests always; every other field has a value that cannot work.
#[test]
fn every_setting_is_checked() {
    let wrong: BTreeSet<_> = wrong().into_iter().map(|(name, ..)| name.to_owned()).collect();
    let mut all: BTreeSet<_> = fields(&PoolConfig::default()).into_iter().map(|(name, _)| name).collect();
    assert!(all.remove("name") && all.remove("test_after"));
    assert_eq!(wrong, all);
}

#[test]
fn the_last_values_that_can_work_are_taken() {
    let shortest = Duration::from_nanos(1);
    for config in [
        PoolConfig::default(),
        unlike_the_default(),
        PoolConfig { max_connections: 1, min_idle: 1, ..PoolConfig::default() },
        PoolConfig { max_connections: PoolConfig::MAX_CONNECTIONS, min_idle: 10_000, ..PoolConfig::default() },
        PoolConfig { lifetime_jitter: 0.0, test_after: Some(Duration::ZERO), ..PoolConfig::default() },
        PoolConfig { lifetime_jitter: 0.999_999, max_lifetime: Some(shortest), ..PoolConfig::default() },
        PoolConfig { wait_timeout: shortest, idle_timeout: Some(shortest), ..PoolConfig::default() },
    ] {
        config.validate().unwrap_or_else(|error| panic!("{error}: {config:?}"));
    }
}

/// "Never" is written as a very long time by many.
#[tokio::test]
async fn a_time_too_long_for_the_clock_is_none() {
    let longest = Duration::MAX;
    let config = PoolConfig {
        max_connections: 1,
        min_idle: 1,
        wait_timeout: longest,
        connect_timeout: longest,
        acquire_timeout: longest,
        hook_timeout: longest,
        idle_timeout: Some(longest),
        test_after: Some(longest),
        ..PoolConfig::default()
    };
    let (pool, server) = server::pool_with_hooks(config);
    server.next(server::Call::Connect, server::Does::Yield(1));
    server.next(server::Call::AfterConnect, server::Does::Yield(1));
    let held = pool.get().await.unwrap();
    let (waited, ()) = tokio::join!(pool.get(), async { drop(held) });
    assert_eq!(waited.unwrap().number, 1);
}

#[tokio::test]
async fn a_lifetime_too_long_for_the_clock_is_none() {
    for lifetime_jitter in [0.0, 0.025] {
        let config = PoolConfig { max_lifetime: Some(Duration::MAX), lifetime_jitter, ..PoolConfig::default() };
        let (pool, _) = server::pool(config);
        drop(pool.get().await.unwrap());
        assert_eq!(pool.get().await.unwrap().number, 1);
    }
}

/// A writer's settings that cannot work: the field, and what is said of it.
fn wrong_for_a_writer() -> Vec<(&'static str, WriterConfig, &'static str)> {
    let good = WriterConfig::default;
    let (zero, short) = (Duration::ZERO, Duration::from_nanos(1));
    let nothing = "nothing could ever be written; choose at least 1";
    let (no_time, too_short) =
        ("is 0ns: nothing could ever be done in that time; choose at least 1 ms", "is 1ns: nothing could ever");
    let too_many = WriterConfig::MAX_QUEUE + 1;
    vec![
        ("queue", WriterConfig { queue: 0, ..good() }, nothing),
        ("queue", WriterConfig { queue: too_many, ..good() }, "is 10000001: at most 10000000 are allowed"),
        ("batch_jobs", WriterConfig { batch_jobs: 0, ..good() }, nothing),
        ("batch_time", WriterConfig { batch_time: zero, ..good() }, "or batch_jobs of 1 for a commit to each write"),
        ("batch_time", WriterConfig { batch_time: short, ..good() }, "choose at least 1 ms, or batch_jobs of 1"),
        ("write_timeout", WriterConfig { write_timeout: zero, ..good() }, no_time),
        ("write_timeout", WriterConfig { write_timeout: short, ..good() }, too_short),
        ("read_timeout", WriterConfig { read_timeout: Some(zero), ..good() }, no_time),
        ("read_timeout", WriterConfig { read_timeout: Some(short), ..good() }, too_short),
        ("retry_timeout", WriterConfig { retry_timeout: zero, ..good() }, no_time),
        ("retry_timeout", WriterConfig { retry_timeout: short, ..good() }, too_short),
        ("checkpoint_idle", WriterConfig { checkpoint_idle: zero, ..good() }, no_time),
        ("checkpoint_idle", WriterConfig { checkpoint_idle: short, ..good() }, too_short),
        ("checkpoint_bytes", WriterConfig { checkpoint_bytes: 0, ..good() }, "every write would wait for a checkpoint"),
    ]
}

#[tokio::test]
async fn a_writers_setting_that_cannot_work_is_refused_and_named_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let pool = ConnectionPool::open(folder.path().join("t.db")).await.unwrap();
    for (name, config, said) in wrong_for_a_writer() {
        let read: WriterConfig = from_value(to_value(&config).unwrap()).unwrap();
        let opened = PooledDatabaseWriter::with_config(pool.clone(), read).await.map(drop);
        for error in [config.validate().unwrap_err(), opened.unwrap_err()] {
            let text = error.to_string();
            assert!(text.starts_with(&format!("{name} is ")) && text.contains(said), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
    // A mode is one of those there are, and the cache may have any size.
    let wrong: BTreeSet<_> = wrong_for_a_writer().into_iter().map(|(name, ..)| name.to_owned()).collect();
    let Value::Object(fields) = to_value(WriterConfig::default()).unwrap() else { panic!("it has fields") };
    let mut all: BTreeSet<_> = fields.into_iter().map(|(name, _)| name).collect();
    assert!(all.remove("mode") && all.remove("cache"));
    assert_eq!(wrong, all);
}

#[test]
fn a_writers_settings_are_read_as_they_are_written_and_the_last_values_that_can_work_are_taken() {
    let shortest = Duration::from_millis(1);
    for config in [
        WriterConfig::default(),
        WriterConfig { queue: 1, batch_jobs: 1, checkpoint_bytes: 1, mode: Mode::Mvcc, cache: 1, ..Default::default() },
        WriterConfig { queue: WriterConfig::MAX_QUEUE, batch_jobs: usize::MAX, ..WriterConfig::default() },
        WriterConfig { batch_time: shortest, write_timeout: shortest, ..WriterConfig::default() },
        WriterConfig { retry_timeout: shortest, checkpoint_idle: shortest, ..WriterConfig::default() },
        WriterConfig { read_timeout: Some(shortest), ..WriterConfig::default() },
        WriterConfig { read_timeout: Some(Duration::MAX), ..WriterConfig::default() },
        WriterConfig { batch_time: Duration::MAX, checkpoint_bytes: u64::MAX, ..WriterConfig::default() },
    ] {
        config.validate().unwrap_or_else(|error| panic!("{error}: {config:?}"));
        assert_eq!(from_str::<WriterConfig>(&to_string(&config).unwrap()).unwrap(), config);
    }
    assert_eq!(from_str::<WriterConfig>("{}").unwrap(), WriterConfig::default());
    let error = from_str::<WriterConfig>(r#"{ "batch_size": 4 }"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `batch_size`") && error.contains("batch_jobs"), "{error}");
}
