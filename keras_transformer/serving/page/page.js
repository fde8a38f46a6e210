// The page of one model: a text goes in, its translation appears piece by piece, then come the
// n-best and what each piece attends to. What the model says is inserted as text, never as markup.

const SIDE = 80; // pieces a side that the heat map shows at once: 80 x 80 cells are drawn in a blink
const MEAN = "mean";

const at = (id) => document.getElementById(id);
const [form, text, stop, output] = ["form", "text", "stop", "output"].map(at);
const [layer, head, rows, columns] = ["layer", "head", "rows", "columns"].map(at);

let info = null; // what the server says about its model
let running = null; // stops the translation under way
let looking = null; // stops the question for attention under way
let map = null; // the attention that is shown

form.addEventListener("submit", (event) => {
  event.preventDefault();
  translate(text.value);
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
stop.addEventListener("click", () => running?.abort());
for (const select of [layer, head, rows, columns]) select.addEventListener("change", drawMap);

introduce().catch(complain);

// The model

async function introduce() {
  if (info) return;
  info = await (await ask("info")).json();
  document.title = at("name").textContent = info.name;
  const about = [info.description, `version ${info.version}`];
  at("about").textContent = about.filter(Boolean).join(" · ");
  at("limit").textContent = `at most ${info.limits.text_length.toLocaleString("en")} characters`;
}

const method = (name) => `v1/models/${encodeURIComponent(info.name)}:${name}`;

class Refused extends Error {
  constructor(status, message) {
    super(message || `The server answered with status ${status}.`);
    this.status = status;
  }
}

async function ask(path, question, signal) {
  const options = question && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(question),
    signal,
  };
  const response = await fetch(path, options).catch((problem) => {
    throw signal?.aborted ? problem : new Error("The server can’t be reached. Is it running?");
  });
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  throw new Refused(response.status, error);
}

// The translation

async function translate(source) {
  running?.abort();
  looking?.abort();
  const mine = (running = new AbortController());
  const began = performance.now();
  clear();
  stop.disabled = false;
  output.className = "growing";
  say("Translating…");
  try {
    const { hypotheses, truncated } = await stream(source, mine.signal);
    output.textContent = hypotheses[0].text;
    const seconds = ((performance.now() - began) / 1000).toFixed(2);
    const count = hypotheses.length === 1 ? "One hypothesis" : `${hypotheses.length} hypotheses`;
    const cut = "The text was longer than the model takes, so its end was cut off. ";
    // The text is heard once, here, and not with every piece.
    const heard = make("span", { className: "heard" }, `Translation: ${hypotheses[0].text} `);
    say(heard, truncated ? cut : "", `${count} in ${seconds} s.`);
    offerHypotheses(source, hypotheses);
  } catch (problem) {
    if (running !== mine) return; // another translation has begun
    if (mine.signal.aborted) return say("Stopped.");
    say();
    complain(problem);
  } finally {
    if (running === mine) rest();
  }
}

async function stream(source, signal) {
  await introduce();
  const limit = info.limits.text_length;
  if (!source.trim()) throw new Error("There is no text to translate.");
  if ([...source].length > limit) throw new Error(`The text is longer than ${limit} characters.`);
  const response = await ask(method("stream"), { text: source }, signal);
  for await (const [event, data] of events(response)) {
    if (event === "start" && data.draft) {
      output.classList.add("draft");
      say("A draft; the final translation may differ.");
    }
    if (event === "piece") output.append(data.text);
    if (event === "end") return data;
    if (event === "error") throw new Error(data.error);
  }
  signal.throwIfAborted();
  throw new Error("The server ended before the translation did.");
}

// Server-sent events; EventSource can't send a body.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let rest = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split(/\r?\n/);
        const field = (name) => lines.find((line) => line.startsWith(name))?.slice(name.length);
        const data = field("data:");
        if (data) yield [field("event:").trim(), JSON.parse(data)];
      }
    }
  } catch (problem) {
    if (problem.name === "AbortError" || problem instanceof SyntaxError) throw problem;
    throw new Error("The connection to the server broke off.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

function rest() {
  running = null;
  output.className = "";
  if (document.activeElement === stop) text.focus(); // a disabled button would lose the focus
  stop.disabled = true;
}

function offerHypotheses(source, hypotheses) {
  const choices = hypotheses.map(({ text, score }, i) => {
    const choice = make("input", { type: "radio", name: "hypothesis", checked: i === 0 });
    choice.addEventListener("change", () => look(source, text));
    return make(
      "label",
      {},
      choice,
      make("span", { className: "hypothesis", dir: "auto" }, text || "(no text)"),
      make("span", { className: "heard" }, " score "),
      make("span", { className: "score" }, number(score)),
    );
  });
  at("choices").replaceChildren(...choices);
  at("hypotheses").hidden = false;
  look(source, hypotheses[0].text);
}

// The attention

async function look(source, target) {
  looking?.abort();
  const mine = (looking = new AbortController());
  const note = at("attention-note");
  at("attention").hidden = false;
  note.textContent = map ? "" : "Asking for the attention…";
  try {
    const response = await ask(method("attention"), { text: source, target }, mine.signal);
    map = await response.json();
    note.textContent = "";
    offerMap();
  } catch (problem) {
    if (mine.signal.aborted) return;
    at("map").hidden = true;
    const none = problem.status === 400 || problem.status === 404;
    note.textContent = none ? "This model shows no attention." : "";
    if (!none) complain(problem);
  }
}

function offerMap() {
  const counted = (count) => Array.from({ length: count }, (_, i) => [i, i + 1]);
  offer(layer, counted(map.layers), map.layers - 1);
  offer(head, [[MEAN, "mean of all heads"], ...counted(map.heads)], 0);
  offer(rows, parts(map.target_pieces.length), 0);
  offer(columns, parts(map.source_pieces.length), 0);
  at("map").hidden = false;
  drawMap();
}

// Keeps what was chosen before, where there is such a choice.
function offer(select, choices, first) {
  const before = select.value;
  select.replaceChildren(...choices.map(([value, label]) => new Option(label, value)));
  select.value = before;
  if (select.selectedIndex < 0) select.selectedIndex = first;
  select.parentElement.hidden = choices.length === 1 && [rows, columns].includes(select);
}

function parts(length) {
  return Array.from({ length: Math.max(1, Math.ceil(length / SIDE)) }, (_, i) => {
    const start = i * SIDE;
    return [start, `${start + 1} to ${Math.min(start + SIDE, length)} of ${length}`];
  });
}

function drawMap() {
  const weights = chosenWeights();
  const largest = weights.reduce((most, row) => row.reduce((a, b) => Math.max(a, b), most), 0);
  const shown = (list, select) => list.slice(+select.value, +select.value + SIDE);
  const targets = shown(map.target_pieces, rows);
  const sources = shown(map.source_pieces, columns);
  const header = (scope, piece) => make("th", { scope, title: piece }, make("span", {}, piece));
  const cell = (weight) => {
    const td = make("td", {}, number(weight));
    td.style.setProperty("--weight", largest ? weight / largest : 0);
    return td;
  };
  const first = make("tr", {}, make("td"), ...sources.map((piece) => header("col", piece)));
  const others = shown(weights, rows).map((row, i) =>
    make("tr", {}, header("row", targets[i]), ...shown(row, columns).map(cell)),
  );
  at("weights").replaceChildren(
    make("thead", {}, first),
    make("tbody", {}, ...others),
  );
  at("largest").textContent = number(largest);
  at("caption").textContent = caption();
}

function chosenWeights() {
  const heads = map.weights[layer.value];
  if (head.value !== MEAN) return heads[head.value];
  const mean = (i, j) => heads.reduce((sum, weights) => sum + weights[i][j], 0) / heads.length;
  return heads[0].map((row, i) => row.map((_, j) => mean(i, j)));
}

function caption() {
  const chosen = (select) => select.selectedOptions[0].text;
  const which = head.value === MEAN ? chosen(head) : `head ${chosen(head)}`;
  const what = "How much of the attention of each output piece (row) goes to each source piece (column)";
  const large = rows.length > 1 || columns.length > 1;
  const cut = `Too large to be shown at once: output pieces ${chosen(rows)}, source pieces ${chosen(columns)}.`;
  return `${what}: layer ${chosen(layer)}, ${which}. ${large ? cut : ""}`;
}

// Words and elements

function clear() {
  map = null;
  output.textContent = at("error").textContent = "";
  at("hypotheses").hidden = at("attention").hidden = at("map").hidden = true;
  for (const select of [rows, columns]) select.replaceChildren();
}

function say(...words) {
  at("status").replaceChildren(...words);
}

function complain(problem) {
  at("error").textContent = problem.message;
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function number(value) {
  return value.toFixed(2).replace("-", "−");
}
