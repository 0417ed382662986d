// The page of two gradients. A tensor with one column lies as a row.

const data = JSON.parse(document.getElementById("data").textContent);
const sides = [...data.sides, `${data.sides[0]} less ${data.sides[1]}`];
const [UNIT, CHARACTER] = ["unit", "character"];
const AXES = { wax: [UNIT, CHARACTER], waa: [UNIT, UNIT], wya: [CHARACTER, UNIT],
  b: ["", UNIT], by: ["", CHARACTER], a0: ["name", UNIT] };

/** What the rows and the columns of a tensor or of a reader's array are. */
const axes_of = (name) =>
  AXES[name.replace(/^d|_clipped$/g, "").toLowerCase()] ?? ["row", "column"];

/** The name of a row or column. */
function label(axis, index) {
  const character = axis === CHARACTER ? data.characters[index] : undefined;
  return character === undefined ? `${index}` : character_label(character);
}

/** Whether each row or column has a label, and not only some: those of characters, unless many. */
const is_labelled = (axis, count) =>
  axis === CHARACTER && data.characters.length > 0 && count <= 300;
/** The height of labels and the width of those of columns, in rem. They can lie in two rows. */
const HIGH = 1.1;
const width_of = (axis, count) => (is_labelled(axis, count) ? 0.9 : 0.5 * `${count}`.length + 0.4);
/** The least width of a map, in rem. */
const least_width = (axis, count) =>
  3 + Math.max(14, is_labelled(axis, count) ? (count * width_of(axis, count)) / 2 : 0);

/** A heat map of f32 in base64, times `scale`, with the worst entries marked. */
function tensor_map(figure, caption, { name, rows, columns, worst }, text, scale) {
  const bytes = Uint8Array.from(atob(text), (byte) => byte.charCodeAt(0));
  const row = (_, i) => new Float32Array(bytes.buffer, 4 * i * columns, columns);
  const all = Array.from({ length: rows }, row);
  const [row_axis, column_axis] = axes_of(name);
  const height = Math.max(Math.min(1.2, 30 / rows), is_labelled(row_axis, rows) ? HIGH / 2 : 0);
  const least = least_width(column_axis, columns);
  const { root, width, rem, line } = drawing(figure, caption, rows * height + 5.8, least);
  const [left, top, step] = [3 * rem, 2.2 * rem, height * rem];
  const cell = (width - left) / columns;
  const map = (y, height, rows, columns, place) => {
    svg(root, "rect", { class: "paper", x: left, y, width: width - left, height });
    cells(root, rows, columns, [left, y, ...place], ["minus", "plus"], 1);
  };
  map(top, rows * step, all, columns, [cell, step, step.toFixed(2)]);
  const put = (x, y, anchor, text) => svg(root, "text", { x, y, "text-anchor": anchor }, text);
  // In two rows, in turn, where one has not room enough. The first is the end of a name, a long word.
  const places = (count, room, size) => {
    const every = Math.ceil((room * rem) / 2 / size - 1e-6);
    const rows = room * rem > every * size + 1e-6 ? 2 : 1;
    return Array.from({ length: Math.ceil(count / every) }, (_, k) => [k * every, k % rows]);
  };
  for (const [i, row] of row_axis ? places(rows, HIGH, step) : []) {
    const y = top + (i + 0.5) * step + 0.28 * rem;
    put(left - (0.4 + 1.2 * row) * rem, y, "end", label(row_axis, i));
  }
  for (const [j, row] of places(columns, width_of(column_axis, columns), cell)) {
    const [x, anchor] = j ? [left + (j + 0.5) * cell, "middle"] : [left + cell, "end"];
    put(x, (1.8 - 0.9 * row) * rem, anchor, label(column_axis, j));
  }
  for (const [i, j] of worst.filter(([i, j]) => i < rows && j < columns)) {
    const [width, height] = [cell, step].map((size) => Math.max(size, 0.4 * rem));
    const [x, y] = [left + (j + 0.5) * cell - width / 2, top + (i + 0.5) * step - height / 2];
    svg(root, "rect", { class: "worst", x, y, width, height });
  }
  const foot = top + rows * step + 0.8 * rem;
  const steps = Array.from({ length: 25 }, (_, i) => (scale ? i / 12 - 1 : 0));
  map(foot, rem, [steps], 25, [(width - left) / 25, rem, rem]);
  const ends = scale ? [[0, "start"], [0.5, "middle"], [1, "end"]] : [[0.5, "middle"]];
  for (const [part, anchor] of ends) {
    put(left + part * (width - left), foot + 2 * rem, anchor, short((2 * part - 1) * scale));
  }
  root.onpointermove = ({ clientX, clientY }) => {
    const corner = root.getBoundingClientRect();
    const i = Math.floor((clientY - corner.top - top) / step);
    const j = Math.floor((clientX - corner.left - left) / cell);
    const value = all[i]?.[j] * (scale || 1);
    const names = [label(row_axis, i), label(column_axis, j)].slice(row_axis ? 0 : 1);
    const where = names.map((name) => `\u2068${name}\u2069`).join(", ");
    if (all[i]?.[j] !== undefined) line.textContent = `${where}: ${or_not(value, short)}`;
  };
}

/** A number as text; JSON has null for one that is not finite. */
const or_not = (x, format) => (Number.isFinite(x) ? format(x) : "not finite");

for (const tensor of data.tensors) {
  const { name, shape, rows, columns, agree, worst } = tensor;
  const [error, bound] = [tensor.relative_error, tensor.bound].map((x) => or_not(x, short));
  const cut = rows * columns < shape.reduce((a, b) => a * b, 1);
  const about = [shape.join(" x "), cut && `the first ${rows * columns} entries are drawn`,
    `relative error ${error}, ${agree ? "within" : "beyond"} its bound of ${bound}`];
  const figures = sides.map((side, k) => html("figure", { id: `${name}-${k}` }));
  const maps = html("div", { className: "maps" }, ...figures);
  maps.style.setProperty("--map", `${least_width(axes_of(name)[1], columns)}rem`);
  const head = [...axes_of(name), ...sides];
  const texts = ([i, j, ...values]) => [head[0] && label(head[0], i), label(head[1], j),
    ...values.map((value) => or_not(value, (x) => x.toExponential(3)))];
  document.getElementById("tensors").append(html("section", {}, html("h2", {}, name),
    html("p", {}, about.filter(Boolean).join("; ")), maps,
    html("p", {}, worst.length ? "The largest differences:" : "No entry differs."),
    html("div", { className: "scroll" },
      worst.length ? fill_table(html("table", {}), head, worst.map(texts)) : "")));
  figures.forEach((figure, k) =>
    tensor_map(figure, `${name}: ${sides[k]}`, tensor, tensor.values[k], tensor.scales[k]));
}
document.getElementById("title").textContent = data.title;
