// The network: the notebook in scalar loops, with the names of src/reference.rs. Shapes: wax
// (n_a, n_x), waa (n_a, n_a), wya (n_x, n_a), b and a (n_a), by (n_x), row by row. An input is the
// index of a character, or null for the zero vector.

/** The numbers of a text in base64: little-endian floats, or other numbers of this array type. */
const numbers = (base64, Type) =>
  new Type(Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0)).buffer);

/** The parameters of the page's data. */
function parameters_of({ dtype, parameters }) {
  const p = { ...parameters };
  for (const name in p) p[name] = numbers(p[name], dtype === "f64" ? Float64Array : Float32Array);
  return { ...p, n_a: p.b.length, n_x: p.by.length };
}

/** The parameters with waa multiplied by a number. */
const scaled = (parameters, scale) =>
  ({ ...parameters, waa: Float64Array.from(parameters.waa, (w) => scale * w) });

/** Probabilities: exp((z - max z) / temperature) over their sum; at temperature 0 the largest. */
function softmax(z, temperature = 1) {
  const max = z.reduce((one, other) => Math.max(one, other));
  const at = z.indexOf(max);
  if (temperature === 0) return new Float64Array(z.length).fill(1, at, at + 1);
  const e = z.map((z) => Math.exp((z - max) / temperature));
  const sum = sum_of(e);
  return e.map((e) => e / sum);
}

/** One time step: the new state, and the logits of the next character. */
function rnn_step_forward({ wax, waa, wya, b, by, n_a, n_x }, a_prev, x) {
  const a = new Float64Array(n_a);
  for (let i = 0; i < n_a; i++) {
    let sum = b[i] + (x === null ? 0 : wax[i * n_x + x]);
    for (let j = 0, w = i * n_a; j < n_a; j++) sum += waa[w + j] * a_prev[j]; // (1)
    a[i] = Math.tanh(sum); // (2)
  }
  const z = new Float64Array(n_x);
  for (let k = 0; k < n_x; k++) {
    let sum = by[k];
    for (let i = 0, w = k * n_a; i < n_a; i++) sum += wya[w + i] * a[i]; // (3)
    z[k] = sum;
  }
  return { a, z };
}

/** All steps of a name and its end, from the zero state: y_hat (T, n_x), and a (T + 1, n_a). */
function rnn_forward(parameters, name) {
  const cache = { y_hat: [], a: [new Float64Array(parameters.n_a)] };
  for (const x of [null, ...name]) {
    const { a, z } = rnn_step_forward(parameters, cache.a.at(-1), x);
    cache.a.push(a);
    cache.y_hat.push(softmax(z));
  }
  return cache;
}

const sum_of = (numbers) => numbers.reduce((sum, n) => sum + n, 0);

/** The log-probability of each character of a name. */
const log_probabilities = ({ y_hat }, name) => name.map((y, t) => Math.log(y_hat[t][y]));

/** Back from ln y_hat[t][y], by the equations of src/train/bptt.rs: its gradients by the state and
    by the input of each step up to t, da (t + 1, n_a) and dx (t + 1, n_x). */
function rnn_backward({ wax, waa, wya, n_a, n_x }, cache, t, y) {
  const gradients = { da: [], dx: [] };
  const dz = cache.y_hat[t].map((p, k) => (k === y ? 1 : 0) - p); // (5), of the negative loss
  let da = transposed_times(wya, dz, n_a); // (7)
  for (let step = t; step >= 0; step--) {
    const a = cache.a[step + 1];
    gradients.da[step] = da;
    const dpre = da.map((da, i) => (1 - a[i] * a[i]) * da); // (9)
    gradients.dx[step] = transposed_times(wax, dpre, n_x);
    da = transposed_times(waa, dpre, n_a); // (8)
  }
  return gradients;
}

/** The transpose of a matrix with so many columns, times a vector. */
function transposed_times(matrix, vector, columns) {
  const product = new Float64Array(columns);
  vector.forEach((v, i) => {
    for (let j = 0, w = i * columns; j < columns; j++) product[j] += matrix[w + j] * v;
  });
  return product;
}

/** The Euclidean norm. */
const norm = (vector) => Math.sqrt(sum_of(vector.map((v) => v * v)));

/** A name: the prefix, then character by character until index 0, the end, or the maximum length.
    `uniform` gives the numbers in [0, 1) that choose them. */
function sample(parameters, { prefix, temperature, max_length }, uniform) {
  const indices = [...prefix];
  let { a, z } = rnn_step_forward(parameters, new Float64Array(parameters.n_a), null);
  for (const x of prefix) ({ a, z } = rnn_step_forward(parameters, a, x));
  while (true) {
    // The first index whose cumulative probability exceeds the number.
    const y_hat = softmax(z, temperature);
    let [total, u, cumulative] = [sum_of(y_hat), uniform(), 0];
    const chosen = y_hat.findIndex((p) => (cumulative += p) / total > u);
    const index = chosen < 0 ? y_hat.length - 1 : chosen;
    if (index === 0) return { indices, ended: true };
    indices.push(index);
    if (indices.length >= max_length) return { indices, ended: false };
    ({ a, z } = rnn_step_forward(parameters, a, index));
  }
}
