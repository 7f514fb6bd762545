//! A program run by the library.

use std::future::{Future, poll_fn};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use turso::Value;

use super::program::{Call, Environment, Program, Statement, Way};
use super::table::{Told, digest, shown};
use super::{FAILED, Io, REFUSED, memory, name};
use crate::error::{Error, Result};
use crate::harness::sim::World;
use crate::pool::clock;
use crate::pool::{Behavior, Connection, ConnectionPool, Hooks, Row, Rows, Snapshot, Transaction};
use crate::writer::{Mode, PooledDatabaseWriter, WriterConfig};

/// Runs it on a new database: what each call came to, and what it holds at the end.
///
/// # Errors
/// What is wrong whatever the engine says: an outcome that is unknown though no disk failed, readers that disagree, a file that
/// SQLite finds damaged.
pub(super) async fn run(program: &Program) -> std::result::Result<(Vec<Told>, String), String> {
    let folder = program.environment.file.then(tempfile::tempdir).transpose();
    let folder = folder.map_err(|error| format!("there is no folder for it: {error}"))?;
    let place = match &folder {
        Some(folder) => {
            let linked = file_in(folder.path(), program.environment);
            linked.map_err(|error| format!("there is no link to it: {error}"))?
        }
        None => Place::Memory(memory(), name()),
    };
    run_at(program, &place).await
}

/// The same in a simulated world.
///
/// # Errors
/// As for [`run`].
pub(super) async fn run_in(world: &World, program: &Program) -> std::result::Result<(Vec<Told>, String), String> {
    run_at(program, &Place::World(world.clone())).await
}

async fn run_at(program: &Program, place: &Place) -> std::result::Result<(Vec<Told>, String), String> {
    let (told, read) =
        calls(program, place).await.map_err(|error| format!("the database could not be used: {error}"))?;
    if let Some(unknown) = told.iter().find(|told| matches!(told, Told::Failed(why) if why.starts_with(UNKNOWN))) {
        return Err(format!("an outcome is unknown though no disk failed: {unknown}"));
    }
    let read = read?;
    if let Place::File { file, .. } = place
        && !program.environment.mvcc
    {
        sqlite_finds_no_damage(file, program)?;
        let read_only =
            by_a_read_only_pool(file).await.map_err(|error| format!("a read-only pool cannot read: {error}"))?;
        if let Some((one, other)) = read.iter().zip(&read_only).find(|(one, other)| one != other) {
            return Err(format!("readers disagree about {}: {}; a read-only pool: {}", one.0, one.1, other.1));
        }
        if read.len() != read_only.len() {
            return Err(format!("a read-only pool has {} tables and views of {}", read_only.len(), read.len()));
        }
    }
    Ok((told, held(place, program.environment.mvcc).await?))
}

/// What the database of a world holds, as the engine reads it.
pub(super) async fn held_in_world(world: &World) -> std::result::Result<String, String> {
    held(&Place::World(world.clone()), false).await
}

async fn held(place: &Place, mvcc: bool) -> std::result::Result<String, String> {
    let database = match place {
        Place::World(world) => {
            turso::Builder::new_local(&world.path(IN_A_WORLD)).with_io_impl(world.io()).build().await
        }
        Place::Memory(io, name) => turso::Builder::new_local(name).with_io_impl(Arc::clone(io)).build().await,
        Place::File { file, .. } => turso::Builder::new_local(&file.to_string_lossy()).build().await,
    };
    let connection =
        database.and_then(|database| database.connect()).map_err(|error| format!("unreadable: {error}"))?;
    Ok(digest(&connection, mvcc).await)
}

/// Where the database is.
enum Place {
    World(World),
    Memory(Io, String),
    /// By its own name, and as it is opened.
    File {
        file: PathBuf,
        opened: PathBuf,
    },
}

fn file_in(folder: &Path, Environment { link, odd_name, relative, .. }: Environment) -> std::io::Result<Place> {
    let name = if odd_name { format!("Zürich 東京 'n' \"x\".{}", name()) } else { name() };
    let file = folder.join(name);
    let mut opened = file.clone();
    if link {
        opened = folder.join("link.db");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&file, &opened)?;
        // A link leads to what is there.
        std::fs::File::create(&file)?;
    }
    if relative {
        opened = from_here(&opened)?;
    }
    Ok(Place::File { file, opened })
}

/// The path from the folder that this process is in.
fn from_here(path: &Path) -> std::io::Result<PathBuf> {
    let up = std::env::current_dir()?.components().skip(1).map(|_| Component::ParentDir).collect::<PathBuf>();
    Ok(up.join(path.strip_prefix("/").unwrap_or(path)))
}

/// How an outcome begins that nobody knows.
pub(super) const UNKNOWN: &str = "UNKNOWN: ";

/// The name of a database in a world.
const IN_A_WORLD: &str = "statements.db";

async fn calls(program: &Program, place: &Place) -> Result<(Vec<Told>, std::result::Result<Read, String>)> {
    let opened = Opened::at(place, program.environment).await?;
    let mut all = Vec::new();
    for group in &program.groups {
        let asked = group.iter().map(|asked| Box::pin(opened.call(asked)) as Asked<'_, Told>);
        match program.environment.mvcc {
            // Which of them comes first nobody knows.
            true => {
                for asked in asked {
                    all.push(asked.await);
                }
            }
            false => all.extend(together(asked.collect()).await),
        }
    }
    let read = opened.readers_agree().await;
    opened.close().await;
    Ok((all, read))
}

/// Each table and view by its name, with all its rows or why it cannot be read.
type Read = Vec<(String, Told)>;

/// A database that a program is run on.
pub(super) struct Opened {
    pub(super) db: PooledDatabaseWriter,
    /// Where guards are from, if that is another pool.
    other: Option<ConnectionPool>,
}

impl Opened {
    /// Opens the database of a world.
    pub(super) async fn in_world(world: &World, environment: Environment) -> Result<Self> {
        Self::at(&Place::World(world.clone()), environment).await
    }

    async fn at(place: &Place, environment: Environment) -> Result<Self> {
        let Environment { two_pools, no_statement_cache, mvcc, hooks, narrow, .. } = environment;
        let open = |by_its_name: bool| {
            let mut builder = match place {
                Place::World(world) => world.pool(IN_A_WORLD),
                Place::Memory(io, name) => ConnectionPool::builder(name).io(Arc::clone(io)),
                Place::File { file, .. } if by_its_name => ConnectionPool::builder(file),
                Place::File { opened, .. } => ConnectionPool::builder(opened),
            };
            if hooks {
                builder = builder.hooks(Hooks::new().after_connect(|connection: &mut Connection| {
                    Box::pin(async move {
                        connection.run("PRAGMA synchronous = OFF").await?;
                        Ok(connection.run("PRAGMA cache_size = 200").await?)
                    })
                }));
            }
            // One for the lane, one for a guard, one for a reader beside it.
            builder.statement_cache(if no_statement_cache { 0 } else { 64 }).max_connections(3).build()
        };
        let mode = if mvcc { Mode::Mvcc } else { Mode::Wal };
        // On a busy machine a deep statement takes its time, in a build without optimisation.
        let write_timeout = Duration::from_secs(60);
        let mut config = WriterConfig { cache: 1 << 20, mode, write_timeout, ..WriterConfig::default() };
        if narrow {
            config = WriterConfig { queue: 1, batch_jobs: 1, cache: 1, checkpoint_bytes: 4096, ..config };
        }
        let pool = open(false).await?;
        let db = match place {
            Place::World(world) => world.writer(pool, config).await?,
            _ => PooledDatabaseWriter::with_config(pool, config).await?,
        };
        let other = if two_pools { Some(open(true).await?) } else { None };
        Ok(Self { db, other })
    }

    fn ways(&self) -> Ways<'_> {
        Ways { db: &self.db, guards: self.other.as_ref().unwrap_or(self.db.pool()) }
    }

    /// Makes a call: what it came to.
    pub(super) async fn call(&self, Call { way, statements }: &Call) -> Told {
        call(self.ways(), *way, statements).await
    }

    /// What a guard, a snapshot and the cache, warm by now, see in each table and view.
    ///
    /// # Errors
    /// How they differ.
    pub(super) async fn readers_agree(&self) -> std::result::Result<Read, String> {
        let found = read_by_all(self.ways()).await;
        found.unwrap_or_else(|error| Err(format!("in the end nobody can read: {error}")))
    }

    pub(super) async fn close(self) {
        if let Some(other) = &self.other {
            other.close().await;
        }
        self.db.close().await;
    }
}

/// Where writes and snapshots are, and where guards are from.
#[derive(Clone, Copy)]
struct Ways<'a> {
    db: &'a PooledDatabaseWriter,
    guards: &'a ConnectionPool,
}

async fn read_by_all(ways: Ways<'_>) -> Result<std::result::Result<Read, String>> {
    let mut guard = ways.guards.get().await?;
    let read = by_a_guard(&mut guard).await?;
    for (name, by_guard) in &read {
        let sql = everything_in(name);
        let by_cache = told(cached(ways.db, &sql, Vec::new()).await);
        let by_snapshot = told(snapshot(ways.db, sql, Vec::new()).await);
        if !by_guard.agrees_with(&by_snapshot) || !by_snapshot.agrees_with(&by_cache) {
            return Ok(Err(format!(
                "readers disagree about {name}: a guard {by_guard}; a snapshot {by_snapshot}; the cache {by_cache}"
            )));
        }
    }
    Ok(Ok(read))
}

async fn by_a_guard(guard: &mut Connection) -> Result<Read> {
    let tables = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%' \
                  AND name NOT LIKE '%turso_internal%' ORDER BY 1";
    let mut names = Vec::new();
    let mut rows = guard.query(tables, ()).await?;
    while let Some(row) = rows.next().await? {
        names.push(row.get::<String>(0)?);
    }
    drop(rows);
    let mut read = Vec::new();
    for name in names {
        let found = match guard.query(&everything_in(&name), ()).await {
            Ok(rows) => told(all(rows).await),
            Err(error) => told(Err(error)),
        };
        read.push((name, found));
    }
    Ok(read)
}

fn everything_in(name: &str) -> String {
    format!("SELECT * FROM \"{}\"", name.replace('"', "\"\""))
}

async fn by_a_read_only_pool(file: &Path) -> Result<Read> {
    let pool = ConnectionPool::builder(file).read_only(true).build().await?;
    let read = by_a_guard(&mut *pool.get().await?).await;
    pool.close().await;
    read
}

async fn snapshot(db: &PooledDatabaseWriter, sql: String, params: Vec<Value>) -> Result<Vec<String>> {
    db.read(async move |snapshot: &mut Snapshot<'_>| all(snapshot.query(&sql, params).await?).await).await
}

/// SQLite's own check of the file.
///
/// # Errors
/// What it finds.
fn sqlite_finds_no_damage(file: &Path, program: &Program) -> std::result::Result<(), String> {
    let sqlite = rusqlite::Connection::open(file).map_err(|error| format!("SQLite does not open it: {error}"))?;
    let check = sqlite.query_row("PRAGMA integrity_check", (), |row| row.get::<_, String>(0));
    match check {
        Ok(said) if said == "ok" => Ok(()),
        // Whoever asks for that may write what a CHECK forbids.
        Ok(said) if said.starts_with("CHECK constraint failed") && program.asks_for("ignore_check_constraints") => {
            Ok(())
        }
        Ok(said) => Err(format!("SQLite finds damage: {said}")),
        Err(error) => Err(format!("SQLite cannot check it: {error}")),
    }
}

pub(super) type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Awaits all of them at the same time. They begin in their order.
pub(super) async fn together<T>(mut asked: Vec<Asked<'_, T>>) -> Vec<T> {
    let mut told: Vec<Option<T>> = asked.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (asked, told) in asked.iter_mut().zip(&mut told).filter(|(_, told)| told.is_none()) {
            if let Poll::Ready(came_to) = asked.as_mut().poll(context) {
                *told = Some(came_to);
            }
        }
        if told.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    told.into_iter().flatten().collect()
}

async fn call(Ways { db, guards }: Ways<'_>, way: Way, statements: &[Statement]) -> Told {
    let Statement { sql, params, gives_rows } = &statements[0];
    match way {
        Way::Execute => told(db.execute(sql.as_str(), params.clone()).await.map(|ack| vec![ack.value.to_string()])),
        Way::Prepared => told(prepared(db, sql, params.clone()).await),
        Way::Batch => {
            let batch: Vec<&str> = statements.iter().map(|statement| statement.sql.as_str()).collect();
            told(db.execute_batch(batch.join(";\n")).await.map(|_| Vec::new()))
        }
        Way::Closure | Way::HeedlessClosure | Way::FailingClosure => closure(db, way, statements.to_vec()).await,
        Way::Guard => told(unhindered(|| on_a_guard(guards, sql, params.clone(), *gives_rows)).await),
        Way::Glance => told(unhindered(|| glance(guards, sql, params.clone(), *gives_rows)).await),
        Way::GuardTransaction | Way::GuardRollback => {
            told(unhindered(|| in_a_transaction(guards, way, statements)).await)
        }
        Way::Read => told(snapshot(db, sql.clone(), params.clone()).await),
        Way::Cached => told(cached(db, sql, params.clone()).await),
    }
}

fn told(outcome: Result<Vec<String>>) -> Told {
    match outcome {
        Ok(of_each) => Told::Done(of_each),
        Err(error @ Error::Unknown { .. }) => Told::Failed(format!("{UNKNOWN}{error}")),
        Err(error) => match error.cause() {
            Error::Misuse(_) | Error::TooDeep { .. } => Told::Refused(error.to_string()),
            _ => Told::Failed(error.to_string()),
        },
    }
}

async fn prepared(db: &PooledDatabaseWriter, sql: &str, params: Vec<Value>) -> Result<Vec<String>> {
    let statement = db.prepare::<Vec<Value>>(sql).await?;
    Ok(vec![statement.execute(params).await?.value.to_string()])
}

async fn all(mut rows: Rows<'_>) -> Result<Vec<String>> {
    let mut all = Vec::new();
    while let Some(row) = rows.next().await? {
        all.push(line(&row)?);
    }
    Ok(vec![all.concat()])
}

fn line(row: &Row) -> Result<String> {
    let values: Result<Vec<Value>> = (0..row.column_count()).map(|column| row.value(column)).collect();
    Ok(shown(values?))
}

/// Asks again while the engine refuses a guard for what the lane does: it may make a checkpoint after those it has answered. A
/// transaction that is refused so has not begun.
async fn unhindered<F: Future<Output = Result<Vec<String>>>>(asked: impl Fn() -> F) -> Result<Vec<String>> {
    const TRIES: u32 = 1_000;
    for _ in 0..TRIES {
        match asked().await {
            Err(error) if error.is_contention() => clock::sleep(Duration::from_millis(5)).await,
            outcome => return outcome,
        }
    }
    asked().await
}

async fn on_a_guard(pool: &ConnectionPool, sql: &str, params: Vec<Value>, gives_rows: bool) -> Result<Vec<String>> {
    let mut guard = pool.get().await?;
    match gives_rows {
        true => all(guard.query(sql, params).await?).await,
        false => Ok(vec![guard.execute(sql, params).await?.to_string()]),
    }
}

async fn glance(pool: &ConnectionPool, sql: &str, params: Vec<Value>, gives_rows: bool) -> Result<Vec<String>> {
    if !gives_rows {
        return on_a_guard(pool, sql, params, false).await;
    }
    let mut guard = pool.get().await?;
    let mut rows = guard.query(sql, params).await?;
    let first = rows.next().await?;
    first.map_or_else(|| Ok(vec![String::new()]), |row| Ok(vec![line(&row)?]))
}

/// Runs one of several: what it came to, in a word if it failed.
async fn step(tx: &mut Transaction<'_>, Statement { sql, params, gives_rows }: &Statement) -> (String, Result<()>) {
    let outcome = match gives_rows {
        true => match tx.query(sql, params.clone()).await {
            Ok(rows) => all(rows).await,
            Err(error) => Err(error),
        },
        false => tx.execute(sql, params.clone()).await.map(|changed| vec![changed.to_string()]),
    };
    match outcome {
        Ok(of_each) => (of_each.concat(), Ok(())),
        Err(error) => {
            let text = match &error {
                Error::Misuse(_) | Error::TooDeep { .. } => format!("{REFUSED}: {error}"),
                _ => FAILED.to_owned(),
            };
            (text, Err(error))
        }
    }
}

async fn in_a_transaction(pool: &ConnectionPool, way: Way, statements: &[Statement]) -> Result<Vec<String>> {
    let mut guard = pool.get().await?;
    let mut tx = guard.begin(Behavior::Immediate).await?;
    let mut of_each = Vec::new();
    for statement in statements {
        of_each.push(step(&mut tx, statement).await.0);
    }
    match way {
        Way::GuardRollback => tx.rollback().await?,
        _ => tx.commit().await?,
    }
    Ok(of_each)
}

async fn closure(db: &PooledDatabaseWriter, way: Way, statements: Vec<Statement>) -> Told {
    let of_each = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&of_each);
    let outcome = db
        .write(async move |tx| {
            // It may run again.
            noted.lock().clear();
            for statement in &statements {
                let (text, outcome) = step(tx, statement).await;
                noted.lock().push(text);
                if way == Way::Closure {
                    outcome?;
                }
            }
            if way == Way::FailingClosure { Err(Error::Closed) } else { Ok(()) }
        })
        .await;
    let of_each = of_each.lock().clone();
    match outcome {
        Err(Error::Closed) if way == Way::FailingClosure => Told::Done(of_each),
        outcome => told(outcome.map(|_| of_each)),
    }
}

async fn cached(db: &PooledDatabaseWriter, sql: &str, params: Vec<Value>) -> Result<Vec<String>> {
    let mut twice = Vec::new();
    for _ in 0..2 {
        let found = db.query_cached(sql, params.clone()).await?;
        twice.push(found.rows().iter().map(line).collect::<Result<String>>()?);
    }
    match twice[0] == twice[1] {
        true => Ok(vec![twice.swap_remove(0)]),
        false => Ok(twice),
    }
}
