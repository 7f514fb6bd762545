//! What the types refuse: each case is a misuse that some pool lets through, and it must not compile, for the reason and at the
//! place that it states, as rustc's own tests do: `//~ E0382` behind the line.
//!
//! Compiled by rustc against the library that this very test was built with, so nothing is built again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Deserializer, Value};

/// An error: its line and its code.
type Place = (u64, String);

/// Compiled crates that the cases use, as arguments of rustc.
struct Built(Vec<OsString>);

impl Built {
    /// Asks cargo, which finds everything built: the test that asks was.
    fn find() -> Self {
        let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let profile = deps.parent().unwrap().file_name().unwrap().to_owned();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--no-run", "--quiet", "--test", "package", "--message-format", "json-render-diagnostics"]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.arg("--target-dir").arg(Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap());
        cargo.arg("--profile").arg(if profile == "debug" { "test".into() } else { profile });
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let mut dependencies = OsString::from("dependency=");
        dependencies.push(&deps);
        let mut arguments = vec!["-L".into(), dependencies];
        let messages: Vec<Value> = Deserializer::from_slice(&output.stdout).into_iter().map(Result::unwrap).collect();
        for name in ["poolproof", "slab", "turso"] {
            let is_library =
                |message: &&Value| message["target"]["name"] == name && message["target"]["kind"][0] == "lib";
            let library = messages.iter().find(is_library).unwrap_or_else(|| panic!("{name} was not built"));
            let is_rlib = |file: &&str| file.ends_with(".rlib");
            let files = library["filenames"].as_array().unwrap().iter().filter_map(Value::as_str);
            let file = files.into_iter().find(is_rlib).unwrap();
            arguments.extend(["--extern".into(), format!("{name}={file}").into()]);
        }
        Self(arguments)
    }

    /// Compiles a program as far as its errors: its own by their lines, those of other files by line 0.
    fn errors(&self, program: &Path) -> BTreeSet<Place> {
        let output = tempfile::tempdir().unwrap();
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--edition", "2024", "--crate-type", "bin", "--emit", "metadata", "--error-format", "json"]);
        rustc.args(&self.0).arg("--out-dir").arg(output.path()).arg(program);
        let output = rustc.output().unwrap();
        let messages = Deserializer::from_slice(&output.stderr).into_iter().map(Result::<Value, _>::unwrap);
        let errors = messages.filter(|message| message["level"] == "error");
        let place = |error: Value| {
            let spans = error["spans"].as_array()?;
            let span = spans.iter().find(|span| span["is_primary"] == true)?;
            let code = error["code"]["code"].as_str().map_or_else(|| error["message"].to_string(), str::to_owned);
            match span["file_name"].as_str().is_some_and(|file| Path::new(file) == program) {
                true => Some((span["line_start"].as_u64()?, code)),
                false => Some((0, format!("{code} in {}", span["file_name"]))),
            }
        };
        let errors: BTreeSet<_> = errors.filter_map(place).collect();
        assert_eq!(output.status.success(), errors.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        errors
    }

    /// What a program states is what it is refused for, and it states something.
    fn judge(&self, program: &Path) -> Result<(), String> {
        let (stated, errors) = (stated(&fs::read_to_string(program).unwrap()), self.errors(program));
        match stated == errors && !stated.is_empty() {
            true => Ok(()),
            false => Err(format!("{}: states {stated:?}, but is refused for {errors:?}", program.display())),
        }
    }
}

fn stated(source: &str) -> BTreeSet<Place> {
    let lines = (1..).zip(source.lines());
    lines.filter_map(|(line, text)| Some((line, text.split_once("//~ ")?.1.trim().to_owned()))).collect()
}

#[test]
fn misuse_does_not_compile() {
    let built = Built::find();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/package/compile_fail");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    let wrong: Vec<_> = cases.iter().filter_map(|case| built.judge(case).err()).collect();
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(cases.len(), 6, "a case is added or lost");
}

#[test]
fn a_case_that_fails_for_another_reason_elsewhere_or_not_at_all_is_told_apart() {
    let built = Built::find();
    let folder = tempfile::tempdir().unwrap();
    let judge = |line: &str| {
        let program = folder.path().join("case.rs");
        let source = format!(
            "fn main() {{}}\nfn two(guard: poolproof::PooledConnection) -> [poolproof::PooledConnection; 2] {{\n{line}\n}}\n"
        );
        fs::write(&program, source).unwrap();
        built.judge(&program).map_err(|wrong| wrong.rsplit_once("case.rs: ").unwrap().1.to_owned())
    };
    let no_clone = r#"{(3, "E0599")}"#;
    assert_eq!(judge("[guard.clone(), guard] //~ E0599"), Ok(()));
    let told = judge("[guard.clone(), guard] //~ E0382");
    assert_eq!(told, Err(format!(r#"states {{(3, "E0382")}}, but is refused for {no_clone}"#)), "another code");
    let told = judge("\n[guard.clone(), guard]\n//~ E0599");
    assert_eq!(told, Err(r#"states {(5, "E0599")}, but is refused for {(4, "E0599")}"#.to_owned()), "another line");
    let told = judge("[guard.clone(), guard]");
    assert_eq!(told, Err(format!("states {{}}, but is refused for {no_clone}")), "nothing stated");
    let told = judge("loop { drop(&guard) } //~ E0599");
    assert_eq!(told, Err(format!("states {no_clone}, but is refused for {{}}")), "it compiles");
}
