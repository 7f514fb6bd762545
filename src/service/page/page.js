// What the page does: it asks every half second, and shows whatever it is told as text, never as markup.
"use strict";

const API = "/api/v1";
const EVERY_MS = 500;
const latencies = [];
let names = new Map();
let chosen = null;

const at = (id) => document.getElementById(id);

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text ?? "";
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

async function ask(path, options) {
  const began = performance.now();
  const response = await fetch(path, options);
  const type = response.headers.get("content-type") ?? "";
  const body = type.includes("json") ? await response.json() : await response.text();
  latencies.push(performance.now() - began);
  if (latencies.length > 200) latencies.shift();
  if (!response.ok) throw new Error(body.detail ?? `${path}: ${response.status}`);
  return body;
}

function tell(error) {
  at("error").hidden = !error;
  at("error").textContent = error ? error.message : "";
}

async function start(benchmark) {
  const body = JSON.stringify({ agent: at("agent").value });
  const headers = { "content-type": "application/json" };
  try {
    const said = await ask(`${API}/benchmarks/${encodeURIComponent(benchmark)}/run`, { method: "POST", headers, body });
    chosen = { id: said.execution_id, benchmark, agent: at("agent").value };
    await refresh();
  } catch (error) {
    tell(error);
  }
}

function showBenchmarks(all) {
  names = new Map(all.map((benchmark) => [benchmark.id, benchmark.name]));
  at("benchmarks").replaceChildren(...all.map((benchmark) => {
    const line = element("li");
    const button = element("button", "Run", { "data-run": benchmark.name });
    button.addEventListener("click", () => start(benchmark.id));
    line.append(button, element("strong", benchmark.name), element("small", benchmark.prompt));
    return line;
  }));
}

function word(run) {
  if (run.state !== "completed") return run.state;
  return run.succeeded ? "succeeded" : "failed";
}

function showRuns(runs) {
  at("runs").replaceChildren(...runs.map((run) => {
    const line = element("tr", "", { "data-execution": run.execution_id });
    const name = element("td");
    const button = element("button", names.get(run.benchmark_id) ?? run.benchmark_id);
    button.addEventListener("click", () => {
      chosen = { id: run.execution_id, benchmark: run.benchmark_id, agent: run.agent };
      refresh();
    });
    name.append(button);
    const score = run.score === undefined || run.score === null ? "" : run.score.toFixed(2);
    const began = new Date(run.started_ms).toLocaleTimeString();
    line.append(name, element("td", run.agent), element("td", word(run), { class: word(run) }), element("td", score), element("td", began));
    return line;
  }));
}

function quantile(part) {
  const sorted = [...latencies].sort((a, b) => a - b);
  return sorted.length ? `${sorted[Math.floor((sorted.length - 1) * part)].toFixed(1)} ms` : "-";
}

function showHealth(health) {
  at("health").textContent = health.warning ? `${health.status}: ${health.warning}` : health.status;
  const { pool, lane } = health;
  const shown = [
    ["Runs going on", health.running],
    ["Connections", `${pool.in_use} in use, ${pool.idle} idle, ${pool.open} open of ${pool.max}`],
    ["Waiting for one", pool.waiting],
    ["Writes queued", lane.queued],
    ["Writes committed", `${lane.committed} in ${lane.commits} commits, at most ${lane.largest_batch} in one`],
    ["Rolled back, unknown", `${lane.rolled_back}, ${lane.unknown}`],
    ["Log", `${lane.wal_pages} pages`],
    ["Answers (p50, p99)", `${quantile(0.5)}, ${quantile(0.99)}`],
  ];
  at("gauges").replaceChildren(...shown.flatMap(([name, value]) => [element("dt", name), element("dd", String(value))]));
}

function showPerformance(report) {
  const NS = "http://www.w3.org/2000/svg";
  const draw = (name, attributes, text = "") => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  };
  const drawn = report.summary.flatMap((agent, index) => {
    const y = index * 24;
    const said = `${agent.agent}: ${agent.mean_score.toFixed(2)} in ${agent.runs} ${agent.runs === 1 ? "run" : "runs"}, ${agent.mean_duration_ms.toFixed(0)} ms each`;
    return [
      draw("rect", { x: 0, y: y + 15, height: 5, width: `${Math.max(agent.mean_score, 0.005) * 100}%` }),
      draw("text", { x: 0, y: y + 12 }, said),
    ];
  });
  at("performance").setAttribute("height", Math.max(report.summary.length * 24, 1));
  at("performance").replaceChildren(...drawn);
}

async function showLog() {
  if (!chosen) return;
  const { id, benchmark, agent } = chosen;
  const [one, two, three] = [benchmark, agent, id].map(encodeURIComponent);
  const [status, log, tree] = await Promise.all([
    ask(`${API}/benchmarks/${one}/status/${three}`),
    ask(`${API}/flow-logs/${one}?execution=${three}`),
    ask(`${API}/ascii-tree/${one}/${two}?execution=${three}`),
  ]);
  const mark = status.state === "running" ? ", and goes on" : "";
  at("log-state").textContent = `${word(status)}: ${status.log_chunks} parts, ${status.tool_calls} calls${mark}`;
  at("log-state").className = word(status);
  const list = at("log");
  const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 4;
  list.replaceChildren(...log.chunks.map((chunk) => element("li", chunk.content)));
  if (isAtEnd) list.scrollTop = list.scrollHeight;
  at("tree").textContent = tree;
}

async function refresh() {
  try {
    const [all, runs, report, health] = await Promise.all([
      names.size ? null : ask(`${API}/benchmarks`),
      ask(`${API}/sessions?limit=10`),
      ask(`${API}/agent-performance?limit=1`),
      ask("/health"),
    ]);
    if (all) showBenchmarks(all);
    showRuns(runs);
    showPerformance(report);
    showHealth(health);
    await showLog();
    tell(null);
  } catch (error) {
    tell(error);
  }
}

async function forever() {
  await refresh();
  setTimeout(forever, EVERY_MS);
}

forever();
