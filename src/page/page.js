// The page: what it shows, and what its controls do.

const at = (id) => document.getElementById(id);
const model = model_of(JSON.parse(at("data").textContent));
const controls = at("controls");
const number = (n) => n.toLocaleString("en");
const count_of = (n, what) => `${number(n)} ${what}${n === 1 ? "" : "s"}`;
const isolated = (text) => `\u2068${text}\u2069`; // keeps the direction of the text around it

/** The name in "Letter by letter" as indices, and the place of the letter that is explained. */
const current = { indices: [], place: 0 };

function start() {
  const { run, parameters, vocabulary, title } = model;
  at("title").textContent = document.title = title;
  const size = `${count_of(parameters.n_a, "hidden unit")} and ${vocabulary.length - 1} characters`;
  const trained = run ? `, trained on ${count_of(run.names, "name")}` : "";
  at("summary").textContent = `A recurrent network of ${size}${trained}.`;
  for (const b of document.querySelectorAll("nav button")) b.onclick = () => at(b.value).focus();
  controls.elements.new.closest("label").hidden = at("run").hidden = !run;
  at("no-run").hidden = !!run;
  addEventListener("hashchange", read_address);
  controls.oninput = make_names;
  controls.onsubmit = (event) => {
    event.preventDefault();
    controls.elements.seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
    make_names();
  };
  const copied = async () => navigator.clipboard.writeText(names_text());
  const say = (text) => () => (at("names-status").textContent = text);
  at("copy").onclick = () => copied().then(say("Copied"), say("Not allowed here: download them"));
  at("download").onclick = () => save_file(`${title}-names.txt`, names_text(), "text/plain");
  at("name").oninput = () => read_name(false);
  at("scale").oninput = draw_memory;
  read_address();
  show_name(at("names").querySelector("li")?.textContent ?? "");
  draw_run();
  const redraw = () => (draw_letters(), draw_run());
  let timer;
  onresize = () => (clearTimeout(timer), (timer = setTimeout(redraw, 200)));
}

// Names.
/** The controls that differ from their first values, and the seed, as in the address. */
function settings() {
  const is_set = ({ type, name, value, checked, defaultValue }) =>
    type === "checkbox" ? checked : name === "seed" || value !== defaultValue;
  const inputs = [...controls.querySelectorAll("input")].filter(is_set);
  return new URLSearchParams(inputs.map(({ name, value }) => [name, value])).toString();
}

/** Sets the controls to what the address says. */
function read_address() {
  const address = new URLSearchParams(location.hash.slice(1));
  if (address.toString() === settings() && at("names").firstChild) return;
  for (const input of controls.querySelectorAll("input")) {
    input.checked = address.has(input.name);
    if (input.type !== "checkbox") input.value = address.get(input.name) ?? input.defaultValue;
  }
  make_names();
}

/** What the controls say, as options of sampling; throws a sentence where that cannot be. */
function options() {
  const elements = controls.elements;
  const [count, temperature] = [elements.n, elements.temperature].map((e) => Number(e.value));
  const [seed, max_length] = [elements.seed.value.trim(), model.max_length];
  if (!(Number.isInteger(count) && count > 0 && count <= 10_000)) {
    throw "The number of names is from 1 to 10,000.";
  }
  if (!/^\d{1,20}$/.test(seed) || BigInt(seed) >> 64n) {
    throw "The seed is a whole number from 0 to 18446744073709551615.";
  }
  const prefix = encode_prefix(elements.prefix.value, model);
  if (prefix.length >= max_length) throw `A name has at most ${max_length} characters.`;
  const only_new = elements.new.checked;
  return { seed: BigInt(seed), count, temperature, max_length, prefix, only_new };
}

/** Makes the names, in slices of time, so that the page answers meanwhile. */
function make_names() {
  const [list, status] = [at("names"), at("names-status")];
  [list, status].forEach(({ timer }) => clearTimeout(timer));
  list.replaceChildren();
  at("temperature-value").textContent = Number(controls.elements.temperature.value).toFixed(2);
  const chosen = or_say(status, options);
  if (!chosen) return;
  // Browsers allow few changes a second, and a slider makes many.
  status.timer = setTimeout(() => history.replaceState(null, "", `#${settings()}`), 300);
  let [names, made, cut] = [sample_until(model, chosen), 0, 0];
  const slice = () => {
    for (const end = performance.now() + 200; performance.now() < end; made++) {
      const { value, done } = names.next();
      if (done) return say_outcome();
      if (!value) continue;
      cut += !value.ended;
      const onclick = () => (show_name(value.name), at("part-letters").focus());
      const button = html("button", { type: "button", dir: "auto", onclick }, value.name);
      list.append(html("li", {}, button));
    }
    status.textContent = `${number(list.childElementCount)} of ${count_of(chosen.count, "name")}`;
    list.timer = setTimeout(slice);
  };
  const say_outcome = () => {
    const found = list.childElementCount;
    const reason = chosen.only_new ? "empty, cut off or in the list" : "empty";
    const parts = [(found < chosen.count ? "Only " : "") + count_of(found, "name")];
    if (made > found) parts.push(`${number(made - found)} left out: ${reason}`);
    if (cut) parts.push(`${number(cut)} cut off at ${model.max_length} characters`);
    status.textContent = parts.join("; ");
  };
  slice();
}

/** What `read` gives, or nothing, and the sentence that it throws in `status`. */
function or_say(status, read) {
  try {
    return read();
  } catch (problem) {
    if (typeof problem !== "string") throw problem;
    status.textContent = problem;
  }
}

const names_text = () =>
  Array.from(at("names").children, (item) => `${item.textContent}\n`).join("");

// Letter by letter.
const label = (index) => character_label(model.vocabulary[index]);

/** What the steps up to a place read, as labels. */
const steps = (place) => ["start", ...current.indices.slice(0, place).map(label)];
/** The characters before a place, in quotes. */
const before = (place) => `"${isolated(decode(current.indices.slice(0, place), model))}"`;

/** Shows a name and explains the most surprising letter of its second half. */
function show_name(name) {
  at("name").value = name;
  read_name(true);
}

/** Reads the name that was typed, and explains what comes after it, or that letter. */
function read_name(half) {
  const text = trimmed(cleaned(at("name").value, !!model.spelling)).slice(0, 1000);
  const indices = or_say(at("name-status"), () => encode(text, model));
  if (!indices) return;
  Object.assign(current, { indices, place: indices.length });
  if (half && indices.length) {
    const from = indices.length >> 1;
    const log_p = log_probabilities(rnn_forward(model.parameters, indices), indices);
    current.place = log_p.indexOf(Math.min(...log_p.slice(from)), from);
  }
  draw_letters();
}

function draw_letters() {
  const { indices, place } = current;
  const cache = rnn_forward(model.parameters, indices);
  const surprises = log_probabilities(cache, [...indices, 0]).map((log_p) => -log_p);
  const total = sum_of(surprises);
  const mean = (total / surprises.length).toFixed(2);
  at("name-status").textContent = `Log-probability ${(-total).toFixed(2)}. Below each letter is `
    + `its surprise, -ln p, in nats: ${mean} on average, with that of the end.`;
  for (const group of document.querySelectorAll(".letters")) {
    group.replaceChildren(...[...indices, 0].map((y, t) => {
      const button = html("button", { type: "button", ariaPressed: t === place }, label(y));
      button.append(html("small", {}, surprises[t].toFixed(1)));
      button.style.setProperty("--surprise", `${Math.min(40, 8 * surprises[t]).toFixed(0)}%`);
      button.onclick = () => {
        current.place = t;
        draw_letters();
        group.children[t].focus();
      };
      return button;
    }));
  }
  draw_predictions(cache.y_hat[place]);
  const units = Math.min(400, model.parameters.n_a);
  const some = units < model.parameters.n_a ? ` (the first ${units})` : "";
  const caption = `The hidden state after each letter. A column is a unit${some}: orange is 1, `
    + "blue -1. Point at one, or use the arrow keys";
  const rows = steps(indices.length).map((label, t) => ({ label, values: cache.a[t + 1] }));
  heat_map(at("states"), caption, rows, units);
  draw_memory();
}

/** The likeliest next characters, and the one that comes. */
function draw_predictions(y_hat) {
  const { indices, place } = current;
  const next = [...indices, 0][place];
  const listed = [...y_hat.keys()].sort((one, other) => y_hat[other] - y_hat[one]).slice(0, 12);
  if (!listed.includes(next)) listed.push(next);
  const append = (index) => {
    current.indices = [...indices.slice(0, place), ...(index ? [index] : [])];
    current.place = current.indices.length;
    at("name").value = shown(decode(current.indices, model), model.spelling);
    draw_letters();
    at("predictions").querySelector("[role=button]").focus();
  };
  const rows = listed.map((index) => ({
    label: label(index), values: [y_hat[index]], chosen: index === next,
    onclick: () => append(index), title: `${label(index)}: ${short(y_hat[index])}`,
  }));
  const caption = `The next character after ${before(place)}: probabilities. Click one to go on`;
  bar_chart(at("predictions"), caption, rows, { high: Math.max(y_hat[listed[0]], 1e-9) });
}

// How far it remembers.
function draw_memory() {
  const scale = Number(at("scale").value);
  at("scale-value").textContent = scale.toFixed(2);
  const { indices, place } = current;
  const target = [...indices, 0][place];
  const parameters = scaled(model.parameters, scale);
  const cache = rnn_forward(parameters, indices);
  const { da, dx } = rnn_backward(parameters, cache, place, target);
  const norms = (t) => [norm(da[t]), norm(dx[t])].map((x) => Math.min(x, 1e300) || 0);
  const rows = steps(place).map((label, t) => ({ label, values: norms(t) }));
  const all = rows.flatMap(({ values }) => values).filter((x) => x > 1e-12);
  const low = 10 ** Math.floor(Math.log10(Math.min(0.01, ...all)));
  const high = 10 ** Math.ceil(Math.log10(Math.max(10, ...all)));
  const p = short(cache.y_hat[place][target]);
  const what = `ln p(${isolated(label(target))} after ${before(place)}), where p is ${p}`;
  const caption = `The gradient of ${what}: its norm by the state and by the input of each step`;
  bar_chart(at("memory"), caption, rows, { low, high, names: ["by state", "by input"] });
}

// The run.
function draw_run() {
  const { run } = model;
  if (!run) return;
  const losses = [{ name: "single iterations", points: run.each, dots: true },
    { name: "smoothed", points: run.smoothed }, { name: "held out", points: run.held_out }];
  line_chart(at("loss"), "Loss, in nats a name", losses.filter(({ points }) => points.length));
  const gradients = (part) => ["wax", "waa", "wya", "b", "by"].map((name, k) =>
    ({ name, points: run.gradients.map((point) => [point[0], part(point)[k]]) }));
  line_chart(at("norms"), "Norms of the gradients, before clipping", gradients((p) => p[1]), true);
  const percent = ([, , clipped]) => clipped.map((share) => 100 * share);
  const is_clipped = run.gradients.some((point) => percent(point).some((share) => share > 0));
  if (is_clipped) line_chart(at("clipped"), "Clipped entries, in percent", gradients(percent));
  else at("clipped").replaceChildren("No entry of the recorded gradients was clipped.");
  const spelled = (names) => names.map((name) => shown(name, model.spelling)).join(", ");
  fill_table(at("samples"), ["after iteration", "names"],
    run.samples.map(([iteration, names]) => [number(iteration), spelled(names)]));
  const facts = [["names in the list", number(run.names)], ["smoothed loss", run.loss],
    ["this network is of iteration", number(run.iteration)], ["written by", run.program]];
  const changes = run.changes.map(([iteration, field, from, to]) =>
    [`${field} from iteration ${number(iteration)} on`, `${to}, before ${from}`]);
  fill_table(at("settings"), ["setting", "value"], [...facts, ...run.settings, ...changes]);
}

start();
