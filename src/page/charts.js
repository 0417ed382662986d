// Charts as SVG: bars, lines and a heat map, with a caption, a line for values, a table where these
// are not written out, and a button that saves the drawing. Sizes are in rem: they follow the text.

/** An element of HTML with these properties and children, which can be texts. */
function html(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** An element of SVG in another, with a text. */
function svg(parent, tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  element.textContent = text;
  return parent.appendChild(element);
}

/** A number for people: three digits. */
function short(x) {
  const is_plain = x === 0 || (Math.abs(x) >= 1e-3 && Math.abs(x) < 1e5);
  return is_plain ? `${Number(x.toPrecision(3))}` : x.toExponential(1).replace(/(\.0)?e\+?/, "e");
}

/** At most eight round numbers between two; on a logarithmic scale powers of ten. */
function ticks(low, high, log) {
  const [from, to] = log ? [Math.log10(low), Math.log10(high)] : [low, high];
  const power = log ? 1 : 10 ** Math.floor(Math.log10((to - from) / 5));
  const step = power * [1, 2, 5, 10, 20, 50, 100].find((n) => n * power * 7 >= to - from);
  const [first, last] = [Math.ceil(from / step - 1e-9), Math.floor(to / step + 1e-9)];
  const all = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
  return log ? all.map((e) => 10 ** e) : all;
}

/** A character as a label. */
function character_label(c) {
  if (c === "\n") return "end";
  if (/\p{M}/u.test(c)) return `\u25cc${c}`;
  if (c === " ") return "\u2423";
  return /[\p{C}\p{Z}]/u.test(c) ? `U+${c.codePointAt(0).toString(16).toUpperCase()}` : c;
}

/** Empties a figure and adds the caption, a drawing as wide as the figure and at least `columns`
    wide, and what is below it. */
function drawing(figure, caption, rows, columns = 16) {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const [width, height] = [Math.max(figure.clientWidth, columns * rem), rows * rem];
  figure.replaceChildren(html("figcaption", {}, caption));
  const size = { width, height, viewBox: `0 0 ${width} ${height}`, "font-size": 0.8 * rem };
  const root = svg(figure, "svg", { ...size, role: "group", "aria-label": caption });
  const [line, onclick] = [html("output", {}), () => save_svg(root, `${figure.id}.svg`)];
  const save = { type: "button", onclick, ariaLabel: `Save as SVG: ${caption}` };
  figure.append(html("div", { className: "tools" }, line, html("button", save, "Save as SVG")));
  return { root, width, height, rem, line };
}

/** Saves a drawing as a file that needs no style sheet. */
function save_svg(root, name) {
  const copy = root.cloneNode(true);
  const [originals, copies] = [root, copy].map((all) => [all, ...all.querySelectorAll("*")]);
  for (const property of "fill fill-opacity stroke stroke-width font-family font-size".split(" ")) {
    const value = (element) => getComputedStyle(element).getPropertyValue(property);
    copies.forEach((copy, i) => copy.setAttribute(property, value(originals[i])));
  }
  const fill = getComputedStyle(document.documentElement).backgroundColor;
  copy.prepend(svg(copy, "rect", { width: "100%", height: "100%", fill }));
  save_file(name, new XMLSerializer().serializeToString(copy), "image/svg+xml");
}

function save_file(name, text, type) {
  const href = URL.createObjectURL(new Blob([text], { type }));
  html("a", { download: name, href }).click();
  setTimeout(() => URL.revokeObjectURL(href), 1000);
}

/** Fills a table. */
function fill_table(table, head, rows) {
  const cell = (tag) => (text) => html(tag, { dir: "auto" }, String(text));
  const row = (tag, texts) => html("tr", {}, ...texts.map(cell(tag)));
  const body = html("tbody", {}, ...rows.map((texts) => row("td", texts)));
  table.replaceChildren(html("thead", {}, row("th", head)), body);
  return table;
}

/** A table below a drawing, closed at first. */
function table_below(figure, head, rows) {
  const table = html("div", { className: "scroll" }, fill_table(html("table", {}), head, rows));
  const ontoggle = ({ target }) => (figure.is_open = target.open); // for the next drawing
  const state = { open: !!figure.is_open, ontoggle };
  figure.append(html("details", state, html("summary", {}, "As a table"), table));
}

/** The names of series, side by side, each with its colour. */
function legend({ root, rem }, names, x) {
  names.forEach((name, k) => {
    svg(root, "rect", { class: `f${k}`, x, y: 0.3 * rem, width: 0.6 * rem, height: 0.6 * rem });
    const text = svg(root, "text", { x: x + rem, y: 0.85 * rem }, name);
    x += text.getComputedTextLength() + 2.2 * rem;
  });
}

/** Rows of bars up to `high`. A row has a label, values, and perhaps a title and onclick; a row
    that is `chosen` is marked. With names of the values the scale is logarithmic, from `low` on. */
function bar_chart(figure, caption, rows, { low, high, names }) {
  const [step, top] = names ? [2.2, 2.6] : [1.4, 0];
  const chart = drawing(figure, caption, top + rows.length * step + 0.2);
  const { root, width, height, rem } = chart;
  const [left, right] = [4 * rem, width - 4 * rem];
  const part = (x) => (names ? Math.log(Math.max(x, low) / low) / Math.log(high / low) : x / high);
  const place = (x) => left + part(x) * (right - left);
  for (const tick of names ? ticks(low, high, true) : []) {
    const x = place(tick);
    svg(root, "line", { class: "grid", x1: x, x2: x, y1: 2.3 * rem, y2: height });
    svg(root, "text", { class: "quiet", x, y: 2 * rem, "text-anchor": "middle" }, short(tick));
  }
  legend(chart, names ?? [], left);
  rows.forEach(({ label, values, chosen, title, onclick }, i) => {
    const y = (top + i * step) * rem;
    const button = onclick ? { role: "button", tabindex: 0, "aria-label": title } : {};
    const group = svg(root, "g", { class: chosen ? "chosen" : "", ...button });
    svg(group, "rect", { class: "hit", x: 0, y, width, height: step * rem, rx: 4 });
    const end = { x: left - 0.6 * rem, y: y + (step / 2 + 0.28) * rem, "text-anchor": "end" };
    svg(group, "text", end, label);
    values.forEach((value, k) => {
      const bar = { y: y + (0.3 + 0.85 * k) * rem, width: place(value) - left, height: 0.75 * rem };
      svg(group, "rect", { class: `f${k}`, x: left, rx: 2, ...bar });
      const end = { x: place(value) + 0.4 * rem, y: bar.y + 0.65 * rem };
      svg(group, "text", { class: "quiet", ...end }, short(value));
    });
    group.onclick = onclick;
    group.onkeydown = (event) =>
      onclick && ["Enter", " "].includes(event.key) && onclick(event.preventDefault());
  });
  const numbers = ({ label, values }) => [label, ...values.map((value) => value.toExponential(3))];
  if (names) table_below(figure, ["step", ...names], rows.map(numbers));
}

/** Lines over the iterations, or dots: each has a name and points, [iteration, value]. */
function line_chart(figure, caption, series, log) {
  const chart = drawing(figure, caption, 17);
  const { root, width, height, rem, line } = chart;
  series = series.map((s) => ({ ...s, points: s.points.filter(([, y]) => !log || y > 0) }));
  const points = series.flatMap((s) => s.points);
  const [xs, ys] = [0, 1].map((k) => points.map((point) => point[k]));
  const [first, last] = [Math.min(...xs), Math.max(1, ...xs)];
  let [low, high] = [Math.min(...ys), Math.max(...ys)];
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - 1, high + 1];
  const [left, right, top, bottom] = [3.6 * rem, width - 0.8 * rem, 2 * rem, height - 1.6 * rem];
  const scale = log ? Math.log : (x) => x;
  const x_of = (x) => left + ((x - first) / (last - first)) * (right - left);
  const y_part = (y) => (scale(y) - scale(low)) / (scale(high) - scale(low));
  const y_of = (y) => bottom - y_part(y) * (bottom - top);
  for (const tick of ticks(low, high, log)) {
    const [y, x] = [y_of(tick), left - 0.5 * rem];
    svg(root, "line", { class: "grid", x1: left, x2: right, y1: y, y2: y });
    svg(root, "text", { class: "quiet", x, y: y + 0.28 * rem, "text-anchor": "end" }, short(tick));
  }
  for (const tick of ticks(first, last, false).filter(Number.isInteger)) {
    const foot = { class: "quiet", x: x_of(tick), y: height - 0.3 * rem, "text-anchor": "middle" };
    svg(root, "text", foot, tick.toLocaleString("en"));
  }
  legend(chart, series.map((s) => s.name), left);
  series.forEach(({ points, dots }, k) => {
    const places = points.map(([x, y]) => [x_of(x).toFixed(1), y_of(y).toFixed(1)]);
    if (!dots) svg(root, "polyline", { class: `line s${k}`, points: places.join(" ") });
    for (const [cx, cy] of dots || places.length === 1 ? places : []) {
      svg(root, "circle", { class: `dot f${k}`, cx, cy, r: 0.12 * rem });
    }
  });
  const marker = svg(root, "line", { class: "mark", y1: top, y2: bottom, visibility: "hidden" });
  root.onpointermove = (event) => {
    const from = root.getBoundingClientRect().left + left;
    const at = first + ((event.clientX - from) / (right - left)) * (last - first);
    const nearer = (one, other) => (Math.abs(other[0] - at) < Math.abs(one[0] - at) ? other : one);
    const values = series.map(({ name, points }) => `${name} ${short(points.reduce(nearer)[1])}`);
    const [iteration] = points.reduce(nearer);
    for (const end of ["x1", "x2"]) marker.setAttribute(end, x_of(iteration));
    marker.setAttribute("visibility", "visible");
    line.textContent = `Iteration ${iteration.toLocaleString("en")}: ${values.join(", ")}`;
  };
  const rows = new Map([...new Set(xs)].sort((a, b) => a - b).map((x) => [x, [x]]));
  series.forEach((s, k) => s.points.forEach(([x, y]) => (rows.get(x)[k + 1] = y)));
  const texts = [...rows.values()].map((row) => Array.from(row, (y) => y ?? ""));
  table_below(figure, ["iteration", ...series.map((s) => s.name)], texts);
}

/** Cells of values from -1 to 1, from left and top on, in rows of `step`. What is not finite is
    hatched. The colours have twelve levels: the least of what is not zero is `faintest`. */
function cells(root, rows, columns, [left, top, cell, step, height], classes, faintest) {
  const [paths, levels] = [{}, 12];
  const finite = Number.isFinite;
  rows.forEach((values, i) => {
    const y = (top + i * step).toFixed(2);
    for (let j = 0; j < columns; j++) {
      const value = values[j];
      const level = Math.sign(value) * Math.max(faintest, Math.round(Math.abs(value) * levels));
      if (level === 0) continue;
      const [x, w] = [left + j * cell, cell].map((n) => n.toFixed(2));
      const crossed = `l${w} ${height}m0-${height}l-${w} ${height}`;
      const shape = finite(level) ? `h${w}v${height}h-${w}z` : crossed;
      (paths[finite(level) ? level : NaN] ??= []).push(`M${x} ${y}${shape}`);
    }
  });
  for (const level in paths) {
    const colour = { class: classes[level > 0 ? 1 : 0], "fill-opacity": Math.abs(level) / levels };
    const look = finite(+level) ? colour : { class: "hatch" };
    svg(root, "path", { ...look, d: paths[level].join("") });
  }
}

/** Values from -1 to 1: a labelled row for each step, a column for each unit. The pointer or the
    arrow keys choose a unit, whose values stand below. */
function heat_map(figure, caption, rows, units) {
  const { root, width, height, rem, line } = drawing(figure, caption, 1.2 * rows.length + 1.6);
  const [left, row_height] = [4 * rem, 1.2 * rem];
  const cell = (width - left) / units;
  rows.forEach(({ label }, i) => {
    const end = { x: left - 0.6 * rem, y: (i + 0.8) * row_height, "text-anchor": "end" };
    svg(root, "text", end, label);
  });
  const all = rows.map(({ values }) => values);
  cells(root, all, units, [left, 0, cell, row_height, row_height - 1], ["cool", "warm"], 0);
  for (const [unit, x, end] of [[1, left, "start"], [units, width, "end"]]) {
    const foot = { class: "quiet", x, y: height - 0.3 * rem, "text-anchor": end };
    svg(root, "text", foot, `unit ${unit}`);
  }
  const column = { width: cell, height: rows.length * row_height };
  const marker = svg(root, "rect", { class: "mark", ...column });
  const pick = (unit) => {
    root.unit = Math.max(0, Math.min(units - 1, unit));
    marker.setAttribute("x", left + root.unit * cell);
    const value = ({ label, values }) => `\u2068${label}\u2069 ${values[root.unit].toFixed(2)}`;
    line.textContent = `Unit ${root.unit + 1}: ${rows.map(value).join(", ")}`;
  };
  pick(0);
  root.setAttribute("tabindex", 0);
  root.onpointermove = (event) =>
    pick(Math.floor((event.clientX - root.getBoundingClientRect().left - left) / cell));
  root.onkeydown = (event) =>
    pick(root.unit + ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0));
}
