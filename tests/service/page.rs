//! The service's page in headless Chromium, by WebDriver (<https://www.w3.org/TR/webdriver2/>): a run is started by a click,
//! watched until it is complete, and the browser has nothing to complain about. Skipped where there is no chromedriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use poolproof::harness::http::HttpClient;
use serde_json::{Value, json};

use crate::common::alone;
use crate::common::running::{MARK, Running, command_line, marked};
use crate::common::served::Served;

/// A browser ends with the value, also where a panic drops it.
struct Browser {
    // Killed after the session is deleted: a driver that is killed leaves its browsers running.
    _driver: Running,
    client: HttpClient,
    address: SocketAddr,
    session: String,
}

impl Browser {
    /// `None` where there is no chromedriver.
    async fn start() -> Option<Self> {
        Command::new("chromedriver").arg("--version").stdout(Stdio::null()).status().ok()?;
        let mut command = Command::new("chromedriver");
        let mut driver = Running::start(command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()));
        let lines = BufReader::new(driver.stdout.take()?).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let port = line.strip_prefix("ChromeDriver was started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        })?;
        let client = HttpClient::default();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--window-size=1200,1400",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
        let made = client.send(Method::POST, &format!("http://{address}/session"), Some(&wanted)).await.unwrap();
        let made: Value = made.json().unwrap();
        let session = made["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        Some(Self { _driver: driver, client, address, session })
    }

    fn url(&self, command: &str) -> String {
        format!("http://{}/session/{}/{command}", self.address, self.session)
    }

    async fn post(&self, command: &str, body: Value) -> Value {
        let answer = self.client.send(Method::POST, &self.url(command), Some(&body)).await.unwrap();
        answer.json::<Value>().unwrap()["value"].take()
    }

    async fn script(&self, script: &str) -> Value {
        self.post("execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Until the script returns true.
    async fn wait(&self, script: &str) {
        let began = Instant::now();
        while self.script(script).await != json!(true) {
            let page = self.script("return document.body.innerText").await;
            assert!(began.elapsed() < Duration::from_secs(30), "{script} is not so: {page}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Browser {
    /// Blocks until the driver has ended the browser, or for a few seconds.
    fn drop(&mut self) {
        let limit = Duration::from_secs(10);
        let Ok(mut driver) = TcpStream::connect_timeout(&self.address, limit) else { return };
        let _ = driver.set_read_timeout(Some(limit));
        let _ = write!(
            driver,
            "DELETE /session/{} HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\n\r\n",
            self.session, self.address
        );
        // The first byte of the answer comes when the browser is gone.
        let _ = driver.read(&mut [0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_started_by_a_click_is_watched_to_its_end() {
    let Some(browser) = Browser::start().await else {
        eprintln!("skipped: no chromedriver here; ci/page installs it where it may");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    // Markup in a benchmark's words must be shown, and not be obeyed.
    let hostile = "name: \"<img src=x onerror=document.title='owned'>\"\nprompt: \"<script>document.title='owned'</script>\"\n\
                   steps:\n  - say: \"<b id=injected>bold</b>\"\n    call: look\n    take_ms: 30\n    times: 20\n";
    std::fs::write(folder.path().join("hostile.yml"), hostile).unwrap();
    let served = Served::start(&folder.path().join("runs.db"), &["--benchmarks", folder.path().to_str().unwrap()]);
    browser.post("url", json!({ "url": served.base.replace("/api/v1", "/") })).await;

    browser.wait("return document.querySelectorAll('[data-run]').length === 1").await;
    browser.script("document.querySelector('[data-run]').click()").await;
    browser.wait("return document.getElementById('log-state').textContent.startsWith('running')").await;
    browser.wait("return document.querySelectorAll('#log li').length > 0").await;
    browser.wait("return document.getElementById('log-state').textContent.startsWith('succeeded')").await;
    let shown = browser.script("return document.querySelectorAll('#log li').length").await;
    assert_eq!(shown, json!(20));
    browser.wait("return document.getElementById('tree').textContent.includes('look(')").await;
    browser.wait("return document.querySelectorAll('#performance rect').length === 1").await;
    browser.wait("return document.getElementById('gauges').textContent.includes('Writes committed')").await;
    if let Ok(file) = std::env::var("SCREENSHOT") {
        let picture = browser.client.get(&browser.url("screenshot")).await.unwrap();
        // In base64.
        std::fs::write(file, picture.json::<Value>().unwrap()["value"].as_str().unwrap()).unwrap();
    }

    let state = "return [document.title, document.getElementById('injected'), document.getElementById('error').hidden]";
    assert_eq!(browser.script(state).await, json!(["poolproof", null, true]));
    let complaints = browser.post("se/log", json!({ "type": "browser" })).await;
    assert_eq!(complaints, json!([]), "the browser complains");

    // The control: what this test looks for is seen when it happens.
    browser.script("console.error('a complaint')").await;
    let complaints = browser.post("se/log", json!({ "type": "browser" })).await;
    assert!(complaints.to_string().contains("a complaint"), "{complaints}");
    drop(served);
    browser.wait("return !document.getElementById('error').hidden").await;
}

/// Where a body says what ran before it failed: for each process its number and its command line.
const RAN: &str = "ran";

/// Its test runs it in a process of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test of what is left"]
async fn fails_with_a_browser_and_a_service() {
    let folder = alone::place();
    let served = Served::start(&folder.join("runs.db"), &[]);
    let browser = Browser::start().await.unwrap();
    browser.post("url", json!({ "url": served.base.replace("/api/v1", "/") })).await;
    let running = marked(&std::env::var(MARK).unwrap());
    std::fs::write(folder.join(RAN), serde_json::to_string(&running).unwrap()).unwrap();
    panic!("as it was told");
}

/// Those that run still, once those that are ending have ended.
fn left(ran: &[(u32, String)]) -> Vec<&str> {
    let began = Instant::now();
    loop {
        let left = ran.iter().filter(|(number, line)| !line.is_empty() && command_line(*number) == *line);
        let left: Vec<_> = left.map(|(_, line)| line.as_str()).collect();
        if left.is_empty() || began.elapsed() > Duration::from_secs(5) {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_runs_any_more_when_a_test_that_failed_has_ended() {
    if Command::new("chromedriver").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: no chromedriver here; ci/page installs it where it may");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mark = format!("page-{}", std::process::id());
    let mut body = alone::body("page::fails_with_a_browser_and_a_service", folder.path());
    let output = body.env(MARK, &mark).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("as it was told"), "{told}");
    let ran = std::fs::read(folder.path().join(RAN)).unwrap();
    let ran: Vec<(u32, String)> = serde_json::from_slice(&ran).unwrap();
    for part in [" serve ", "chromedriver", "--type=renderer"] {
        assert!(ran.iter().any(|(_, line)| line.contains(part)), "{part}: {ran:?}");
    }
    assert_eq!(left(&ran), Vec::<&str>::new());
    assert_eq!(marked(&mark), []);

    // The control: what is left is seen.
    let mut command = Command::new("sleep");
    let sleeper = Running::start(command.arg("60").env(MARK, &mark));
    // A process that was started just now has no command line yet.
    let began = Instant::now();
    let ran = loop {
        let ran = marked(&mark);
        if ran.iter().any(|(_, line)| !line.is_empty()) || began.elapsed() > Duration::from_secs(5) {
            break ran;
        }
    };
    assert_eq!(left(&ran), ["sleep 60 "]);
    drop(sleeper);
    assert_eq!(left(&ran), Vec::<&str>::new());
}
