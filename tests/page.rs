//! The service's page in headless Chromium, by WebDriver (<https://www.w3.org/TR/webdriver2/>): a run is started by a click,
//! watched until it is complete, and the browser has nothing to complain about. Skipped where there is no chromedriver.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::served::Served;
use reqwest::Client;
use serde_json::{Value, json};

struct Browser {
    driver: Child,
    client: Client,
    session: String,
}

impl Browser {
    /// `None` where there is no chromedriver.
    async fn start() -> Option<Self> {
        let started = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = started.ok()?;
        let lines = BufReader::new(driver.stdout.take()?).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let port = line.strip_prefix("ChromeDriver was started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        })?;
        let client = Client::new();
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1400"];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let base = format!("http://127.0.0.1:{port}/session");
        let made: Value = client.post(&base).json(&wanted).send().await.unwrap().json().await.unwrap();
        let session = format!("{base}/{}", made["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("{made}")));
        Some(Self { driver, client, session })
    }

    async fn post(&self, command: &str, body: Value) -> Value {
        let response = self.client.post(format!("{}/{command}", self.session)).json(&body).send().await.unwrap();
        response.json::<Value>().await.unwrap()["value"].take()
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
    fn drop(&mut self) {
        let _ = self.driver.kill();
        let _ = self.driver.wait();
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
        let picture = browser.client.get(format!("{}/screenshot", browser.session)).send().await.unwrap();
        // In base64.
        std::fs::write(file, picture.json::<Value>().await.unwrap()["value"].as_str().unwrap()).unwrap();
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
