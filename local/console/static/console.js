// The console page: polls two JSON views and streams chat answers. No framework, no build.
const COLOURS = ["#2f855a", "#d69e2e", "#3182ce", "#c53030", "#805ad5", "#319795"];
const OVERVIEW_MS = 2000, DASHBOARDS_MS = 10000;
const $ = (id) => document.getElementById(id);
let access = null;

function element(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "circle"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function pill(status) {
  const bad = /FAIL|ROLLBACK|ALARM|does not|TIMED|ABORT/i.test(status);
  const waiting = /ing$|PROGRESS|RUNNING|INSUFFICIENT|never/i.test(status) && !bad;
  return element("span", { class: `pill${bad ? " bad" : waiting ? " waiting" : ""}` }, status);
}

function drawEndpoint(endpoint) {
  if (!endpoint) return $("endpoint").replaceChildren("nothing is deployed yet: run make up");
  const total = endpoint.variants.reduce((sum, v) => sum + (v.weight || 0), 0) || 1;
  const share = element("div", { class: "share", role: "img", "aria-label": "traffic by variant" });
  const rows = endpoint.variants.map((v) => {
    const percent = `${Math.round((100 * (v.weight || 0)) / total)} %`;
    const bar = element("i");
    bar.style.width = percent.replace(" ", "");
    share.append(bar);
    return element("tr", {}, ...[v.name, percent, `${v.instances} of ${v.desired}`].map((t) => element("td", {}, t)));
  });
  const head = element("tr", {}, ...["variant", "traffic", "instances"].map((t) => element("th", {}, t)));
  $("endpoint").className = "";
  $("endpoint").replaceChildren(
    element("p", { class: "quiet" }, `${endpoint.name} `, pill(endpoint.status)), share,
    element("table", {}, head, ...rows), endpoint.reason ? element("p", { class: "quiet" }, endpoint.reason) : "");
}

function drawRelease(release) {
  if (!release) return $("release").replaceChildren("the refresh loop is not deployed");
  const states = element("ol", { class: "states" }, ...release.states.map((s) => element("li", {}, s.name)));
  const name = release.name ? `${release.name} ` : "";
  $("release").replaceChildren(element("span", {}, name), pill(release.status), states);
}

function drawStacks(stacks) {
  $("stacks").replaceChildren(...stacks.map((s) => element("li", {}, element("span", {}, s.name), pill(s.status))));
}

function drawChart(widget) {
  const [w, h, left, bottom] = [420, 150, 40, 18];
  const points = widget.lines.flatMap((line) => line.points);
  if (!points.length) return element("p", { class: "quiet" }, widget.error || "no data in the last half hour");
  const times = points.map((p) => p[0]);
  const [from, to] = [Math.min(...times), Math.max(...times, Math.min(...times) + 60)];
  const values = [...points.map((p) => p[1]), ...widget.marks.map((mark) => mark.value), 0];
  const [low, high] = [Math.min(...values), Math.max(...values) || (Math.min(...values) ? 0 : 1)];
  const x = (t) => left + ((t - from) / (to - from)) * (w - left - 8);
  const y = (v) => h - bottom - ((v - low) / (high - low)) * (h - bottom - 14);
  const svg = element("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": widget.title });
  for (const part of [0, 0.5, 1]) {
    const value = low + (high - low) * part;
    svg.append(element("line", { x1: left, x2: w, y1: y(value), y2: y(value), stroke: "var(--line)" }),
      element("text", { x: left - 5, y: y(value) + 3, "text-anchor": "end" }, short(value)));
  }
  const clock = (t) => new Date(t * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  svg.append(element("text", { x: left, y: h - 4 }, clock(from)),
    element("text", { x: w - 4, y: h - 4, "text-anchor": "end" }, clock(to)));
  for (const mark of widget.marks) {
    svg.append(element("line", { x1: left, x2: w, y1: y(mark.value), y2: y(mark.value), class: "mark" }),
      element("text", { x: w - 4, y: y(mark.value) + 10, "text-anchor": "end" }, mark.label));
  }
  widget.lines.forEach((line, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const path = line.points.map(([t, v], k) => `${k ? "L" : "M"}${x(t).toFixed(1)},${y(v).toFixed(1)}`).join("");
    svg.append(element("path", { d: path, fill: "none", stroke: colour, "stroke-width": 1.8 }));
    if (line.points.length) {
      const [t, v] = line.points.at(-1);
      svg.append(element("circle", { cx: x(t), cy: y(v), r: 2.5, fill: colour }));
    }
  });
  return svg;
}

function short(value) {
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (value >= 1e3) return `${+(value / 1e3).toPrecision(3)}k`;
  return String(+value.toPrecision(3));
}

function drawWidget(widget) {
  const box = element("article", { class: "widget" });
  box.style.gridColumn = `span ${widget.width}`;
  if (widget.kind === "text") {
    box.append(element("p", { class: "quiet" }, widget.markdown.replace(/[#*`]/g, "").trim()));
    return box;
  }
  box.append(element("h3", {}, widget.title));
  if (widget.kind === "alarm") {
    box.append(element("ul", { class: "plain" },
      ...widget.alarms.map((a) => element("li", {}, element("span", {}, a.name), pill(a.state)))));
    return box;
  }
  box.append(drawChart(widget));
  box.append(element("div", { class: "legend" }, ...widget.lines.map((line, i) => {
    const mark = element("i");
    mark.style.background = COLOURS[i % COLOURS.length];
    return element("span", {}, mark, line.label);
  })));
  return box;
}

function drawDashboards(boards) {
  $("dashboards").replaceChildren(...boards.map((board) =>
    element("section", { class: "board" }, element("h2", {}, board.name), ...board.widgets.map(drawWidget))));
}

async function poll(name, draw, every) {
  try {
    const reply = await fetch(name);
    if (!reply.ok) throw new Error(`${name}: ${reply.status}`);
    draw(await reply.json());
  } catch (problem) {
    $("where").textContent = `the laptop cloud does not answer (${problem.message})`;
  }
  setTimeout(() => poll(name, draw, every), every);
}

function drawOverview(view) {
  access = view.access.api_url ? view.access : null;
  $("where").textContent = access ? access.api_url : "run make up";
  drawEndpoint(view.endpoint);
  drawRelease(view.release);
  drawStacks(view.stacks);
}

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let buffer = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const lines = buffer.split("\n\n");
    buffer = lines.pop();
    for (const line of lines) if (line.startsWith("data: {")) yield JSON.parse(line.slice(6));
  }
}

function say(kind, text) {
  const line = element("p", { class: kind }, text);
  $("answers").append(line);
  $("answers").scrollTop = $("answers").scrollHeight;
  return line;
}

async function ask(prompt) {
  const headers = { Authorization: `Bearer ${access.api_key}`, "Content-Type": "application/json" };
  const models = await (await fetch(`${access.api_url}/models`, { headers })).json();
  const body = { model: models.data[0].id, stream: true, max_tokens: 256, messages: [{ role: "user", content: prompt }] };
  const reply = await fetch(`${access.api_url}/chat/completions`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!reply.ok) throw new Error((await reply.json()).error.message);
  const line = say("model", "");
  for await (const event of events(reply)) {
    if (event.error) throw new Error(event.error.message);
    line.textContent += event.choices.map((c) => c.delta.content || "").join("");
    $("answers").scrollTop = $("answers").scrollHeight;
  }
}

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const prompt = $("prompt").value.trim(), button = event.target.querySelector("button");
  if (!prompt || !access) return;
  $("prompt").value = "";
  button.disabled = true;
  say("you", prompt);
  try { await ask(prompt); } catch (problem) { say("error", problem.message); }
  button.disabled = false;
});

poll("overview.json", drawOverview, OVERVIEW_MS);
poll("dashboards.json", drawDashboards, DASHBOARDS_MS);
